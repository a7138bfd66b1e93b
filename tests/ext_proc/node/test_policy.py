"""The node's desk before a real model cache, in virtual time: what it passes, holds, refuses, and never forgets."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ext_proc.errors import CallError, Reason
from ext_proc.node.policy import NodePolicy
from ext_proc.node.refusals import refusal
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Pass
from ext_proc.processing.request import BodyMode, Head, ReplyPart, parse
from ext_proc.server.processor import ExtProcService
from ext_proc.telemetry.metrics import Metrics
from ext_proc.telemetry.refusals import Refusals
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.reply import error_reply
from integration.virtual_time import VirtualLoop
from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import BadName, Busy, CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.model_cache.loads.jobs import Lease
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores.store import StoreError
from tests.ext_proc.processing import envoy_says as envoy
from tests.mesh.model_cache.cache import Cache, make, play
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore

HOLD_SECONDS, POLL_SECONDS = 60.0, 600.0
HEAD = Head({":path": "/v2/models/m/infer"}, end_of_stream=False, mode=BodyMode.NONE)


def call(model: str = "m", verb: Verb = Verb.INFER, version: str | None = None, label: str | None = None) -> Call:
    return Call(InferenceProtocol.V2_REST, verb, model, version, label)


def desk_of(cache: Cache, hold_seconds: float = HOLD_SECONDS) -> NodePolicy:
    return NodePolicy(cache.manager, 1 << 20, hold_seconds)


async def outcome(desk: NodePolicy, asked: Call) -> Decision:
    """What becomes of a call, held or not."""
    decision = desk.decide(HEAD, asked, 0.0)
    return await desk.resolve(Held(HEAD, asked, b"")) if isinstance(decision, Hold) else decision


async def refused(desk: NodePolicy, asked: Call) -> CallError:
    with pytest.raises(CallError) as caught:
        await outcome(desk, asked)
    return caught.value


def give_back(decision: Pass) -> None:
    """The call is over."""
    assert decision.lease is not None
    decision.lease.release()


def leased(decision: Pass) -> Key:
    assert isinstance(decision.lease, Lease)
    return decision.lease.key


def in_flight(cache: Cache) -> int:
    return sum(model.in_flight for model in cache.manager.status().models)


# What passes at once.


def test_a_hit_asks_nobody(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            desk = desk_of(cache)
            first = await outcome(desk, call())
            asked = (cache.server.calls, cache.store.listed.total(), cache.store.fetched.total())
            hits = [desk.decide(HEAD, call(version=version), 0.0) for version in (None, "1", None)]
            assert (cache.server.calls, cache.store.listed.total(), cache.store.fetched.total()) == asked
            assert in_flight(cache) == 4
            for decision in (first, *hits):
                assert isinstance(decision, Pass)
                give_back(decision)
            assert in_flight(cache) == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize("verb", [Verb.STATUS, Verb.STATISTICS])
def test_questions_about_what_is_loaded_load_nothing(tmp_path: Path, verb: Verb) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            assert desk_of(cache).decide(HEAD, call(verb=verb), 0.0) == Pass()
            await asyncio.sleep(10)
            assert not cache.store.listed
            (await cache.manager.ensure("m")).release()
            assert desk_of(cache).decide(HEAD, call(verb=verb), 0.0) == Pass()

    play(tmp_path, scenario)


@pytest.mark.parametrize("verb", sorted(set(Verb) - {Verb.STATUS, Verb.STATISTICS}))
def test_every_other_call_brings_its_model(tmp_path: Path, verb: Verb) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            decision = await outcome(desk_of(cache), call(verb=verb))
            assert isinstance(decision, Pass)
            assert leased(decision) == Key("m", 1)
            assert cache.state("m") == "available"

    play(tmp_path, scenario)


# What is held.


def test_held_calls_share_one_fetch_and_one_load(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            desk = desk_of(cache)
            decisions = await asyncio.gather(*(outcome(desk, call()) for _ in range(200)))
            assert (cache.store.fetched, cache.server.loads) == ({Key("m", 1): 1}, [Key("m", 1)])
            assert in_flight(cache) == 200
            for decision in decisions:
                assert isinstance(decision, Pass)
                give_back(decision)
            assert in_flight(cache) == 0

    play(tmp_path, scenario)


def test_versions_and_labels(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for version in (1, 2, 3):
            cache.store.put("m", version)
        async with cache.running():
            desk = desk_of(cache)
            for asked, version in (
                (call(), 3),
                (call(version="1"), 1),
                (call(label="stable"), 2),
                (call(label="latest"), 3),
            ):
                decision = await outcome(desk, asked)
                assert isinstance(decision, Pass)
                assert leased(decision) == Key("m", version)
            assert (await refused(desk, call(version="4"))).reason is Reason.NOT_FOUND
            assert (await refused(desk, call(label="none such"))).reason is Reason.NOT_FOUND

    play(tmp_path, scenario, labels={"m": {"stable": 2}})


def test_a_model_that_takes_too_long_is_loaded_all_the_same(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.seconds = 20
        async with cache.running():
            desk = desk_of(cache, hold_seconds=5)
            error = await refused(desk, call())
            assert (error.reason, error.message) == (Reason.UNAVAILABLE, "Model 'm' is still being loaded.")
            assert asyncio.get_running_loop().time() == pytest.approx(1005)
            await asyncio.sleep(30)
            assert isinstance(desk.decide(HEAD, call(), 0.0), Pass)
            assert cache.store.fetched == {Key("m", 1): 1}
            assert in_flight(cache) == 1

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "headers", [{"tloc": "3000"}, {"grpc-timeout": "3S"}, {"x-envoy-expected-rq-timeout-ms": "3000"}]
)
def test_a_call_is_not_held_longer_than_its_caller_waits(tmp_path: Path, headers: dict[str, str]) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.seconds = 20
        async with cache.running():
            head = Head(headers, end_of_stream=False, mode=BodyMode.NONE)
            begun = asyncio.get_running_loop().time()
            with pytest.raises(CallError, match="not loaded within the call's limit of 3000 ms") as caught:
                await desk_of(cache, hold_seconds=5).resolve(Held(head, call(), b""))
            assert caught.value.reason is Reason.DEADLINE
            assert asyncio.get_running_loop().time() - begun == pytest.approx(3)
            await asyncio.sleep(30)
            assert cache.state("m") == "available"

    play(tmp_path, scenario)


# What is refused, and how that reads.

SECRET = "HTTP 403 from bucket models-prod, key AKIA"


@pytest.mark.parametrize(
    ("error", "reason", "retry_after"),
    [
        (BadName("A.", SECRET), Reason.INVALID, None),
        (ModelMissing("A.", SECRET), Reason.NOT_FOUND, None),
        (ModelBroken("A.", SECRET), Reason.BROKEN_MODEL, None),
        (StoreAway("A.", SECRET), Reason.UNAVAILABLE, None),
        (NoRoom("A.", SECRET), Reason.NO_ROOM, None),
        (Busy("A.", SECRET, 2.5), Reason.UNAVAILABLE, "3"),
        (CacheError("A.", SECRET), Reason.INTERNAL, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CacheError) else None,
)
@pytest.mark.parametrize("protocol", InferenceProtocol)
def test_clients_get_the_message_and_never_the_cause(
    error: CacheError, reason: Reason, retry_after: str | None, protocol: InferenceProtocol
) -> None:
    told = refusal(error)
    assert (told.reason, told.message) == (reason, "A.")
    assert told.elsewhere is isinstance(error, Busy)
    reply = error_reply(protocol, told)
    assert dict(reply.headers).get("retry-after") == retry_after
    assert SECRET.encode() not in reply.body


def test_a_missing_model(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            error = await refused(desk_of(cache), call())
            assert (error.reason, error.message) == (Reason.NOT_FOUND, "No store has a model 'm'.")

    play(tmp_path, scenario)


def test_a_name_that_no_store_allows(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            for verb in (Verb.INFER, Verb.READY):
                error = await refused(desk_of(cache), call("..", verb))
                assert error.reason is Reason.INVALID
            assert not cache.store.listed

    play(tmp_path, scenario)


def test_a_model_larger_than_the_node_tells_both_sizes(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", size=5000)
        async with cache.running():
            error = await refused(desk_of(cache), call())
            assert error.reason is Reason.NO_ROOM
            assert "takes 4.883 KiB of disk, and the node has 1000 bytes" in error.message

    play(tmp_path, scenario, capacity={"disk_bytes": 1000})


def test_a_store_that_refuses_us_is_not_the_clients_to_know(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.error = StoreError(SECRET)
        async with cache.running():
            error = await refused(desk_of(cache), call())
            assert error.reason is Reason.UNAVAILABLE
            assert SECRET not in error.message
            assert cache.manager.status().store == {"m": SECRET}

    play(tmp_path, scenario)


def test_a_model_that_does_not_load_is_told_in_the_servers_words(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.server.broken["m"] = "weights of another model"
        async with cache.running():
            desk = desk_of(cache)
            for _ in range(2):  # the second time out of quarantine
                error = await refused(desk, call())
                assert error.reason is Reason.BROKEN_MODEL
                assert "weights of another model" in error.message
            assert len(cache.server.loads) == 1

    play(tmp_path, scenario)


def test_a_node_without_room_says_when_to_come_back(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.put("other")
        async with cache.running():
            desk = desk_of(cache)
            kept = await outcome(desk, call("other"))
            assert isinstance(kept, Pass)
            error = await refused(desk, call())
            assert (error.reason, error.retry_after) == (Reason.UNAVAILABLE, 1.0)
            give_back(kept)
            assert isinstance(await outcome(desk, call()), Pass)

    play(tmp_path, scenario, capacity={"models": 1})


@pytest.mark.parametrize("why", ["broken", "missing", "too large", "store away"])
def test_readiness_of_a_model_that_cannot_be_had_is_the_servers_to_deny(tmp_path: Path, why: str) -> None:
    async def scenario(cache: Cache) -> None:
        if why != "missing":
            cache.store.put("m", size=10**6 if why == "too large" else 100)
        if why == "broken":
            cache.server.broken["m"] = "weights of another model"
        if why == "store away":
            cache.store.error = StoreError(SECRET)
        async with cache.running():
            assert await outcome(desk_of(cache), call(verb=Verb.READY)) == Pass()

    play(tmp_path, scenario, capacity={"disk_bytes": 1000})


# A client that goes away, at any moment of its wait.


class Steps(VirtualLoop):
    """Does something before one of its turns."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.at = -1
        self.act: Callable[[], object] = int
        select = self._jumping.select

        def counted(timeout: float | None = None) -> list[Any]:
            self.turn += 1
            if self.turn == self.at:
                self.act()
                timeout = 0
            return select(timeout)

        self._jumping.select = counted  # type: ignore[method-assign]


class Stream:
    """Envoy's side of one stream."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.sent: list[bytes] = []
        self.finished = False

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def finish(self, code: int = 0, details: str = "") -> None:
        self.finished = True


def leave_at(folder: Path, turn: int, how: str) -> tuple[bool, bool]:
    """A call for a cold model whose client goes away before a turn of the loop.

    Whether the call was still held then, and whether its model was on its way by then.
    """
    then: list[tuple[bool, bool]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Steps)
        store, server = MemoryStore(), MemoryServer()
        store.put("m")
        settings = CacheSettings.model_validate({"folder": folder, "min_age_seconds": 0, "memory_factor": 1.0})
        cache = make(settings, store, server)
        async with cache.running(), asyncio.TaskGroup() as tasks:
            await asyncio.sleep(1)
            desk = desk_of(cache)
            if how == "cancel":
                task = asyncio.create_task(desk.resolve(Held(HEAD, call(), b"")))

                def leave() -> None:
                    then.append((not task.done(), cache.state("m") != "absent"))
                    task.cancel()

                def given_up() -> None:
                    if task.done() and not task.cancelled():
                        decision = task.result()
                        assert isinstance(decision, Pass)
                        give_back(decision)
            else:
                stream = Stream()
                session = ExtProcService(desk, Metrics(), Refusals(), tasks, lambda: 0.0).open(stream)
                session.message(envoy.rest("/v2/models/m/infer"))

                def leave() -> None:
                    then.append((not stream.sent, cache.state("m") != "absent"))
                    (session.gone if how == "gone" else session.half_closed)()

                def given_up() -> None:
                    pass

            loop.at, loop.act = loop.turn + turn, leave
            await asyncio.sleep(100)
            given_up()
            assert in_flight(cache) == 0, f"a lease is lost when the client leaves at turn {turn}"
            _, on_its_way = then[0]
            if on_its_way:
                assert cache.state("m") == "available", "the load goes on without its caller"
                assert (store.fetched, server.loads) == ({Key("m", 1): 1}, [Key("m", 1)])
            assert cache.mistakes == []

    with asyncio.Runner(loop_factory=Steps) as runner:
        runner.run(main())
    return then[0]


@pytest.mark.parametrize("how", ["cancel", "gone", "half_closed"])
def test_a_client_that_leaves_stops_no_load_and_keeps_no_lease(tmp_path: Path, how: str) -> None:
    turn, held, steps_on_the_way = 0, True, 0
    while held:
        turn += 1
        held, on_its_way = leave_at(tmp_path / str(turn), turn, how)
        steps_on_the_way += held and on_its_way
    assert steps_on_the_way > 5, "of the load alone the wait has that many steps at least"


def test_a_call_that_was_held_is_in_flight_until_its_stream_ends(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running(), asyncio.TaskGroup() as tasks:
            pump = ExtProcService(desk_of(cache), Metrics(), Refusals(), tasks, lambda: 0.0)
            streams = [Stream(), Stream()]
            sessions = [pump.open(stream) for stream in streams]
            sessions[0].message(envoy.rest("/v2/models/m/infer"))
            assert not streams[0].sent
            await asyncio.sleep(10)
            sessions[1].message(envoy.rest("/v2/models/m/infer"))
            assert [len(stream.sent) for stream in streams] == [1, 1]
            for session in sessions:
                session.message(envoy.response_headers())
            assert in_flight(cache) == 2
            sessions[0].half_closed()
            assert in_flight(cache) == 1
            sessions[1].gone()
            assert in_flight(cache) == 0

    play(tmp_path, scenario)


def test_an_override_asks_for_the_reply_as_well(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running(), asyncio.TaskGroup() as tasks:
            stream = Stream()
            session = ExtProcService(desk_of(cache), Metrics(), Refusals(), tasks, lambda: 0.0).open(stream)
            session.message(envoy.grpc("/inference.GRPCInferenceService/ModelInfer"))
            (reply,) = envoy.read(stream.sent)
            mode = reply.message.mode_override
            assert mode is not None
            assert (mode.response_header_mode.name, mode.response_trailer_mode.name) == ("SEND", "SEND")
            assert mode.request_body_mode.name == "FULL_DUPLEX_STREAMED"
            session.gone()

    play(tmp_path, scenario)


# What replies tell.


def _reply(message: bytes) -> ReplyPart:
    return ReplyPart(parse(message))


def test_an_edge_that_asks_is_told_how_the_model_stands(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            desk = desk_of(cache)
            decision = await outcome(desk, call())
            assert isinstance(decision, Pass)
            asking = Head(dict(HEAD.headers) | {"x-tbms-residency": "?1"}, end_of_stream=False, mode=BodyMode.NONE)
            ok = _reply(envoy.response_headers())
            assert desk.replied(decision, HEAD, call(), ok, 0.0) is None
            assert desk.replied(decision, asking, call(), ok, 0.0) == HeaderMutation(
                headers=(("x-tbms-residency", "available"),)
            )
            assert desk.replied(Pass(), asking, call(), ok, 0.0) is None  # a question about the server's state
            assert (
                desk.replied(decision, asking, call(), _reply(envoy.response_headers(503)), 0.0) is None
            )  # it is in doubt
            cache.manager.node_report.leave()
            assert desk.replied(decision, asking, call(), ok, 0.0) == HeaderMutation(
                headers=(("x-tbms-residency", "available;leaving"),)
            )
            give_back(decision)

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("message", "suspicious"),
    [
        (envoy.response_headers(503), True),
        (envoy.response_headers(404), True),
        (envoy.response_headers(200, end=True, grpc_status="14"), True),
        (envoy.response_headers(200, end=True, grpc_status="5"), True),
        (envoy.response_trailers(grpc_status="14"), True),
        (envoy.response_headers(200), False),
        (envoy.response_headers(400), False),
        (envoy.response_headers(200, end=True, grpc_status="3"), False),
        (envoy.response_trailers(grpc_status="0"), False),
    ],
    ids=["503", "404", "UNAVAILABLE", "NOT_FOUND", "late UNAVAILABLE", "200", "400", "INVALID_ARGUMENT", "OK"],
)
def test_a_restarted_model_server_is_noticed_by_the_first_call_that_fails(
    tmp_path: Path, message: bytes, suspicious: bool
) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            desk = desk_of(cache)
            decision = await outcome(desk, call())
            assert isinstance(decision, Pass)
            cache.server.held_now.clear()  # restarted behind a proxy that keeps the connection
            desk.replied(decision, HEAD, call(), _reply(message), 0.0)
            give_back(decision)
            await asyncio.sleep(POLL_SECONDS / 2)
            assert (cache.server.loads == [Key("m", 1)] * 2) is suspicious

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


def test_a_server_that_is_busy_all_the_time_is_looked_at_no_more_often_than_any_other(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        looks: list[float] = []
        held, now = cache.server.held, asyncio.get_running_loop().time

        async def seen(known: Iterable[Key]) -> frozenset[Key]:
            looks.append(now())
            return await held(known)

        cache.server.held = seen  # type: ignore[method-assign]
        async with cache.running():
            await asyncio.sleep(1000)
            begun = now()
            looks.clear()
            for _ in range(6000):
                cache.manager.suspect_server()
                await asyncio.sleep(0.1)
        assert looks[0] - begun < 0.1
        pauses = [later - earlier for earlier, later in itertools.pairwise(looks)]
        assert pauses == pytest.approx([12, 24, 48] + [60] * len(pauses[3:]), abs=0.2)

    play(tmp_path, scenario, poll_seconds=60.0)
