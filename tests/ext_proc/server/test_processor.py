"""The processor: what a stream's callbacks lead to, and that every call gives back what it held, once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Pass, Respond, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.server.processor import ExtProcService, ExtProcStream
from ext_proc.telemetry.metrics import Metrics
from ext_proc.telemetry.refusals import Refusals
from ext_proc.wire.call import Call
from tests.ext_proc.processing import envoy_says as envoy

PREDICT = "/v1/models/resnet:predict"
NODES = ("10.0.0.1:8501",)


class Stream:
    """A stream of a transport, seen from its session."""

    def __init__(self, metadata: Mapping[str, str] | None = None) -> None:
        self.metadata = metadata or {}
        self.sent: list[bytes] = []
        self.finished: list[tuple[int, str]] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def finish(self, code: int = 0, details: str = "") -> None:
        self.finished.append((code, details))

    @property
    def kinds(self) -> list[str]:
        return [reply.kind for reply in envoy.read(self.sent)]


class Ticket:
    """A lease, and how often it was given back."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


class Policy:
    """Decides as it is told."""

    body_limit = 1 << 20
    follows_replies = False

    def __init__(self, decision: Decision, resolve: Callable[[], Any] | None = None) -> None:
        self.decision = decision
        self._resolve = resolve

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        return self.decision

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        return None

    async def resolve(self, held: Held) -> Decision:
        assert self._resolve is not None
        outcome = await self._resolve()
        assert isinstance(outcome, Pass | Route | Respond)
        return outcome


@asynccontextmanager
async def serving(policy: Policy) -> AsyncIterator[ExtProcService]:
    async with asyncio.TaskGroup() as tasks:
        yield ExtProcService(policy, Metrics(), Refusals(), tasks, lambda: 0.0)


def talk(service: ExtProcService, stream: Stream, *messages: bytes) -> ExtProcStream:
    session = service.open(stream)
    for message in messages:
        session.message(message)
    return session


def counts(service: ExtProcService) -> dict[str, int]:
    return {outcome: count for (_, _, outcome), count in service.metrics.calls.items()}


async def test_a_plain_call_is_answered_within_the_callback() -> None:
    lease = Ticket()
    async with serving(Policy(Route(NODES, lease))) as service:
        session = talk(service, stream := Stream(), envoy.rest(PREDICT))
        assert stream.kinds == ["request_headers"]
        assert lease.released == 0
        session.half_closed()
        assert stream.finished == [(0, "")]
    assert lease.released == 1
    assert counts(service) == {"routed": 1}
    assert service.metrics.streams == 0


@pytest.mark.parametrize("end", ["half_closed", "gone"])
async def test_however_a_stream_ends_it_is_counted_once(end: str) -> None:
    lease = Ticket()
    async with serving(Policy(Route(NODES, lease))) as service:
        session = talk(service, Stream(), envoy.rest(PREDICT))
        getattr(session, end)()
        session.gone()
    assert counts(service) == {"routed": 1}
    assert lease.released == 1


async def test_a_held_call_passes_with_its_lease_when_it_is_decided() -> None:
    waiting: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
    lease = Ticket()
    async with serving(Policy(Hold(), lambda: waiting)) as service:
        session = talk(service, stream := Stream(), envoy.rest(PREDICT))
        await asyncio.sleep(0)
        assert stream.sent == []
        waiting.set_result(Pass(lease))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stream.kinds == ["request_headers"]
        assert lease.released == 0
        session.half_closed()
        assert lease.released == 1
    assert counts(service) == {"passed": 1}


@pytest.mark.parametrize("end", ["half_closed", "gone"])
@pytest.mark.parametrize("turns", range(4))
async def test_a_client_that_leaves_a_held_call_ends_its_task_at_every_await(end: str, turns: int) -> None:
    cancelled = asyncio.Event()

    async def resolve() -> Decision:
        try:
            for _ in range(10):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError("the call was not cancelled")

    async with serving(Policy(Hold(), resolve)) as service:
        session = talk(service, stream := Stream(), envoy.rest(PREDICT))
        for _ in range(turns):
            await asyncio.sleep(0)
        getattr(session, end)()
    assert stream.sent == []
    assert cancelled.is_set() == (turns > 0)  # a task that never began has nothing to give up
    assert counts(service) == {"cancelled": 1}


async def test_a_lease_that_comes_in_the_step_in_which_the_client_leaves_is_given_back() -> None:
    async def resolve() -> Decision:
        return Pass(lease)

    lease = Ticket()
    async with serving(Policy(Hold(), resolve)) as service:
        session = talk(service, Stream(), envoy.rest(PREDICT))
        await asyncio.sleep(0)
        session.gone()
    assert lease.released == 1


async def test_a_collected_call_is_answered() -> None:
    async def resolve() -> Decision:
        return Respond(200, (), b"[1]")

    async with serving(Policy(Hold(collect=True), resolve)) as service:
        talk(service, stream := Stream(), envoy.rest(PREDICT), envoy.body(b"{}", end=True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stream.kinds == ["override", "immediate_response"]
        assert stream.finished == [(0, "")]
    assert counts(service) == {"answered": 1}


async def test_an_error_of_the_resolver_is_the_clients_answer() -> None:
    async def resolve() -> Decision:
        raise CallError(Reason.NO_ROOM, "the model of 9 bytes is larger than the node of 3 bytes")

    async with serving(Policy(Hold(), resolve)) as service:
        talk(service, stream := Stream(), envoy.rest(PREDICT))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (reply,) = envoy.read(stream.sent)
        assert reply.message.immediate_response is not None
        assert b"larger than the node" in reply.message.immediate_response.body
    assert counts(service) == {"refused": 1}


async def test_a_mistake_of_ours_ends_its_own_stream_only(caplog: pytest.LogCaptureFixture) -> None:
    async def resolve() -> Decision:
        raise ZeroDivisionError

    async with serving(Policy(Hold(), resolve)) as service:
        talk(service, broken := Stream(), envoy.rest(PREDICT))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert broken.finished[0][0] == 13
        assert "secret" not in broken.finished[0][1]
        service.policy.decision = Route(NODES)  # type: ignore[attr-defined]
        talk(service, well := Stream(), envoy.rest(PREDICT))
        assert well.kinds == ["request_headers"]
    assert "stream failed" in caplog.text


async def test_what_is_no_message_ends_the_stream_with_invalid_argument() -> None:
    async with serving(Policy(Route(NODES))) as service:
        talk(service, stream := Stream(), b"\xff\xff")
    assert stream.finished[0][0] == 3


async def test_an_old_envoy_is_never_sent_an_override() -> None:
    async with serving(Policy(Hold(collect=True))) as service:
        talk(service, stream := Stream({":authority": "tbms-envoy-1.38"}), envoy.rest(PREDICT))
        assert stream.kinds == ["immediate_response"]


class Steps:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def shares(service: ExtProcService) -> dict[str, int]:
    decisions = service.metrics.decisions
    return {waited: count for waited in ("nothing", "body", "work") if (count := decisions.count((waited,)))}


async def test_our_share_of_a_call_is_from_its_first_message_to_its_decision() -> None:
    async with serving(Policy(Route(NODES))) as service:
        service.clock = Steps()
        session = talk(service, Stream(), envoy.rest(PREDICT))
        assert shares(service) == {"nothing": 1}
        assert service.clock() == 3.0, "the clock was read when the message came, and when it was decided"
        session.half_closed()
    assert shares(service) == {"nothing": 1}


async def test_our_share_of_a_call_that_was_held_is_told_apart() -> None:
    waiting: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

    async def resolve() -> Decision:
        return await waiting

    async with serving(Policy(Hold(), resolve)) as service:
        session = talk(service, Stream(), envoy.rest(PREDICT))
        await asyncio.sleep(0)
        assert shares(service) == {}
        waiting.set_result(Route(NODES))
        while not shares(service):
            await asyncio.sleep(0)
        assert shares(service) == {"work": 1}
        session.half_closed()


async def test_a_client_that_left_before_the_decision_has_no_share() -> None:
    waiting: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

    async def resolve() -> Decision:
        return await waiting

    async with serving(Policy(Hold(), resolve)) as service:
        session = talk(service, Stream(), envoy.rest(PREDICT))
        await asyncio.sleep(0)
        session.gone()
    assert shares(service) == {}
