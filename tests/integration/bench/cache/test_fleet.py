"""The fleet of the cache benchmark, small: real routers and caches in virtual time."""

import asyncio
from pathlib import Path

import pytest

from integration import virtual_time
from integration.bench.cache.fleet import moves, play
from integration.bench.cache.hit_shares import lru_hits
from integration.bench.cache.map_cost import measure
from integration.bench.cache.timed_peers import TimedServer, TimedStore
from integration.bench.cache.trace import Case, Weight
from mesh.model_cache.books.names import Key
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

CASE = Case(1.1, 0.05, models=60, nodes=3, slots=10, calls=900, warm_up=300, rate=5.0)


def test_a_fleet_does_what_its_trace_says_and_no_better_than_one_large_cache_could() -> None:
    run = play(CASE)
    models = CASE.trace().models
    assert len(run.hits) == len(run.nodes) == len(models)
    assert set(run.nodes) == {0, 1, 2}
    assert run.unanswered == 0
    first = {model: number for number, model in reversed(list(enumerate(models)))}
    assert not any(run.hits[number] for number in first.values())  # nothing is held that nobody has asked for
    assert 0 < sum(run.hits) <= sum(lru_hits(models, 30)) * 1.05
    assert len(set(models)) <= run.loads <= len(models) - sum(run.hits)
    assert run.copies >= 1
    assert sum(run.moves.left) == 60
    assert run.moves.needless == 0


def test_a_fleet_without_room_leaves_calls_unanswered() -> None:
    crowded = Case(0.5, 5.0, models=60, nodes=2, slots=1, calls=60, warm_up=1, rate=20.0)
    assert play(crowded).unanswered > 0


def router() -> Router:
    nodes = [Node(f"node-{n}", grpc=f"10.0.0.{n}:1", rest=f"10.0.0.{n}:2") for n in range(4)]
    found = Router(RoutingSettings(), CacheMap(), LoadWaits())
    found.update(nodes)
    for node in nodes:
        found.cache_map.snapshot(node.id, {})
    return found


def test_models_move_from_the_node_that_leaves_and_back_to_it() -> None:
    names = [f"model-{number}" for number in range(200)]
    found = moves(router(), names)
    assert found.left == found.joined
    assert sum(found.left) == 200
    assert found.needless == 0


def test_a_model_that_is_held_elsewhere_does_not_come_back_at_once_and_the_map_is_left_as_it_was() -> None:
    names = [f"model-{number}" for number in range(200)]
    fleet = router()
    home, other = fleet.order("model-7")[:2]
    fleet.cache_map.change(home, "model-7", Residency.AVAILABLE)
    fleet.cache_map.change(other, "model-7", Residency.AVAILABLE)
    before = {node.id: fleet.cache_map.models(node.id) for node in fleet.nodes}
    found = moves(fleet, names)
    number = [node.id for node in fleet.nodes].index(home)
    assert found.left[number] == found.joined[number] + 1
    assert {node.id: fleet.cache_map.models(node.id) for node in fleet.nodes} == before


def test_timed_peers_take_their_time(tmp_path: Path) -> None:
    shelf = {"a": Weight(100, 2.0, 3.0), "b": Weight(100, 2.0, 3.0)}

    async def scenario() -> None:
        loop, progress = asyncio.get_running_loop(), list[int]()
        store, server = TimedStore(shelf), TimedServer(shelf, slots=1)
        (remote,) = await store.versions("a")
        await store.fetch(remote, tmp_path / "a" / "1", progress.append)
        assert (loop.time(), progress) == (2.0, [100])
        assert (tmp_path / "a" / "1").is_dir()
        await server.load(Key("a", 1), tmp_path)
        assert loop.time() == 5.0
        assert await server.held(()) == {Key("a", 1)}
        with pytest.raises(AssertionError, match="2 models where 1 have room"):
            await server.load(Key("b", 1), tmp_path)
        await server.unload(Key("a", 1), tmp_path)
        await server.unload(Key("b", 1), tmp_path)
        assert await server.held(()) == frozenset()

    virtual_time.run(scenario())


def test_the_cost_of_a_map_is_measured() -> None:
    cost = measure(nodes=4, models=50, lookups=200)
    assert min(cost.usual_mib, cost.full_mib) >= 0
    assert min(cost.first, cost.steady, cost.news) > 0
