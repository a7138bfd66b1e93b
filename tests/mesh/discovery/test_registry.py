import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from mesh.discovery.merge import NodeSet
from mesh.discovery.node_source import NodeSource
from mesh.discovery.registry import Registry
from mesh.discovery.sightings import SPACING
from mesh.discovery.sources.static import StaticSource
from mesh.errors import MeshError
from mesh.health.prober import Prober
from mesh.health.state import ProbeSettings
from mesh.node import Node
from mesh.routing.router import Router
from tests.mesh.background import during
from tests.mesh.routing import population as fresh
from tests.mesh.routing.population import node, nodes


class Scripted:
    """A source that, each time that it is asked, does the next thing of a list: nodes to hand over, or an error."""

    def __init__(self, *script: tuple[Node, ...] | Exception) -> None:
        self.script = list(script)
        self.asked: list[float] = []
        self.closed = 0

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        self.asked.append(asyncio.get_running_loop().time())
        try:
            step = self.script.pop(0) if self.script else OSError("unreachable")
            if isinstance(step, Exception):
                raise step
            yield NodeSet(step, ())
            if not self.script:
                await asyncio.sleep(1e9)
        finally:
            self.closed += 1


def ids(router: Router) -> set[str]:
    return {known.id for known in router.nodes}


def causes(registry: Registry) -> dict[str, str]:
    return {state.name: state.cause for state in registry.states() if state.cause is not None}


def test_a_reload_of_the_configuration_reaches_the_router() -> None:
    router, source = fresh.router(), StaticSource(tuple(nodes(2)))
    registry = Registry({"file": source}, router)

    async def story() -> None:
        await registry.ready.wait()
        assert ids(router) == {"node-0", "node-1"}
        source.replace(tuple(nodes(3)))
        await asyncio.sleep(2 * SPACING)
        assert ids(router) == {"node-0", "node-1", "node-2"}

    during(registry, story)


def test_sources_are_merged_in_their_order_and_clashes_are_shown_while_they_last() -> None:
    router = fresh.router()
    late = StaticSource((node(1, zone="dns", grpc="10.0.0.9:1"), node(2)))
    registry = Registry({"file": StaticSource((node(1, zone="file"),)), "dns": late}, router)

    async def story() -> None:
        await registry.ready.wait()
        assert {known.id: known.zone for known in router.nodes} == {"node-1": "file", "node-2": ""}
        assert registry.conflicts == ("Node 'node-1' of dns has the id of a node of file.",)
        late.replace((node(2),))
        await asyncio.sleep(1.0)
        assert registry.conflicts == ()

    during(registry, story)


def test_the_order_of_the_sources_decides_and_not_who_was_heard_first() -> None:
    router = fresh.router()
    slow = Scripted(OSError("not yet"), (node(1, zone="file"),))
    registry = Registry({"file": slow, "dns": StaticSource((node(1, zone="dns"),))}, router)

    async def story() -> None:
        await registry.ready.wait()
        assert [known.zone for known in router.nodes] == ["dns"]
        await asyncio.sleep(10.0)
        assert [known.zone for known in router.nodes] == ["file"]

    during(registry, story)


def test_a_source_that_fails_keeps_its_nodes_and_is_asked_again_ever_less_often() -> None:
    router = fresh.router()
    flaky = Scripted(tuple(nodes(2)), *[OSError("no route")] * 9, tuple(nodes(3)))
    registry = Registry({"dns": flaky, "file": StaticSource((node(7),))}, router)

    async def story() -> None:
        await asyncio.sleep(1.0)
        assert ids(router) == {"node-0", "node-1", "node-7"}
        assert causes(registry) == {"dns": "no route"}
        await asyncio.sleep(1_000.0)
        assert ids(router) == {"node-0", "node-1", "node-2", "node-7"}
        assert causes(registry) == {}

    during(registry, story)
    gaps = [later - earlier for earlier, later in pairwise(flaky.asked)]
    assert gaps == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0])
    assert flaky.closed == len(flaky.asked)


def test_the_pauses_begin_anew_after_a_success() -> None:
    source = Scripted(OSError(), OSError(), (node(1),), MeshError("bad answer"), (node(2),))
    registry = Registry({"dns": source}, fresh.router())
    during(registry, lambda: asyncio.sleep(100.0))
    # Asked at 0 (fails), 0.5 (fails), 1.5 (hands over and ends), 2.0 (fails), 3.0.
    assert source.asked == pytest.approx([0.0, 0.5, 1.5, 2.0, 3.0])


def test_it_is_ready_when_every_source_was_heard_even_if_one_is_down() -> None:
    router = fresh.router()
    sources: dict[str, NodeSource] = {"file": StaticSource((node(1),)), "dns": Scripted()}
    registry = Registry(sources, router)

    async def story() -> None:
        assert not registry.ready.is_set()
        await registry.ready.wait()
        assert ids(router) == {"node-1"}
        assert causes(registry) == {"dns": "unreachable"}

    during(registry, story)


def test_without_sources_it_is_ready_and_knows_nobody() -> None:
    registry = Registry({}, fresh.router(), Prober(ProbeSettings(), _well, lambda *_: None, 1))

    async def story() -> None:
        await registry.ready.wait()

    during(registry, story)


async def _well(_: Node) -> str | None:
    return None


def test_a_dead_node_leaves_the_picks_and_comes_back_with_its_models() -> None:
    router = fresh.router(retries=0)
    broken: set[str] = set()

    async def probe(asked: Node) -> str | None:
        return "refused" if asked.id in broken else None

    prober = Prober(ProbeSettings(), probe, router.set_alive, seed=1)
    source = StaticSource(tuple(nodes(3)))
    registry = Registry({"file": source}, router, prober)

    async def story() -> None:
        await registry.ready.wait()
        home = router.pick("digits", 0.0, "grpc").nodes[0].id
        broken.add(home)
        await asyncio.sleep(5.0)
        assert router.pick("digits", 100.0, "grpc").nodes[0].id != home
        broken.clear()
        await asyncio.sleep(5.0)
        assert router.pick("digits", 200.0, "grpc").nodes[0].id == home

    during(registry, story)


def test_sources_are_replaced_while_it_runs_and_those_that_stay_are_not_disturbed() -> None:
    router = fresh.router()
    stays, goes = Scripted((node(0),)), Scripted((node(1), node(2)))
    comes = Scripted(OSError("not yet"), (node(2), node(3)))
    registry = Registry({"0 (etcd)": stays, "1 (dns)": goes}, router)

    async def story() -> None:
        await registry.ready.wait()
        registry.replace({"0 (kuma)": comes, "1 (etcd)": stays})
        await asyncio.sleep(2 * SPACING)
        assert ids(router) == {"node-0", "node-1", "node-2"}
        assert causes(registry) == {"0 (kuma)": "not yet"}
        await asyncio.sleep(5.0)
        assert ids(router) == {"node-0", "node-2", "node-3"}
        assert [state.name for state in registry.states()] == ["0 (kuma)", "1 (etcd)"]
        assert (len(stays.asked), stays.closed, goes.closed) == (1, 0, 1)

    during(registry, story)


def test_sources_that_are_replaced_before_it_runs_are_never_asked() -> None:
    goes = Scripted((node(1),))
    registry = Registry({"dns": goes}, fresh.router())
    registry.replace({"etcd": StaticSource((node(2),))})
    during(registry, registry.ready.wait)
    assert goes.asked == []
