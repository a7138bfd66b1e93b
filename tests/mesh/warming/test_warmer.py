"""The warmer against real nodes over the loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from mesh.node import Node
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.warming.plan import WarmPlan
from mesh.warming.settings import WarmSettings
from mesh.warming.warmer import Warmer
from tests.mesh.routing import population as fresh

MODEL = "50% of ä/b?c"


@asynccontextmanager
async def answering(warm: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Where requests to warm a model are answered: `ip:port`."""
    app = web.Application()
    app.router.add_post("/models/{model}/warm", warm)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def one_leaves(names: str, model: str, address: str) -> tuple[list[Node], Router, str]:
    """Nodes of which the first in the model's order holds it and leaves; the router, and which node that is."""
    nodes = [Node(name, grpc=f"127.0.0.1:{number + 1}", residency=address) for number, name in enumerate(names)]
    router = fresh.router()
    router.update(nodes)
    for node in nodes:
        router.cache_map.snapshot(node.id, {})
    leaver = router.order(model)[0]
    router.cache_map.change(leaver, model, Residency.AVAILABLE)
    router.cache_map.leave(leaver)
    return nodes, router, leaver


@asynccontextmanager
async def running(warmer: Warmer, nodes: list[Node]) -> AsyncIterator[None]:
    """It works for the length of the block, ten seconds at most, and ends when it is cancelled."""
    warmer.update(nodes)
    task = asyncio.create_task(warmer.run())
    async with asyncio.timeout(60):
        yield
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_it_asks_as_planned_and_tells_the_plan_how_it_ended() -> None:
    asked: list[tuple[str, str | None]] = []

    async def warm(request: web.Request) -> web.Response:
        asked.append((request.match_info["model"], request.query.get("room")))
        return web.Response(status=200 if len(asked) > 1 else 503)

    async with answering(warm) as address:
        nodes, router, _ = one_leaves("abc", MODEL, address)
        warmer = Warmer(WarmPlan(WarmSettings(), router, router.cache_map, lambda _: 1.0))
        async with running(warmer, nodes):
            while len(asked) < 2:
                await asyncio.sleep(0.01)
            assert asked == [(MODEL, "free")] * 2  # refused by the second of the order, so the third was asked
            assert (warmer.asked, warmer.refused) == (2, 1)


async def test_a_node_that_is_away_is_a_refusal() -> None:
    nodes, router, leaver = one_leaves("ab", "m", "127.0.0.1:1")
    plan = WarmPlan(WarmSettings(), router, router.cache_map, lambda _: 1.0)
    warmer = Warmer(plan)
    async with running(warmer, nodes):
        while plan.needs(leaver):  # given up: nobody else can take it
            await asyncio.sleep(0.01)
        assert warmer.refused == 1


async def test_a_node_that_is_busy_is_asked_again_when_it_says() -> None:
    asked = 0

    async def warm(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=200) if asked > 1 else web.Response(status=503, headers={"retry-after": "7"})

    async with answering(warm) as address:
        nodes, router, _ = one_leaves("ab", "m", address)
        now = 100.0
        warmer = Warmer(
            WarmPlan(WarmSettings(again=3600.0), router, router.cache_map, lambda _: 1.0), clock=lambda: now
        )
        async with running(warmer, nodes):
            while not warmer.refused:
                await asyncio.sleep(0.01)
            now += 7.1
            while asked < 2:
                await asyncio.sleep(0.01)
