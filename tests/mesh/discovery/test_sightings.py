import pytest

from mesh.discovery.merge import NodeSet
from mesh.discovery.sightings import MOST_NODES, SPACING, Sightings
from mesh.errors import MeshError
from mesh.node import Node
from tests.mesh.routing.population import node, nodes


def found(*some: Node) -> NodeSet:
    return NodeSet(some, ())


def ids(applied: NodeSet | None) -> list[str]:
    assert applied is not None
    return [each.id for each in applied.nodes]


def test_what_is_said_within_a_moment_is_one_change() -> None:
    sightings = Sightings(["etcd"])
    sightings.took("etcd", found(node(1)), 0.0)
    assert ids(sightings.apply(0.0)) == ["node-1"]
    for number in range(2, 5):
        sightings.took("etcd", found(*nodes(number)), 0.01 * number)
        assert sightings.apply(0.01 * number) is None
    assert sightings.due(0.04) == SPACING
    assert ids(sightings.apply(SPACING)) == ["node-0", "node-1", "node-2", "node-3"]
    assert sightings.due(SPACING) is None


def test_the_same_again_is_no_change_but_keeps_the_source_young() -> None:
    sightings = Sightings(["kuma"])
    sightings.took("kuma", found(node(1)), 0.0)
    sightings.apply(0.0)
    sightings.took("kuma", found(node(1)), 50.0)
    assert sightings.due(50.0) is None
    assert sightings.states(51.0)[0].age == 1.0


def test_a_source_that_is_down_keeps_its_nodes_and_says_since_when() -> None:
    sightings = Sightings(["etcd", "dns"])
    sightings.took("etcd", found(node(1)), 0.0)
    sightings.failed("etcd", "refused", 10.0)
    sightings.failed("etcd", "timed out", 40.0)
    sightings.took("dns", found(node(2)), 100.0)
    assert ids(sightings.apply(100.0)) == ["node-1", "node-2"]
    state = sightings.states(100.0)[0]
    assert (state.nodes, state.age, state.down, state.cause) == (1, 100.0, 90.0, "timed out")
    sightings.took("etcd", found(node(1)), 110.0)
    state = sightings.states(110.0)[0]
    assert (state.age, state.down, state.cause) == (0.0, None, None)


def test_a_node_stays_as_long_as_one_source_tells_of_it_and_the_earlier_one_says_what_it_is() -> None:
    sightings = Sightings(["etcd", "envoy"])
    sightings.took("etcd", found(node(1, zone="etcd")), 0.0)
    sightings.took("envoy", found(node(1, zone="envoy")), 0.0)
    applied = sightings.apply(0.0)
    assert applied is not None
    assert applied.nodes == (node(1, zone="etcd"),)
    assert applied.conflicts == ()
    sightings.took("etcd", found(), 1.0)
    applied = sightings.apply(1.0)
    assert applied is not None
    assert applied.nodes == (node(1, zone="envoy"),)
    sightings.took("envoy", found(), 2.0)
    assert ids(sightings.apply(2.0)) == []


def test_heard_is_said_or_failed_and_complete_is_said() -> None:
    sightings = Sightings(["a", "b"])
    sightings.took("a", found(), 0.0)
    assert not sightings.heard
    sightings.failed("b", "away", 1.0)
    assert sightings.heard
    assert not sightings.complete
    sightings.took("b", found(), 2.0)
    assert sightings.complete


def test_a_flapping_node_is_held_back_leaves_at_once_and_comes_in_when_it_rests() -> None:
    sightings, now = Sightings(["dns"]), 0.0
    for turn in range(8):
        now = float(turn)
        sightings.took("dns", found(node(1), node(2)) if turn % 2 == 0 else found(node(2)), now)
        sightings.apply(now)
    # Gone at 1, 3, 5 and 7: the return at 6 was the third.
    sightings.took("dns", found(node(1), node(2)), 8.0)
    assert ids(sightings.apply(8.0)) == ["node-2"]
    assert sightings.states(8.0)[0].held == ("node-1",)
    due = sightings.due(8.0)
    assert due == 18.0
    assert sightings.apply(17.9) is None
    assert ids(sightings.apply(due)) == ["node-1", "node-2"]
    assert sightings.due(due) is None
    sightings.took("dns", found(node(2)), 18.5)
    assert ids(sightings.apply(18.5)) == ["node-2"]


def test_what_a_person_writes_is_never_held_back() -> None:
    sightings, now = Sightings(["file"], steady=["file"]), 0.0
    for turn in range(9):
        now = float(turn)
        sightings.took("file", found(node(1), node(2)) if turn % 2 == 0 else found(node(2)), now)
        applied = sightings.apply(now)
    assert ids(applied) == ["node-1", "node-2"]


def test_a_snapshot_that_is_too_large_is_refused_and_the_one_before_stays() -> None:
    sightings = Sightings(["etcd"])
    sightings.took("etcd", found(node(1)), 0.0)
    sightings.apply(0.0)
    with pytest.raises(MeshError, match="over the limit"):
        sightings.took("etcd", found(*[node(1)] * (MOST_NODES + 1)), 1.0)
    assert sightings.due(1.0) is None


def test_what_a_source_left_out_is_shown_with_its_name_while_it_lasts() -> None:
    sightings = Sightings(["etcd"])
    sightings.took("etcd", NodeSet((), ("Node 'x': id: too long",)), 0.0)
    applied = sightings.apply(0.0)
    assert applied == NodeSet((), ("Node 'x': id: too long (etcd)",))
    sightings.took("etcd", found(), 1.0)
    assert sightings.apply(1.0) == NodeSet((), ())


def test_nodes_of_a_source_that_is_replaced_stay_until_the_new_one_says_what_its_nodes_are() -> None:
    sightings = Sightings(["a", "etcd"])
    sightings.took("a", found(node(0)), 0.0)
    sightings.took("etcd", found(node(1), node(2)), 0.0)
    sightings.apply(0.0)
    sightings.replace({"b": "a", "etcd": None})
    assert sightings.complete
    assert ids(sightings.apply(1.0)) == ["node-0", "node-1", "node-2"]
    assert [(state.name, state.nodes) for state in sightings.states(1.0)] == [
        ("b", 1), ("etcd", 0), ("etcd, replaced", 2),
    ]  # fmt: skip
    sightings.failed("etcd", "no route", 1.0)
    assert sightings.apply(2.0) is None
    sightings.took("etcd", found(node(2), node(3)), 3.0)
    assert ids(sightings.apply(3.0)) == ["node-0", "node-2", "node-3"]
    assert [state.name for state in sightings.states(3.0)] == ["b", "etcd"]


def test_what_the_new_sources_say_of_a_node_counts_and_what_the_old_one_said_is_no_conflict() -> None:
    sightings = Sightings(["etcd"])
    sightings.took("etcd", found(node(1, zone="old"), node(2, grpc="10.9.9.9:1")), 0.0)
    sightings.apply(0.0)
    sightings.replace({"dns": None, "kuma": None})
    sightings.took("dns", found(node(1, zone="new"), node(2, grpc="10.9.9.8:1")), 1.0)
    applied = sightings.apply(1.0)
    assert applied is not None
    assert [(each.id, each.zone, each.grpc) for each in applied.nodes] == [
        ("node-1", "new", node(1).grpc), ("node-2", "", "10.9.9.8:1"),
    ]  # fmt: skip
    assert applied.conflicts == ()


def test_a_source_that_goes_and_for_which_none_comes_takes_its_nodes_along_at_once() -> None:
    sightings = Sightings(["etcd", "dns"])
    sightings.took("etcd", found(node(1)), 0.0)
    sightings.took("dns", found(node(2)), 0.0)
    sightings.apply(0.0)
    sightings.replace({"dns": "dns"})
    assert ids(sightings.apply(1.0)) == ["node-2"]
    assert [state.name for state in sightings.states(1.0)] == ["dns"]


def test_replaced_again_and_again_every_source_that_is_still_in_force_has_a_name_of_its_own() -> None:
    sightings = Sightings(["etcd"])
    sightings.took("etcd", found(node(1)), 0.0)
    sightings.replace({"etcd": None, "dns": None})
    sightings.took("etcd", found(node(2)), 1.0)
    sightings.replace({"etcd": None, "dns": "dns"})
    assert [state.name for state in sightings.states(2.0)] == [
        "etcd", "dns", "etcd, replaced", "etcd, replaced again",
    ]  # fmt: skip
    assert ids(sightings.apply(2.0)) == ["node-1", "node-2"]
    sightings.took("dns", found(), 3.0)
    assert sightings.apply(3.0) is not None
    sightings.took("etcd", found(node(3)), 4.0)
    assert ids(sightings.apply(4.0)) == ["node-3"]


def test_a_reload_makes_what_was_never_complete_no_more_complete() -> None:
    sightings = Sightings(["etcd", "dns"])
    sightings.took("etcd", found(node(1)), 0.0)
    sightings.replace({"etcd": "etcd", "kuma": None})
    assert not sightings.complete
    sightings.took("kuma", found(), 1.0)
    assert sightings.complete
