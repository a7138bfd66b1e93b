"""The node's policy behind the ext_proc service: streams that are held, and clients that go away at any moment."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ext_proc.processing.decision import Held, Pass
from ext_proc.server.processor import ExtProcService
from ext_proc.telemetry.metrics import Metrics
from ext_proc.telemetry.refusals import Refusals
from integration.virtual_time import VirtualLoop
from mesh.model_cache.books.names import Key
from mesh.model_cache.settings import CacheSettings
from tests.ext_proc.node.calls import HEAD, call, give_back, in_flight, policy_of
from tests.ext_proc.processing import envoy_says as envoy
from tests.mesh.model_cache.cache import Cache, make, play
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore


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
            policy = policy_of(cache)
            if how == "cancel":
                task = asyncio.create_task(policy.resolve(Held(HEAD, call(), ())))

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
                session = ExtProcService(policy, Metrics(), Refusals(), tasks, lambda: 0.0).open(stream)
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
            service = ExtProcService(policy_of(cache), Metrics(), Refusals(), tasks, lambda: 0.0)
            streams = [Stream(), Stream()]
            sessions = [service.open(stream) for stream in streams]
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
            session = ExtProcService(policy_of(cache), Metrics(), Refusals(), tasks, lambda: 0.0).open(stream)
            session.message(envoy.grpc("/inference.GRPCInferenceService/ModelInfer"))
            (reply,) = envoy.read(stream.sent)
            mode = reply.message.mode_override
            assert mode is not None
            assert (mode.response_header_mode.name, mode.response_trailer_mode.name) == ("SEND", "SEND")
            assert mode.request_body_mode.name == "FULL_DUPLEX_STREAMED"
            session.gone()

    play(tmp_path, scenario)
