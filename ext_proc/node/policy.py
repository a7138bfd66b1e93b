"""The node's policy: a call whose model is not loaded is held until it is, every other call passes."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from ext_proc.batching.terms import Terms, read_terms, remaining_seconds
from ext_proc.contract import CLAIM_HEADER, RESIDENCY_ASK, RESIDENCY_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.gathering.company import GATHERED_VERBS
from ext_proc.known.forms import form_of
from ext_proc.node.refusals import refusal
from ext_proc.node.ways import NodeWay
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Lease, Pass, Respond, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.upstream.client import Response
from ext_proc.upstream.handing_on import handed_on
from ext_proc.upstream.verdict import is_lacking
from ext_proc.wire.call import Call, Verb
from ext_proc.worker_thread import off_loop
from mesh.model_cache.errors import BadName, CacheError
from mesh.model_cache.lease import Lease as ModelLease
from mesh.model_cache.manager import Manager
from mesh.residency import header as residency_header
from mesh.session_claim import SessionClaim, read_claim
from mesh.trace_context import TraceContext

# These ask what is loaded, and load nothing themselves; every other call brings its model.
_STATE_VERBS: Final = frozenset({Verb.STATUS, Verb.STATISTICS})

TraceHold = Callable[[TraceContext, Call], AbstractContextManager[TraceContext]]
"""A span, for the length of a block, below that one: a call waits for its model."""

WentWell = Callable[[str, int, float], None]
"""Told of a call that needed no decision and was answered: model, form (`ext_proc.known.forms`), time."""


@dataclass(slots=True, init=False)
class ToGather:
    """What the node keeps of a call whose body is awaited: its terms, and when it arrived (monotonic seconds)."""

    terms: Final[Terms]
    arrived: Final[float]

    def __init__(self, terms: Terms, arrived: float) -> None:
        self.terms = terms
        self.arrived = arrived


class Gathers(Protocol):
    """Answers calls out of replies to batches; `Gatherer`, but for tests."""

    def wants(self, model: str, terms: Terms) -> bool:
        """Whether a call is to be gathered."""

    async def ask(self, held: Held, terms: Terms, arrived: float, *, server_batches: bool) -> Response:
        """The reply to a call that came at `arrived`. Raises CallError."""


class NodePolicy:
    """See `ext_proc.processing.policy.RequestPolicy`. A call for a resident model is one look-up in memory."""

    # The lease on a model is held until the reply has ended.
    follows_replies = True

    def __init__(
        self,
        manager: Manager,
        body_limit: int,
        hold_seconds: float,
        gatherer: Gathers | None = None,
        went_well: WentWell | None = None,
        trace_hold: TraceHold | None = None,
    ) -> None:
        """`body_limit` is in bytes; `hold_seconds` is the longest time that any call is held for its model.

        With a `gatherer` some calls are answered by us, out of the reply to a batch. `trace_hold` where calls are
        traced.
        """
        self._manager = manager
        self._node_report = manager.node_report
        self._hold_seconds = hold_seconds
        self._gatherer = gatherer
        self._went_well = went_well
        self._trace_hold = trace_hold
        self.body_limit = body_limit

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """Pass with a lease on a resident model; Hold for a model that has to be loaded first."""
        if call.verb in _STATE_VERBS:
            return Pass()
        claim = read_claim(head.headers.get(CLAIM_HEADER))
        terms = self._to_gather(head, call, claim)
        if terms is not None:
            return Hold(collect=True, context=ToGather(terms, now))
        lease = None if claim is None else self._manager.acquire_again(claim, call.model)
        if lease is None:
            lease = self._manager.try_acquire(call.model, call.version, call.label)
        return Hold() if lease is None else Pass(self._joined(claim, lease))

    def foresee(self, head: Head, call: Call) -> NodeWay:
        """Which way `decide` would let the call go now. Counts nothing.

        Of a session it is not asked whether it holds a model that takes no new calls any more.
        """
        if call.verb in _STATE_VERBS:
            return NodeWay.PASSED
        if self._to_gather(head, call, read_claim(head.headers.get(CLAIM_HEADER))) is not None:
            return NodeWay.GATHERED
        resident = self._manager.would_acquire(call.model, call.version, call.label)
        return NodeWay.RESIDENT if resident else NodeWay.HELD

    def _to_gather(self, head: Head, call: Call, claim: SessionClaim | None) -> Terms | None:
        """The terms of a call that is to be gathered. What belongs to a session shares no batch."""
        if claim is not None or self._gatherer is None or call.verb not in GATHERED_VERBS:
            return None
        if not _can_be_answered(head, call):
            return None
        terms = read_terms(head.headers)
        return terms if self._gatherer.wants(call.model, terms) else None

    async def resolve(self, held: Held) -> Decision:
        """Pass once the model is loaded, or the answer of a call that is gathered.

        Raises CallError. A cancellation ends the wait, and never the load.
        """
        if isinstance(held.context, ToGather):
            return await self._gather(held, held.context)
        try:
            lease = await self._loaded(held)
            return Pass(self._joined(read_claim(held.head.headers.get(CLAIM_HEADER)), lease))
        except CacheError as error:
            if held.call.verb is Verb.READY and not isinstance(error, BadName):
                return Pass()  # the model server says "not ready" in its own words
            raise refusal(error) from None

    async def _gather(self, held: Held, wanted: ToGather) -> Respond:
        """The answer to a call that waits for company; its model stays loaded for so long."""
        assert self._gatherer is not None
        call = held.call
        try:
            lease = self._manager.try_acquire(call.model, call.version, call.label) or await self._loaded(held)
        except CacheError as error:
            raise refusal(error) from None
        try:
            if call.protocol.is_grpc:
                limit = self.body_limit
                held = await off_loop(held.most_plain(limit), held.unpacked, limit)
            batches = bool(lease.entry.batcher)
            response = await self._gatherer.ask(held, wanted.terms, wanted.arrived, server_batches=batches)
        finally:
            lease.release()
        change = self._heard(held.head, call, response.status, response.grpc_status)
        told = () if change is None else tuple((key, value.encode("ascii")) for key, value in change.headers)
        return handed_on(response, call.protocol, told)

    async def _loaded(self, held: Held) -> ModelLease:
        """A lease on the model, loaded within the call's limit. Raises CallError and CacheError."""
        if self._trace_hold is None or held.trace is None:
            return await self._ensured(held, None)
        with self._trace_hold(held.trace, held.call) as span:
            return await self._ensured(held, span)

    async def _ensured(self, held: Held, span: TraceContext | None) -> ModelLease:
        call = held.call
        remaining = remaining_seconds(held.head.headers)
        try:
            async with asyncio.timeout(min(remaining, self._hold_seconds)):
                return await self._manager.ensure(call.model, call.version, call.label, span)
        except TimeoutError:
            if remaining <= self._hold_seconds:
                late = f"Model {call.model!a} was not loaded within the call's limit of {1000 * remaining:g} ms."
                raise CallError(Reason.DEADLINE, late) from None
            raise CallError(Reason.UNAVAILABLE, f"Model {call.model!a} is still being loaded.", 1.0) from None

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
        status, grpc_status = reply.status, reply.grpc_status
        if self._went_well is not None and _is_good(call, reply, status, grpc_status) and (form := form_of(head, call)):
            self._went_well(call.model, form, now)
        return self._heard(head, call, status, grpc_status)

    def _heard(self, head: Head, call: Call, status: int, grpc_status: int) -> HeaderMutation | None:
        if is_lacking(status, grpc_status):
            self._manager.suspect_server()
            return None
        if head.headers.get(RESIDENCY_HEADER) != RESIDENCY_ASK:
            return None
        word = residency_header.write_word(*self._node_report.standing(call.model))
        return HeaderMutation(headers=((RESIDENCY_HEADER, word),))


def _is_good(call: Call, reply: ReplyPart, status: int, grpc_status: int) -> bool:
    """Whether the call has been answered: of gRPC's the end of the reply tells."""
    return reply.ends and grpc_status == 0 if call.protocol.is_grpc else status == 200


def _can_be_answered(head: Head, call: Call) -> bool:
    """Whether its Envoy gives the body away, and takes an answer of ours."""
    if head.end_of_stream or not head.body_can_come:
        return False
    return head.streams_answers or not call.protocol.is_grpc
