"""The node's policy: a call whose model is not loaded is held until it is, every other call passes."""

import asyncio

from ext_proc.contract import CLAIM_HEADER, RESIDENCY_ASK, RESIDENCY_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.grpc_status import GrpcStatus
from ext_proc.node.caller_deadline import remaining_seconds
from ext_proc.node.refusals import refusal
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Lease, Pass, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.wire.call import Call, Verb
from mesh.model_cache.errors import BadName, CacheError
from mesh.model_cache.lease import Lease as ModelLease
from mesh.model_cache.manager import Manager
from mesh.residency import header as residency_header
from mesh.session_claim import SessionClaim, read_claim

# These ask what is loaded, and load nothing themselves; every other call brings its model.
_STATE_VERBS = frozenset({Verb.STATUS, Verb.STATISTICS})

# What a model server answers, or Envoy in its place, when it is away, or was started again and has lost its models.
_SUSPECT_HTTP = frozenset({404, 503})
_SUSPECT_GRPC = frozenset({GrpcStatus.NOT_FOUND, GrpcStatus.UNAVAILABLE})


class NodePolicy:
    """See `ext_proc.processing.policy.RequestPolicy`. A call for a resident model is one look-up in memory."""

    # The lease on a model is held until the reply has ended.
    follows_replies = True

    def __init__(self, manager: Manager, body_limit: int, hold_seconds: float) -> None:
        """`body_limit` is in bytes; `hold_seconds` is the longest time that any call is held."""
        self._manager = manager
        self._node_report = manager.node_report
        self._hold_seconds = hold_seconds
        self.body_limit = body_limit

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """Pass with a lease on a resident model; Hold for a model that has to be loaded first."""
        if call.verb in _STATE_VERBS:
            return Pass()
        claim = read_claim(head.headers.get(CLAIM_HEADER))
        lease = None if claim is None else self._manager.acquire_again(claim, call.model)
        if lease is None:
            lease = self._manager.try_acquire(call.model, call.version, call.label)
        return Hold() if lease is None else Pass(self._joined(claim, lease))

    async def resolve(self, held: Held) -> Decision:
        """Pass once the model is loaded. Raises CallError. A cancellation ends the wait, and never the load."""
        call = held.call
        remaining = remaining_seconds(held.head.headers)
        try:
            async with asyncio.timeout(min(remaining, self._hold_seconds)):
                lease = await self._manager.ensure(call.model, call.version, call.label)
                return Pass(self._joined(read_claim(held.head.headers.get(CLAIM_HEADER)), lease))
        except TimeoutError:
            if remaining <= self._hold_seconds:
                late = f"Model {call.model!a} was not loaded within the call's limit of {1000 * remaining:g} ms."
                raise CallError(Reason.DEADLINE, late) from None
            raise CallError(Reason.UNAVAILABLE, f"Model {call.model!a} is still being loaded.", 1.0) from None
        except CacheError as error:
            if call.verb is Verb.READY and not isinstance(error, BadName):
                return Pass()  # the model server says "not ready" in its own words
            raise refusal(error) from None

    def _joined(self, claim: SessionClaim | None, lease: ModelLease) -> Lease:
        """The lease of a call, of that session if there is one."""
        return lease if claim is None else self._manager.sessions.join(claim, lease)

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        """Tells an edge that asked for it the model's residency, in the header `x-tbms-residency`.

        A status that a model server without its models would give has the cache look at the model server instead.
        """
        if decision.lease is None:
            return None
        if reply.status in _SUSPECT_HTTP or reply.grpc_status in _SUSPECT_GRPC:
            self._manager.suspect_server()
            return None
        if head.headers.get(RESIDENCY_HEADER) != RESIDENCY_ASK:
            return None
        word = residency_header.write_word(*self._node_report.standing(call.model))
        return HeaderMutation(headers=((RESIDENCY_HEADER, word),))
