"""Calls that arrive at a node, and what its policy makes of them, before a model cache in memory."""

import pytest

from ext_proc.errors import CallError
from ext_proc.node.policy import NodePolicy
from ext_proc.processing.decision import Decision, Held, Hold, Pass
from ext_proc.processing.request import BodyMode, Head
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.model_cache.books.names import Key
from mesh.model_cache.lease import Lease
from tests.mesh.model_cache.cache import Cache

HOLD_SECONDS = 60.0
HEAD = Head({":path": "/v2/models/m/infer"}, end_of_stream=False, mode=BodyMode.NONE)


def call(model: str = "m", verb: Verb = Verb.INFER, version: str | None = None, label: str | None = None) -> Call:
    return Call(InferenceProtocol.V2_REST, verb, model, version, label)


def policy_of(cache: Cache, hold_seconds: float = HOLD_SECONDS) -> NodePolicy:
    return NodePolicy(cache.manager, 1 << 20, hold_seconds)


async def outcome(policy: NodePolicy, asked: Call) -> Decision:
    """What becomes of a call, held or not."""
    decision = policy.decide(HEAD, asked, 0.0)
    return await policy.resolve(Held(HEAD, asked, ())) if isinstance(decision, Hold) else decision


async def refused(policy: NodePolicy, asked: Call) -> CallError:
    with pytest.raises(CallError) as caught:
        await outcome(policy, asked)
    return caught.value


def give_back(decision: Pass) -> None:
    """The call is over."""
    assert decision.lease is not None
    decision.lease.release()


def leased(decision: Pass) -> Key:
    assert isinstance(decision.lease, Lease)
    return decision.lease.key


def in_flight(cache: Cache) -> int:
    return sum(model.in_flight for model in cache.manager.status().models)
