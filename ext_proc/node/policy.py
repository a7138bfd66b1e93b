"""The node role: holds a call until its model is loaded, and lets it pass."""

import asyncio

from ext_proc.contract import RESIDENCY_ASK, RESIDENCY_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.node.caller_deadline import patience
from ext_proc.node.refusals import refusal
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Pass, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.wire.call import Call, Verb
from mesh.model_cache.errors import BadName, CacheError
from mesh.model_cache.manager import Manager
from mesh.residency import header as residency_header

# Questions about what is loaded are answered as it is; every other call brings its model.
_ASKS_ONLY = frozenset({Verb.STATUS, Verb.STATISTICS})

# What a model server answers, or Envoy in its place, when it is away, or was started again and has lost its models.
_DOUBTFUL_HTTP, _DOUBTFUL_GRPC = frozenset({404, 503}), frozenset({5, 14})


class NodePolicy:
    """Decides about calls that arrive at this node. A hit is one look-up in memory, and asks nobody."""

    # The lease on a model is held until the reply has ended.
    follows_replies = True

    def __init__(self, manager: Manager, body_limit: int, hold_seconds: float) -> None:
        self._manager = manager
        self._node_report = manager.node_report
        self._hold_seconds = hold_seconds
        self.body_limit = body_limit

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """Passes a call for a resident model; holds one for a model that has to come first."""
        if call.verb in _ASKS_ONLY:
            return Pass()
        lease = self._manager.try_acquire(call.model, call.version, call.label)
        return Hold() if lease is None else Pass(lease)

    async def resolve(self, held: Held) -> Decision:
        """Waits until the model is there. Raises CallError; whoever stops waiting does not stop the load."""
        call = held.call
        limit = patience(held.head.headers)
        try:
            async with asyncio.timeout(min(limit, self._hold_seconds)):
                return Pass(await self._manager.ensure(call.model, call.version, call.label))
        except TimeoutError:
            if limit <= self._hold_seconds:
                late = f"Model {call.model!a} was not loaded within the call's limit of {1000 * limit:g} ms."
                raise CallError(Reason.DEADLINE, late) from None
            raise CallError(Reason.UNAVAILABLE, f"Model {call.model!a} is still being loaded.", 1.0) from None
        except CacheError as error:
            if call.verb is Verb.READY and not isinstance(error, BadName):
                return Pass()  # the model server says "not ready" in its own words
            raise refusal(error) from None

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        """Has the model server looked at if it seems to lack what it should hold; else tells how the model stands."""
        if decision.lease is None:
            return None
        if reply.status in _DOUBTFUL_HTTP or reply.grpc_status in _DOUBTFUL_GRPC:
            self._manager.suspect_server()
            return None
        if head.headers.get(RESIDENCY_HEADER) != RESIDENCY_ASK:
            return None
        word = residency_header.write_word(*self._node_report.standing(call.model))
        return HeaderMutation(headers=((RESIDENCY_HEADER, word),))
