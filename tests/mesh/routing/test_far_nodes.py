"""Nodes of another zone, which a header reaches: this zone first, and when calls go there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.node import Node
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.known import KnownModels
from mesh.routing.placement import ExpectedWait, NoNode
from mesh.routing.router import Router
from mesh.routing.settings import KnownSettings
from tests.mesh.routing import population as fresh
from tests.mesh.routing.population import models, nodes

AVAILABLE, ABSENT, LOADING = Residency.AVAILABLE, Residency.ABSENT, Residency.LOADING


def far(number: int, **changes: object) -> Node:
    values: dict[str, object] = {"id": f"far-{number}", "zone": "west", "reached_by": "header"}
    return Node(**{**values, "speaks": frozenset({"grpc", "rest"}), **changes})  # type: ignore[arg-type]


def fleet(near: int, away: int, waits: LoadWaits | None = None, **settings: object) -> Router:
    router = fresh.router(waits, **{"replicas": 2, "retries": 1, "zone": "east", **settings})
    router.update([*[Node(**_fields(each)) for each in nodes(near)], *map(far, range(away))])  # type: ignore[arg-type]
    return router


def _fields(node: Node) -> dict[str, object]:
    return {"id": node.id, "grpc": node.grpc, "rest": node.rest, "zone": "east"}


def picked(router: Router, model: str, now: float = 0.0, **options: object) -> list[str]:
    return [node.id for node in router.pick(model, now, "rest", **options).nodes]  # type: ignore[arg-type]


def test_a_far_node_is_written_by_its_name_and_speaks_what_it_says() -> None:
    node = far(1, speaks=frozenset({"rest"}))
    assert (node.endpoint("rest"), node.endpoint("grpc"), node.endpoints) == ("@far-1", None, {"@far-1"})
    addressed = far(2, speaks=frozenset(), grpc="10.9.9.9:8500")
    assert (addressed.endpoint("grpc"), addressed.endpoint("rest")) == ("@far-2", None)


def test_a_model_has_its_home_and_its_replicas_in_this_zone() -> None:
    """As many as without the other zone, and the same ones."""
    alone, both = fleet(3, 0), fleet(3, 5)
    for number, model in enumerate(models(200)):
        assert picked(both, model, number * 1e3) == picked(alone, model, number * 1e3)
        assert both.order(model)[:3] == alone.order(model)
        assert both.settle(model, b"k" * 16, "rest") == alone.settle(model, b"k" * 16, "rest")


def test_a_far_node_stands_alone() -> None:
    """Envoy cannot go on from it to another."""
    router = fleet(1, 3)
    router.set_alive("node-0", False)
    (first,) = picked(router, "bert")
    assert first.startswith("far-")
    assert picked(router, "bert", without=[first]) != [first]
    with pytest.raises(NoNode):
        picked(router, "bert", without=["far-0", "far-1", "far-2"])


def test_a_holder_elsewhere_is_asked_before_a_load_here_and_none_elsewhere_before_a_holder_here() -> None:
    router = fleet(2, 2)
    for node_id in ("node-0", "node-1", "far-0", "far-1"):
        router.cache_map.snapshot(node_id, {})
    router.cache_map.change("far-1", "bert", AVAILABLE)
    assert picked(router, "bert") == ["far-1"]
    router.cache_map.change("node-1", "bert", AVAILABLE)
    assert picked(router, "bert")[0] == "node-1"


def test_calls_spill_over_when_this_zone_is_out_of_room_and_come_back() -> None:
    """Not before, however idle the others are: what goes there says nothing of how busy they are."""
    router = fleet(2, 2, zone_room=20)
    leases, went = [], []
    for _ in range(70):
        placement = router.pick("bert", 0.0, "rest")
        leases.append(router.lease(placement))
        went.append(placement.nodes[0].id)
    assert not any(node.startswith("far") for node in went[:40])
    assert all(node.startswith("far") for node in went[40:])
    for lease in leases:
        lease.release()
    assert picked(router, "bert", 1.0)[0].startswith("node")


def test_where_both_are_out_of_room_this_zone_comes_first_again() -> None:
    router = fleet(1, 1, zone_room=2, load_floor=1)
    went = []
    for _ in range(8):
        placement = router.pick("bert", 0.0, "rest")
        router.lease(placement)
        went.append(placement.nodes[0].id)
    assert went == ["node-0"] * 2 + ["far-0"] * 2 + ["node-0"] * 4


def test_a_limit_that_ends_before_a_load_here_sends_the_call_there() -> None:
    waits = LoadWaits()
    router = fleet(1, 2, waits)
    router.cache_map.snapshot("node-0", {})
    waits.told("node-0", {}, {"bert": 8.0}, None, 0.0)
    assert picked(router, "bert") == ["node-0"], "without a limit it is worth the wait"
    assert picked(router, "bert", limit=9.0) == ["node-0"]
    assert picked(router, "bert", limit=1.0) != ["node-0"]
    assert router.expected_wait("bert", 0.0, "rest", 9.0) == ExpectedWait(True, 8.0)
    assert router.expected_wait("bert", 0.0, "rest", 1.0) == ExpectedWait()


def test_a_limit_sends_no_call_to_where_it_would_be_late_too() -> None:
    waits = LoadWaits()
    router = fleet(1, 2, waits)
    for node_id, seconds in (("node-0", 8.0), ("far-0", 5.0), ("far-1", 5.0)):
        router.cache_map.snapshot(node_id, {})
        waits.told(node_id, {}, {"bert": seconds}, None, 0.0)
    assert picked(router, "bert", limit=1.0) == ["node-0"]
    assert picked(router, "bert", limit=6.0)[0].startswith("far")


def test_a_session_sits_here_while_anybody_here_lives() -> None:
    router = fleet(2, 2)
    keys = [bytes([number]) * 16 for number in range(50)]
    assert {router.settle("bert", key, "rest")[:4] for key in keys} == {"node"}
    for node_id in ("node-0", "node-1"):
        router.set_alive(node_id, False)
    assert {router.settle("bert", key, "rest") for key in keys} == {"far-0", "far-1"}


def test_a_map_knows_no_model_that_goes_there_and_no_far_node_for_retries() -> None:
    router = fleet(1, 2)
    for node_id, held in (("node-0", {"here": AVAILABLE}), ("far-0", {"here": AVAILABLE, "there": AVAILABLE})):
        router.cache_map.snapshot(node_id, held)
    known = KnownModels(KnownSettings(), router, lambda _: False, grpc_forms=0)
    for model in ("here", "there"):
        router.pick(model, 1.0, "rest")
        known.called(model, 1)
    known.start(1.0)
    for _ in known.look(2.0):
        pass
    (model,) = known.models
    assert (model.name, model.shares["rest"]) == ("here", ((60, ("10.0.0.0:8501",)),))


@given(st.integers(1, 6), st.integers(0, 6), st.sets(st.integers(0, 11)), st.integers(0, 40))
def test_calls_go_there_only_if_nobody_here_lives(near: int, away: int, dead: set[int], number: int) -> None:
    router = fleet(near, away)
    ids = [node.id for node in router.nodes]
    for each in dead:
        if each < len(ids):
            router.set_alive(ids[each], False)
    alive = [node_id for node_id in ids if router.is_alive(node_id)]
    if not alive:
        return
    first = picked(router, models(41)[number])[0]
    assert first in alive
    assert first.startswith("far") is not any(node_id.startswith("node") for node_id in alive)
