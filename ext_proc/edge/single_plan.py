"""Plans that ask one model and are no race."""

import math
from dataclasses import replace

from ext_proc.broker.plan import Candidate, Plan, members
from ext_proc.wire.call import Call


def only(plan: Plan) -> Candidate:
    """The candidate of a plan that is not raced: the primary, or the first member of its mix."""
    return members(plan.candidates[0])[0]


def alone(plan: Plan) -> Plan:
    """The plan of a call that is not raced: to the primary, without a limit of ours. One that was asked for is told."""
    limit_ms = plan.limit_ms if plan.races else math.inf
    return replace(plan, candidates=(only(plan),), limit_ms=limit_ms, shadows=(), races=False)


def for_target(plan: Plan | None, call: Call, target: Candidate) -> Plan | None:
    """The plan of a call of a session, made to ask the model that its first call was made to mean."""
    if plan is not None:
        return replace(plan, candidates=(replace(target, estimate_ms=only(plan).estimate_ms),))
    if is_of(call, target):
        return None
    return Plan(call.model, (target,), limit_ms=math.inf, races=False)


def is_of(call: Call, model: Candidate) -> bool:
    """Whether the call names that model itself."""
    return (model.model, model.version, model.label) == (call.model, call.version, call.label)
