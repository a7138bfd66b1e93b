import asyncio
from contextlib import aclosing

from integration.virtual_time import run
from mesh.discovery.sources.static import StaticSource
from tests.mesh.routing.population import nodes


def test_it_hands_over_what_it_has_and_then_each_replacement() -> None:
    async def main() -> None:
        source = StaticSource(tuple(nodes(1)))
        async with aclosing(source.snapshots()) as snapshots:
            assert (await anext(snapshots)).nodes == tuple(nodes(1))
            waiting = asyncio.create_task(anext(snapshots))
            await asyncio.sleep(100.0)
            assert not waiting.done()
            source.replace(tuple(nodes(2)))
            assert (await waiting).nodes == tuple(nodes(2))

    run(main())


def test_a_replacement_while_nobody_waits_is_not_lost_and_the_last_one_counts() -> None:
    async def main() -> None:
        source = StaticSource(())
        async with aclosing(source.snapshots()) as snapshots:
            assert (await anext(snapshots)).nodes == ()
            source.replace(tuple(nodes(2)))
            source.replace(tuple(nodes(3)))
            assert (await anext(snapshots)).nodes == tuple(nodes(3))
        async with aclosing(source.snapshots()) as again:
            assert (await anext(again)).nodes == tuple(nodes(3))

    run(main())
