import pytest
from grpc_health.v1 import health_pb2

from ext_proc.server.health import Health

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
Status = health_pb2.HealthCheckResponse


class Wire:
    """A stream that keeps what is sent on it."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.sent: list[int] = []
        self.status: tuple[int, str] | None = None

    def send(self, message: bytes) -> None:
        self.sent.append(Status.FromString(message).status)

    def finish(self, code: int = 0, details: str = "") -> None:
        self.status = (code, details)


def ask(health: Health, method: str, service: str) -> Wire:
    wire = Wire()
    session = health.sessions()[method](wire)
    session.message(health_pb2.HealthCheckRequest(service=service).SerializeToString())
    session.half_closed()
    return wire


@pytest.mark.parametrize("service", ["", "a.B"])
def test_check_says_whether_the_service_serves(service: str) -> None:
    health = Health(["a.B"])
    wire = ask(health, CHECK, service)
    assert (wire.sent, wire.status) == ([Status.SERVING], (0, ""))
    health.stop_serving()
    wire = ask(health, CHECK, service)
    assert (wire.sent, wire.status) == ([Status.NOT_SERVING], (0, ""))


def test_check_of_an_unknown_service_is_not_found() -> None:
    wire = ask(Health([]), CHECK, "no.Such")
    assert (wire.sent, wire.status) == ([], (5, "there is no service 'no.Such'"))


def test_watch_tells_the_change_and_lets_go() -> None:
    health = Health(["a.B"])
    wires = [ask(health, WATCH, service) for service in ("", "a.B", "no.Such")]
    assert [wire.sent for wire in wires] == [[Status.SERVING], [Status.SERVING], [Status.SERVICE_UNKNOWN]]
    assert [wire.status for wire in wires] == [None] * 3
    health.stop_serving()
    assert [wire.sent[1:] for wire in wires] == [[Status.NOT_SERVING], [Status.NOT_SERVING], []]
    assert [wire.status and wire.status[0] for wire in wires] == [14] * 3


def test_a_watch_that_begins_during_a_drain_ends_at_once() -> None:
    health = Health(["a.B"])
    health.stop_serving()
    wire = ask(health, WATCH, "a.B")
    assert (wire.sent, wire.status) == ([Status.NOT_SERVING], (14, "the server is shutting down"))


def test_who_went_away_is_not_told() -> None:
    health = Health([])
    wire = Wire()
    session = health.sessions()[WATCH](wire)
    session.message(b"")
    session.half_closed()
    session.gone()
    health.stop_serving()
    assert wire.sent == [Status.SERVING]


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"])
def test_what_is_no_request_is_invalid(message: bytes) -> None:
    wire = Wire()
    Health([]).sessions()[CHECK](wire).message(message)
    assert wire.status is not None
    assert wire.status[0] == 3


def test_no_request_at_all_is_invalid() -> None:
    wire = Wire()
    Health([]).sessions()[CHECK](wire).half_closed()
    assert wire.status == (3, "there is no request")
