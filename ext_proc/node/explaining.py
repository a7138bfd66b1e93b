"""What this node would do with a call, and why: its way by the policy itself, residency and leases by the books."""

from dataclasses import asdict
from typing import cast

from ext_proc.admin.call_to_explain import named_call, read_head, refusal_of
from ext_proc.admin.documents import ModelVersionStatus
from ext_proc.admin.explanation import CallToExplain, NodeExplanation, Refusal
from ext_proc.errors import CallError
from ext_proc.node.policy import NodePolicy
from ext_proc.node.ways import NodeWay
from ext_proc.processing.request import NEWEST
from ext_proc.wire.call import Call
from mesh.model_cache.books.status import ModelStatus
from mesh.model_cache.manager import Manager

_WORDS = {
    NodeWay.RESIDENT: "Its model is in the model server: it passes at once, with a lease until its reply has ended.",
    NodeWay.HELD: "Its model is not in the model server: the call waits until it is fetched and loaded.",
    NodeWay.GATHERED: "Its model's calls are gathered here, or it asks for company: it goes on in a batch.",
    NodeWay.PASSED: "It asks for no inference of a model, or only for states: it brings no model.",
}


def version_status(model: ModelStatus) -> ModelVersionStatus:
    """One model version as the documents have it."""
    return cast(ModelVersionStatus, asdict(model) | {"needs": list(model.needs)})


class NodeExplainer:
    """Explains calls to the model server of this node."""

    def __init__(self, policy: NodePolicy, manager: Manager) -> None:
        self._policy = policy
        self._manager = manager

    def explain(self, asked: CallToExplain) -> NodeExplanation:
        """Which way the call would go now, and why. Raises TbmsError for a call that does not say its model."""
        try:
            head, call = read_head(asked, NEWEST)
        except CallError as error:
            return _told(NodeWay.REFUSED, error.message, None, refusal_of(error))
        if call is None:
            return _told(NodeWay.PASSED, _WORDS[NodeWay.PASSED], None)
        manager, report = self._manager, self._manager.node_report
        way = self._policy.foresee(head, call)
        told = _told(way, _WORDS[way], call)
        residency, told["leaving"] = report.standing(call.model)
        told["residency"] = residency.name.lower()
        told["versions"] = [version_status(each) for each in manager.versions_of(call.model)]
        if way is not NodeWay.PASSED:
            told["resident"] = manager.would_acquire(call.model, call.version, call.label)
            told["load_seconds"] = (
                0.0 if told["resident"] else report.expected_load_seconds(call.model, call.version, call.label)
            )
        return told


def _told(way: NodeWay, why: str, call: Call | None, refusal: Refusal | None = None) -> NodeExplanation:
    return {
        "role": "node",
        "way": way,
        "why": why,
        "call": named_call(call),
        "resident": None,
        "load_seconds": None,
        "residency": None,
        "leaving": False,
        "versions": [],
        "refusal": refusal,
    }
