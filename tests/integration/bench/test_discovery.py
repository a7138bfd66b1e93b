"""The discovery benchmark: its snapshots are whole, and the model that it calls moves to the node that joins."""

import pytest

from integration.bench.discovery import benchmark, joining, snapshots
from mesh.discovery.finds import Finds
from mesh.routing.rendezvous import Rendezvous


@pytest.mark.parametrize("service", snapshots.SERVICES.values(), ids=list(snapshots.SERVICES))
def test_every_reply_holds_as_many_nodes_as_it_is_to(service: snapshots.Service) -> None:
    finds = Finds()
    for nodes in (snapshots.NODES, snapshots.NODES - 1):
        found = service.nodes(service.entries(snapshots.as_bytes(service.reply(3, nodes))), finds)
        assert len(found.nodes) == nodes
        assert found.conflicts == ()
        assert (found.nodes[7].id, found.nodes[7].rest) == ("node-3-0007", "10.3.0.8:8501")


def test_the_called_model_is_at_home_on_the_node_that_joins() -> None:
    for name in ("node-0", "127.0.0.2", "node-3.nodes.test"):
        ring = Rendezvous([("node-stays", 1.0), (name, 1.0)])
        assert ring.ids[ring.order(joining.model_of("node-stays", name))[0]] == name


def test_of_a_hundred_values_the_99th_is_the_99th_percentile_and_of_few_the_longest() -> None:
    assert benchmark.p99([float(value) for value in range(100, 0, -1)]) == 99.0
    assert benchmark.p99([3.0, 1.0, 2.0]) == 3.0
