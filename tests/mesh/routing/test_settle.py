"""On which node a session settles: by its key and what the nodes hold, and by nothing that one edge alone knows."""

from collections import Counter
from hashlib import blake2b

import pytest

from mesh.residency.state import Residency
from mesh.routing.placement import NoNode
from mesh.routing.rendezvous import nearest
from mesh.routing.router import Router
from tests.mesh.routing.population import node, nodes, router

MODEL = "m"


def key(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=16).digest()


def fleet(count: int = 6, **settings: object) -> Router:
    """Nodes that tell what they hold: nothing, so far."""
    made = router(**settings)
    made.update(nodes(count))
    for each in made.nodes:
        made.cache_map.snapshot(each.id, {})
    return made


def settled(made: Router, count: int = 300) -> Counter[str]:
    return Counter(made.settle(MODEL, key(number), "rest") for number in range(count))


def hold(made: Router, *numbers: int, state: Residency = Residency.AVAILABLE) -> None:
    for number in numbers:
        made.cache_map.change(f"node-{number}", MODEL, state)


def test_sessions_are_spread_over_all_nodes_that_hold_the_model() -> None:
    made = fleet(replicas=1)
    hold(made, 1, 3, 4)
    counts = settled(made)
    assert counts.keys() == {"node-1", "node-3", "node-4"}
    assert min(counts.values()) > 60


def test_of_a_model_that_no_node_holds_they_go_to_its_replicas() -> None:
    made = fleet(replicas=2)
    assert settled(made).keys() == set(made.order(MODEL)[:2])
    hold(made, 5, state=Residency.LOADING)
    assert settled(made).keys() == {"node-5"}


def test_edges_of_other_loads_and_demands_choose_alike() -> None:
    one, other = fleet(), fleet()
    for made in (one, other):
        hold(made, 0, 1, 2)
    for _ in range(1000):
        one.pick(MODEL, 1.0, "rest")
    one.set_spread(MODEL, 5)
    assert all(one.settle(MODEL, key(n), "rest") == other.settle(MODEL, key(n), "grpc") for n in range(200))


def test_a_node_that_joins_or_dies_moves_only_its_own_sessions() -> None:
    made = fleet()
    hold(made, 0, 1, 2)
    before = {n: made.settle(MODEL, key(n), "rest") for n in range(300)}
    hold(made, 3)
    after = {n: made.settle(MODEL, key(n), "rest") for n in range(300)}
    assert {after[n] for n in before if before[n] != after[n]} == {"node-3"}
    made.set_alive("node-3", False)
    assert {n: made.settle(MODEL, key(n), "rest") for n in range(300)} == before


def test_none_settles_on_a_node_that_leaves_while_another_holds_the_model() -> None:
    made = fleet()
    hold(made, 0, 1)
    made.cache_map.leave("node-0")
    assert settled(made).keys() == {"node-1"}
    made.set_alive("node-1", False)
    assert settled(made).keys() == {"node-0"}


def test_weights_count_and_zones_come_first() -> None:
    made = router(zone="here")
    made.update([node(0, zone="here", weight=3.0), node(1, zone="here", weight=1.0), node(2, zone="there")])
    for each in made.nodes:
        made.cache_map.snapshot(each.id, {MODEL: Residency.AVAILABLE})
    counts = settled(made, 1000)
    assert 650 < counts["node-0"] < 850
    assert counts["node-2"] == 0
    made.set_alive("node-0", False)
    made.set_alive("node-1", False)
    assert settled(made).keys() == {"node-2"}


def test_without_a_node_there_is_none() -> None:
    made = fleet(1)
    made.set_alive("node-0", False)
    with pytest.raises(NoNode, match="No model server is alive"):
        made.settle(MODEL, key(0), "rest")


def test_a_node_is_picked_by_its_id_alone() -> None:
    made = router()
    made.update([node(0), node(1, rest=None)])
    assert [each.id for each in made.pick_node("node-0", MODEL, 1.0, "rest").nodes] == ["node-0"]
    assert made.load("node-0") == pytest.approx(1.0)
    assert made.demand.rate(MODEL, 1.0) > 0
    with pytest.raises(NoNode, match="does not speak rest"):
        made.pick_node("node-1", MODEL, 1.0, "rest")
    made.set_alive("node-0", False)
    for gone in ("node-0", "node-9"):
        with pytest.raises(NoNode, match="is gone"):
            made.pick_node(gone, MODEL, 1.0, "rest")


@pytest.mark.parametrize("state", list(Residency))
def test_a_session_that_begins_anew_stays_where_its_model_is(state: Residency) -> None:
    made = fleet()
    hold(made, 0, state=state)
    assert made.welcomes("node-0", MODEL) is (state in (Residency.AVAILABLE, Residency.LOADING))
    made.cache_map.leave("node-0")
    assert not made.welcomes("node-0", MODEL)


def test_of_a_node_that_says_nothing_it_is_taken_that_it_does() -> None:
    made = router()
    made.update(nodes(1))
    assert made.welcomes("node-0", MODEL)
    made.set_alive("node-0", False)
    assert not made.welcomes("node-0", MODEL)


def test_the_nearest_does_not_depend_on_the_order_of_the_nodes() -> None:
    population = [(f"n{number}", 1.0 + number) for number in range(5)]
    assert all(nearest(key(n), population) == nearest(key(n), population[::-1]) for n in range(50))
