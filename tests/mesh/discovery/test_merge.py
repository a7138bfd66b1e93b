from hypothesis import given
from hypothesis import strategies as st

from mesh.discovery.merge import NodeSet, merge
from mesh.node import Node

endpoints = st.one_of(st.none(), st.sampled_from([f"10.0.0.{n}:8500" for n in range(1, 6)]))
some_nodes = st.lists(st.builds(Node, st.sampled_from("abcd"), endpoints, endpoints), max_size=6)


def test_of_two_nodes_with_one_id_the_earlier_source_has_its_way() -> None:
    mine, theirs = Node("a", "10.0.0.1:8500"), Node("a", "10.0.0.2:8500")
    population = merge([("file", [mine]), ("dns", [theirs])])
    assert population.nodes == (mine,)
    assert population.conflicts == ("Node 'a' of dns has the id of a node of file.",)


def test_two_nodes_may_not_share_an_endpoint_whatever_they_speak_there() -> None:
    population = merge([("file", [Node("a", "10.0.0.1:8500")]), ("dns", [Node("b", "10.0.0.2:1", "10.0.0.1:8500")])])
    assert [node.id for node in population.nodes] == ["a"]
    assert population.conflicts == ("Node 'b' of dns has the endpoint 10.0.0.1:8500 of node 'a' of file.",)


def test_one_node_may_speak_both_protocols_at_one_endpoint() -> None:
    node = Node("a", "10.0.0.1:8500", "10.0.0.1:8500")
    assert merge([("file", [node])]).nodes == (node,)


def test_a_node_without_endpoints_is_left_out() -> None:
    assert merge([("dns", [Node("a")])]).conflicts == ("Node 'a' of dns has neither a grpc nor a rest endpoint.",)


def test_a_node_that_is_left_out_stands_in_nobodys_way() -> None:
    first, clashing, free = Node("a", "10.0.0.1:1"), Node("a", "10.0.0.2:1"), Node("b", "10.0.0.2:1")
    assert merge([("file", [first, clashing, free])]).nodes == (first, free)


@given(st.lists(some_nodes, max_size=4))
def test_the_result_has_no_clash_and_accounts_for_every_node(snapshots: list[list[Node]]) -> None:
    population = merge([(f"source {number}", found) for number, found in enumerate(snapshots)])
    assert len({node.id for node in population.nodes}) == len(population.nodes)
    used = [endpoint for node in population.nodes for endpoint in node.endpoints]
    assert len(set(used)) == len(used)
    told_twice = sum(map(len, snapshots)) - len(population.nodes) - len(population.conflicts)
    owners = {endpoint: node.id for node in population.nodes for endpoint in node.endpoints}
    repeats = [node for found in snapshots[1:] for node in found if len(set(map(owners.get, node.endpoints))) == 1]
    assert 0 <= told_twice <= len(repeats)


def test_a_node_that_two_sources_tell_of_is_one_node_and_no_clash() -> None:
    known = Node("a", "10.0.0.1:8500", "10.0.0.1:8501", zone="west")
    told = [("etcd", [known]), ("envoy", [Node("10.0.0.1", "10.0.0.1:8500"), Node("a", "10.0.0.1:8500")])]
    assert merge(told) == NodeSet((known,), ())


def test_one_source_that_tells_of_an_endpoint_twice_contradicts_itself() -> None:
    population = merge([("etcd", [Node("a", "10.0.0.1:8500"), Node("b", "10.0.0.1:8500")])])
    assert population.conflicts == ("Node 'b' of etcd has the endpoint 10.0.0.1:8500 of node 'a' of etcd.",)
