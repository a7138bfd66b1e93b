"""Placing a call: nodes, lease and expected wait come together, and agree with what was expected before."""

from dataclasses import replace

import pytest

from ext_proc.edge.placing import Placing
from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.placement import RESIDENT
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

CALL = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "bert")
NODE = Node("a", grpc="10.0.0.1:8500", rest="10.0.0.1:8501")


def router(*nodes: Node) -> Router:
    made = Router(RoutingSettings(), CacheMap(), LoadWaits())
    made.update(nodes)
    return made


def test_a_candidate_is_load_of_its_node_until_its_lease_is_released() -> None:
    placing = Placing(over := router(NODE))
    nodes, lease, expected_wait = placing.place(CALL, "svm", 1.0)
    assert (nodes, expected_wait) == (("10.0.0.1:8501",), RESIDENT)
    over.expected_wait("svm", 3600.0, "rest")
    assert over.load("a") == pytest.approx(1.0)
    lease.release()
    assert over.load("a") == pytest.approx(0.0)


def test_nodes_are_those_of_the_calls_protocol() -> None:
    nodes, _, _ = Placing(router(NODE)).place(replace(CALL, protocol=InferenceProtocol.V2_GRPC), "svm", 1.0)
    assert nodes == ("10.0.0.1:8500",)


@pytest.mark.parametrize(("state", "cold"), [(Residency.AVAILABLE, False), (Residency.LOADING, True)])
def test_what_is_expected_before_is_what_the_placed_call_meets(state: Residency, cold: bool) -> None:
    placing = Placing(over := router(NODE))
    over.cache_map.snapshot("a", {"svm": state})
    before = placing.expected_wait(CALL, "svm", 1.0)
    assert over.load("a") == 0.0
    _, _, expected_wait = placing.place(CALL, "svm", 1.0)
    assert expected_wait == before
    assert expected_wait.cold is cold


def test_a_candidate_that_belongs_to_a_node_goes_nowhere_else() -> None:
    other = replace(NODE, id="b", rest="10.0.0.2:8501")
    placing = Placing(over := router(NODE, other))
    for each in (NODE, other):
        nodes, lease, _ = placing.place(CALL, "svm", 1.0, each.id)
        assert nodes == (each.rest,)
        assert over.load(each.id) == pytest.approx(1.0)
        lease.release()
    over.cache_map.snapshot("a", {})
    assert placing.expected_wait(CALL, "svm", 1.0, "a").cold
    assert placing.expected_wait(CALL, "svm", 1.0, "b") == RESIDENT
    over.set_alive("b", False)
    with pytest.raises(CallError, match="is gone") as refused:
        placing.place(CALL, "svm", 1.0, "b")
    assert refused.value.reason is Reason.UNAVAILABLE


def test_no_node_is_an_error_for_the_client() -> None:
    with pytest.raises(CallError, match="No model server") as refused:
        Placing(router()).place(CALL, "svm", 1.0)
    assert refused.value.reason is Reason.UNAVAILABLE
