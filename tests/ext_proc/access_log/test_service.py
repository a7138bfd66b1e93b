from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType

from ext_proc.access_log.entries import EndedCall
from ext_proc.access_log.service import AccessLogService
from ext_proc.telemetry.metrics import Metrics
from ext_proc.wire.call import Call
from tests.ext_proc.access_log.messages import entry, message


class Wire:
    """A stream that keeps what is sent on it."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.sent: list[bytes] = []
        self.status: tuple[int, str] | None = None

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def finish(self, code: int = 0, details: str = "") -> None:
        self.status = (code, details)


class Told:
    def __init__(self) -> None:
        self.calls: list[EndedCall] = []
        self.running: list[Call] = []
        self.open = 0

    def logs(self, count: int, now: float) -> None:
        self.open = count

    def ended(self, calls, now: float) -> None:
        assert now == 7.0
        self.calls += calls

    def running_calls(self, calls, now: float) -> None:
        assert now == 7.0
        self.running += calls


def serving() -> tuple[AccessLogService, Told, Metrics]:
    told, metrics = Told(), Metrics()
    return AccessLogService(told, metrics, lambda: 7.0), told, metrics


def test_each_message_of_a_log_is_taken() -> None:
    service, told, metrics = serving()
    wire = Wire()
    log = service.open(wire)
    log.message(message(entry(), entry(key="tbms-nodes")))
    log.message(message(entry(), name=None))
    assert [call.known for call in told.calls] == [True, False, True]
    assert metrics.by_outcome() == {"known": 2}, "the others were counted when they were routed"
    assert (service.streams, told.open, wire.sent, wire.status) == (1, 1, [], None)
    log.half_closed()
    assert told.open == 0
    assert (service.streams, wire.sent, wire.status) == (0, [b""], (0, ""))


def test_a_call_that_runs_is_not_counted() -> None:
    service, told, metrics = serving()
    service.open(Wire()).message(message(entry(kind=AccessLogType.DownstreamPeriodic), entry()))
    assert [call.model for call in told.running] == ["bert"]
    assert len(told.calls) == 1
    assert metrics.by_outcome() == {"known": 1}


def test_garbage_ends_its_own_log_and_names_the_fault() -> None:
    service, told, _ = serving()
    good, bad = Wire(), Wire()
    log, other = service.open(good), service.open(bad)
    log.message(message(entry()))
    other.message(b"\xff\xff")
    assert bad.status == (3, "a message is not a StreamAccessLogsMessage")
    log.message(message(entry(), name=None))
    assert (len(told.calls), good.status, service.streams) == (2, None, 1)


def test_a_log_of_another_name_is_refused_and_nothing_of_it_counts() -> None:
    service, told, _ = serving()
    wire = Wire()
    service.open(wire).message(message(entry(), name="others"))
    assert wire.status == (3, "the log has the name b'others', not 'tbms-calls'")
    assert told.calls == []


def test_a_drain_waits_for_no_log() -> None:
    service, _, _ = serving()
    before, after = Wire(), Wire()
    service.open(before)
    service.stop_serving()
    service.open(after)
    assert before.status == after.status == (14, "the server is shutting down")
    assert service.streams == 0


def test_a_log_that_is_lost_is_forgotten() -> None:
    service, told, _ = serving()
    service.open(Wire()).gone()
    assert service.streams == told.open == 0
