"""Watches against real streams over the loopback: true ones, broken ones and hostile ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from mesh.node import Node
from mesh.residency import line as residency_line
from mesh.residency.cache_map import CacheMap
from mesh.residency.line import Heard, write_line
from mesh.residency.settings import ResidencySettings
from mesh.residency.state import Residency
from mesh.residency.watcher import ResidencyWatches

AVAILABLE, LOADING = Residency.AVAILABLE, Residency.LOADING
QUICK = ResidencySettings(silence=0.3, retry=0.02, retry_most=0.05, gone=0.3)
# Where nobody may be silent for so long, though this process be busy.
PATIENT = ResidencySettings(silence=1.5, retry=0.02, retry_most=0.05, gone=0.3)
FULL = write_line(Heard({"digits": AVAILABLE}, full=True, free_models=3))

Script = Callable[[web.StreamResponse], Awaitable[None]]


class Peer:
    """A node's publish port, whose stream is scripted; killed and started again at one address."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.streams = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/residency", self._stream)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.streams += 1
        reply = web.StreamResponse()
        await reply.prepare(request)
        await self.script(reply)
        return reply


class Scene:
    """A cache map, the watches that keep it, and one node that is told about."""

    def __init__(self, peer: Peer, hang_up: Callable[[str], bool], settings: ResidencySettings) -> None:
        self.peer = peer
        self.map = CacheMap()
        self.watches = ResidencyWatches(settings, self.map, 1, hang_up)
        self.node = Node("a", grpc="127.0.0.1:1", residency=f"127.0.0.1:{peer.port}")

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not true():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def scene(
    script: Script, hang_up: Callable[[str], bool] = lambda _: False, settings: ResidencySettings = QUICK
) -> AsyncIterator[Scene]:
    peer = Peer(script)
    await peer.start()
    running = None
    try:
        ours = Scene(peer, hang_up, settings)
        ours.watches.update([ours.node])
        running = asyncio.create_task(ours.watches.run())
        yield ours
        assert not running.done()
    finally:
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        await peer.stop()


async def forever() -> None:
    await asyncio.Event().wait()


async def alive(reply: web.StreamResponse) -> None:
    await reply.write(FULL)
    while True:
        await reply.write(write_line(Heard({})))
        await asyncio.sleep(0.05)


async def test_a_snapshot_and_then_changes_reach_the_map() -> None:
    go = asyncio.Event()

    async def script(reply: web.StreamResponse) -> None:
        await reply.write(FULL)
        await go.wait()
        await reply.write(write_line(Heard({"digits": Residency.ABSENT, "svm": LOADING})))
        await alive_without_news(reply)

    async def alive_without_news(reply: web.StreamResponse) -> None:
        while True:
            await reply.write(write_line(Heard({}, free_models=2)))
            await asyncio.sleep(0.05)

    async with scene(script, settings=PATIENT) as ours:
        await ours.until(lambda: ours.map.is_live("a"))
        assert ours.map.models("a") == {"digits": AVAILABLE}
        heard = ours.watches.heard("a")
        assert heard is not None
        assert heard.free_models == 3
        go.set()
        await ours.until(lambda: ours.map.models("a") == {"svm": LOADING})
        await asyncio.sleep(1.3 * PATIENT.silence)  # lines without news keep the stream
        assert ours.map.models("a") == {"svm": LOADING}
        assert ours.peer.streams == 1


async def test_a_killed_node_is_forgotten_and_heard_again_when_it_is_back() -> None:
    async with scene(alive) as ours:
        await ours.until(lambda: ours.map.is_live("a"))
        await ours.peer.stop()
        await ours.until(lambda: not ours.map.is_live("a"))
        assert ours.map.models("a") == {}
        await ours.until(lambda: ours.watches.cause("a") is not None)
        await ours.peer.start()
        await ours.until(lambda: ours.map.models("a") == {"digits": AVAILABLE})
        assert ours.watches.cause("a") is None


async def test_a_lost_stream_gives_a_declaration_its_word_back() -> None:
    async with scene(alive) as ours:
        ours.node = Node("a", grpc="127.0.0.1:1", residency=ours.node.residency, models=frozenset({"svm"}))
        ours.watches.update([ours.node])
        await ours.until(lambda: ours.map.models("a") == {"digits": AVAILABLE})
        await ours.peer.stop()
        await ours.until(lambda: ours.map.models("a") == {"svm": AVAILABLE})


async def _silent(reply: web.StreamResponse) -> None:
    await reply.write(FULL)
    await forever()


async def _slow_loris(reply: web.StreamResponse) -> None:
    await reply.write(FULL)
    while True:
        await reply.write(b" ")
        await asyncio.sleep(0.02)


async def _bad_json(reply: web.StreamResponse) -> None:
    await reply.write(FULL + b"{]\n")
    await forever()


async def _endless_line(reply: web.StreamResponse) -> None:
    await reply.write(FULL)
    while True:
        await reply.write(b"x" * 65536)


async def _endless_models(reply: web.StreamResponse) -> None:
    await reply.write(FULL)
    number = 0
    while True:
        number += 1
        await reply.write(write_line(Heard({f"m{number}": AVAILABLE})))


async def _end(reply: web.StreamResponse) -> None:
    await reply.write(FULL)


@pytest.mark.parametrize("script", [_silent, _slow_loris, _bad_json, _endless_line, _endless_models, _end])
async def test_a_stream_that_is_no_good_is_ended_and_what_it_said_forgotten(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency_line, "MAX_LINE", 500_000)
    monkeypatch.setattr(residency_line, "MAX_MODELS", 100)
    async with scene(script) as ours:
        await ours.until(lambda: ours.peer.streams >= 2)  # it was ended, and opened again
        await ours.until(lambda: not ours.map.is_live("a"))
        assert len(ours.map) == 0
        assert ours.watches.cause("a")


async def test_an_answer_that_is_not_200_is_no_stream() -> None:
    async def refuse(reply: web.StreamResponse) -> None:
        raise AssertionError("never called")

    async with scene(refuse) as ours:
        ours.watches.update([Node("a", grpc="127.0.0.1:1", residency=f"127.0.0.1:{ours.peer.port}")])
        app_less = Peer(refuse)
        app_less._stream = _gone  # type: ignore[method-assign]
        await app_less.start()
        ours.watches.update([Node("a", grpc="127.0.0.1:1", residency=f"127.0.0.1:{app_less.port}")])
        await ours.until(lambda: ours.watches.cause("a") == "The node answers 410.")
        await app_less.stop()


async def _gone(_: web.Request) -> web.Response:
    return web.Response(status=410)


async def test_a_node_that_goes_with_a_reload_is_watched_no_more() -> None:
    async with scene(alive) as ours:
        await ours.until(lambda: ours.map.is_live("a"))
        ours.watches.update([Node("a", grpc="127.0.0.1:1")])
        assert not ours.map.is_live("a")
        await asyncio.sleep(0.1)
        assert not ours.map.is_live("a")
        assert ours.watches.heard("a") is None
        ours.watches.update([ours.node])
        await ours.until(lambda: ours.map.is_live("a"))


async def test_a_leaving_node_is_hung_up_on_only_when_it_is_not_needed_and_remembered_for_a_while() -> None:
    leaving = write_line(Heard({"digits": AVAILABLE}, full=True, leaving=True))
    needed = True

    async def script(reply: web.StreamResponse) -> None:
        while True:
            await reply.write(leaving)
            await asyncio.sleep(0.02)

    async with scene(script, lambda _: not needed, PATIENT) as ours:
        await ours.until(lambda: ours.map.is_leaving("a"))
        await asyncio.sleep(0.2)
        assert ours.peer.streams == 1
        assert ours.map.models("a") == {"digits": AVAILABLE}
        needed = False
        await ours.until(lambda: ours.map.models("a") == {})
        await ours.peer.stop()
        assert ours.map.is_leaving("a")
        await ours.until(lambda: not ours.map.is_leaving("a"))  # after `gone` seconds the ring alone decides
        assert not ours.map.is_live("a")
