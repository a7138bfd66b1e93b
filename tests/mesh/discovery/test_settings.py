import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from mesh.discovery.settings import NodeList, NodeSettings, distinct_nodes
from mesh.node import Node

FLEET = TypeAdapter(NodeList)


def fleet(text: str) -> tuple[NodeSettings, ...]:
    return FLEET.validate_python(yaml.safe_load(text))


def test_a_list_of_nodes_as_people_write_it() -> None:
    found = fleet("""
      - {id: node-a, grpc: "10.0.0.3:8500", rest: "10.0.0.3:8501", zone: east, weight: 2, models: [digits, svm]}
      - {id: node-b, grpc: "[FD00::3]:8500"}
    """)
    assert [each.node() for each in found] == [
        Node("node-a", "10.0.0.3:8500", "10.0.0.3:8501", "east", 2.0, frozenset({"digits", "svm"})),
        Node("node-b", "[fd00::3]:8500"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[{id: a, grpc: 'models.svc:8500'}]", "not an IP address: Envoy knows its endpoints by address"),
        ("[{id: a}]", "Node 'a' has neither a grpc nor a rest endpoint"),
        ("[{id: '', grpc: '10.0.0.1:1'}]", "at least 1 character"),
        ("[{id: 'a b', grpc: '10.0.0.1:1'}]", "pattern"),
        ("[{id: 7, grpc: '10.0.0.1:1'}]", "valid string"),
        ("[{id: a, grpc: '10.0.0.1:1', weight: 0}]", "greater than 0"),
        ("[{id: a, grpc: '10.0.0.1:1', weight: .nan}]", "less than or equal to 1000"),
        ("[{id: a, grpc: '10.0.0.1:1', model: [digits]}]", "Extra inputs"),
        ('[{id: a, grpc: "10.0.0.1:1", models: ["dig\\nits"]}]', "cannot be printed"),
        ("[{id: a, grpc: '10.0.0.1:1', models: ['']}]", "at least 1 character"),
        ("[{id: a, grpc: '10.0.0.1:1'}, {id: a, grpc: '10.0.0.2:1'}]", "Node 'a' of this list has the id of a node"),
        (
            "[{id: a, grpc: '10.0.0.1:1'}, {id: b, rest: '10.0.0.1:1'}]",
            "Node 'b' of this list has the endpoint 10.0.0.1:1 of node 'a'",
        ),
        (
            "[{id: a, grpc: '[fd00::1]:1'}, {id: b, rest: '[FD00:0::1]:1'}]",
            r"has the endpoint \[fd00::1\]:1 of node 'a'",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        fleet(text)


def test_distinct_nodes_gives_back_what_it_was_given() -> None:
    nodes = [NodeSettings(id="a", grpc="10.0.0.1:1"), NodeSettings(id="b", grpc="10.0.0.2:1")]
    assert distinct_nodes(nodes) is nodes


def test_a_node_that_a_header_reaches_needs_no_address_and_says_what_it_speaks() -> None:
    far = NodeSettings.model_validate({"id": "node-c", "zone": "west", "reached_by": "header", "speaks": ["rest"]})
    node = far.node()
    assert (node.is_far, node.endpoint("rest"), node.endpoint("grpc")) == (True, "@node-c", None)
    routed = NodeSettings.model_validate({"id": "node-d", "reached_by": "header", "grpc": "10.9.0.1:30001"}).node()
    assert (routed.grpc, routed.endpoints) == ("10.9.0.1:30001", {"@node-d"})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"reached_by": "header"}, "says nothing of what it speaks"),
        ({"reached_by": "endpoint", "speaks": ["rest"], "rest": "10.0.0.3:1"}, "`speaks` is for"),
        ({"reached_by": "route", "speaks": ["rest"]}, "reached_by"),
        ({"reached_by": "header", "speaks": ["http"]}, "speaks"),
        ({"reached_by": "header", "speaks": ["rest"] * 3}, "speaks"),
        ({"id": "@c", "reached_by": "header", "speaks": ["rest"]}, "id"),
        ({"id": "c,d", "reached_by": "header", "speaks": ["rest"]}, "id"),
        ({"id": "c" * 254, "reached_by": "header", "speaks": ["rest"]}, "id"),
    ],
)
def test_one_that_cannot_be_reached_is_told_why(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        NodeSettings.model_validate({"id": "node-c", **fields})


def test_two_nodes_behind_one_ingress_are_two_and_of_one_name_one() -> None:
    """Their addresses are where routes lead, which may be one place."""
    behind = {"reached_by": "header", "rest": "10.9.0.1:30001"}
    both = [NodeSettings.model_validate({"id": name, **behind}) for name in ("c", "d")]
    assert distinct_nodes(both) == both
    with pytest.raises(ValueError, match="has the id of a node"):
        distinct_nodes([both[0], both[0]])
