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
