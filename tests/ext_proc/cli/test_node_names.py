"""Nodes are called by the ids that edges know, whoever tells of them."""

from typing import cast

import pytest

from ext_proc.admin.documents import EdgeDocument, NodeDocument
from ext_proc.cli import models, nodes
from ext_proc.cli.node_names import node_names
from tests.ext_proc.cli.test_models import NAME_A, NAME_B, NAME_EDGE, edge_status, entry, node_status


def publishing(address: str | None) -> NodeDocument:
    return cast("NodeDocument", {**node_status(entry("m")), "publish": address})


def knowing(**addresses: str | None) -> EdgeDocument:
    """An edge that knows nodes by these ids, and follows them at these addresses. Each holds the model m."""

    def known(node_id: str, address: str | None) -> dict[str, object]:
        heard = {"address": address, "heard": True, "cause": None, "leaving": False, "free_models": None}
        more = {"zone": "", "alive": True, "cause": None, "load": 0.0}
        return {"id": node_id, "residency": None if address is None else heard, **more}

    told = edge_status({"m": dict.fromkeys(addresses, "available")})
    return cast("EdgeDocument", {**told, "nodes": [known(*each) for each in addresses.items()]})


@pytest.mark.parametrize("publish", ["10.0.0.1:9903", "0.0.0.0:9903", "[::]:9903"])
def test_a_node_is_known_by_where_it_is_followed(publish: str) -> None:
    edge = knowing(a="10.0.0.1:9903", b="10.0.0.2:9903", c=None)
    assert node_names([(NAME_A, publishing(publish)), (NAME_EDGE, edge)]) == {NAME_A: "a"}


@pytest.mark.parametrize("publish", ["10.0.0.7:9903", "0.0.0.0:9999", None])
def test_others_have_no_id(publish: str | None) -> None:
    assert node_names([(NAME_A, publishing(publish)), (NAME_EDGE, knowing(a="10.0.0.1:9903"))]) == {}


def test_of_a_node_that_speaks_for_itself_edges_say_no_model() -> None:
    told = [(NAME_A, publishing("10.0.0.1:9903")), (NAME_EDGE, knowing(a="10.0.0.1:9903", b="10.0.0.2:9903"))]
    assert [(row.model, row.version, row.nodes) for row in models.rows_of(told)] == [
        ("m", "", ["b"]),
        ("m", "1", ["a"]),
    ]


def test_all_that_is_said_of_a_node_stands_together() -> None:
    told = [(NAME_B, publishing("10.0.0.2:9903")), (NAME_EDGE, knowing(a="10.0.0.1:9903", b="10.0.0.2:9903"))]
    said = [(row.node, row.seen_by) for row in nodes.rows_of(told)]
    assert said == [("a", NAME_EDGE), ("b", NAME_EDGE), ("b", "itself")]
