"""The warmer against real nodes over the loopback."""

import asyncio

from aiohttp import web

from mesh.discovery.warmer import Warmer
from mesh.node import Node
from mesh.routing.cache_map import Residency
from mesh.routing.pick import Router
from mesh.routing.settings import RoutingSettings
from mesh.routing.warm import WarmPlan, WarmSettings

MODEL = "50% of ä/b?c"


async def test_it_asks_as_planned_and_tells_the_plan_how_it_ended() -> None:
    asked: list[tuple[str, str | None]] = []

    async def warm(request: web.Request) -> web.Response:
        asked.append((request.match_info["model"], request.query.get("room")))
        return web.Response(status=200 if len(asked) > 1 else 503)

    app = web.Application()
    app.router.add_post("/models/{model}/warm", warm)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"

    nodes = [Node(name, grpc=f"127.0.0.1:{number + 1}", residency=address) for number, name in enumerate("abc")]
    router = Router(RoutingSettings())
    router.update(nodes)
    for node in nodes:
        router.cache_map.snapshot(node.id, {})
    leaver = router.order(MODEL)[0]
    router.cache_map.change(leaver, MODEL, Residency.AVAILABLE)
    router.cache_map.leave(leaver)
    plan = WarmPlan(WarmSettings(), router, lambda _: 1.0)
    warmer = Warmer(plan)
    warmer.update(nodes)
    running = asyncio.create_task(warmer.run())
    async with asyncio.timeout(10):
        while len(asked) < 2:
            await asyncio.sleep(0.01)
    assert asked == [(MODEL, "free")] * 2  # refused by the second of the order, so the third was asked
    assert (warmer.asked, warmer.refused) == (2, 1)

    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await runner.cleanup()


async def test_a_node_that_is_away_is_a_refusal() -> None:
    nodes = [Node(name, grpc=f"127.0.0.1:{number + 1}", residency="127.0.0.1:1") for number, name in enumerate("ab")]
    router = Router(RoutingSettings())
    router.update(nodes)
    for node in nodes:
        router.cache_map.snapshot(node.id, {})
    leaver = router.order("m")[0]
    router.cache_map.change(leaver, "m", Residency.AVAILABLE)
    router.cache_map.leave(leaver)
    plan = WarmPlan(WarmSettings(), router, lambda _: 1.0)
    warmer = Warmer(plan)
    warmer.update(nodes)
    running = asyncio.create_task(warmer.run())
    async with asyncio.timeout(10):
        while plan.needs(leaver):  # given up: nobody else can take it
            await asyncio.sleep(0.01)
    assert warmer.refused == 1
    running.cancel()
    await asyncio.wait([running])
