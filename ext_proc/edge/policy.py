"""The policy of an edge: a client's call is routed to a node at once, renamed, or held for a race."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from ext_proc.batching.terms import NO_TERMS, Terms, write_terms
from ext_proc.broker.deadline import read_options
from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.plan import Candidate, Plan, members
from ext_proc.contract import (
    BACKUP_HEADER,
    CALL_HEADER,
    HOP_HEADER,
    MODEL_HEADER,
    PRIMARY_HEADER,
    RESIDENCY_HEADER,
    SPLIT_KEY_HEADER,
    TLOC_HEADER,
)  # fmt: skip
from ext_proc.edge.placing import Placing
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Pass, Route
from ext_proc.processing.request import Head, ReplyPart, Version
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call, InferenceProtocol
from ext_proc.wire.naming import write_model
from ext_proc.wire.rewrite import swap_model, swap_path
from ext_proc.worker_thread import off_loop
from mesh.node import Node
from mesh.residency import header as residency_header
from mesh.residency.hints import ReplyHints

# What nodes tell an edge is not for clients.
_KEPT_BACK = HeaderMutation(remove=(RESIDENCY_HEADER,))
# On a candidate call it is our own.
_OWN = (CALL_HEADER,)


@dataclass(frozen=True, slots=True)
class HeldRace:
    """What the edge keeps of a held call: its plan, and when it arrived at Envoy (monotonic seconds)."""

    plan: Plan
    arrival: float


RunRace = Callable[[Held, Plan, float], Awaitable[Decision]]
"""Answers a held call by its plan; the number is the call's arrival (monotonic seconds)."""

CountUnbrokered = Callable[[Version, InferenceProtocol], None]
"""Is told of each call that goes on plainly because its Envoy, of that version, cannot hold or answer it."""


class EdgePolicy:
    """See `RequestPolicy`. Lives as long as the process; a reload replaces `model_table` and `body_limit`.

    `wall` is the clock that Envoy's times go by, in seconds since the epoch.
    """

    def __init__(
        self,
        placing: Placing,
        run_race: RunRace,
        model_table: ModelTable,
        hop: HopMark,
        hints: ReplyHints,
        count_unbrokered: CountUnbrokered,
        wall: Callable[[], float],
        *,
        body_limit: int,
        follows_replies: bool = False,
    ) -> None:
        self._placing = placing
        self._run_race = run_race
        self._hop = hop
        self._hints = hints
        self._count_unbrokered = count_unbrokered
        self._wall = wall
        self._seed = 0
        self.model_table = model_table
        self.body_limit = body_limit
        self.follows_replies = follows_replies

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """The nodes for a call, or a hold where it is to be raced. Raises CallError."""
        headers = head.headers
        hop = headers.get(HOP_HEADER)
        if hop is not None and (nodes := self._hop.read(hop)) is not None:
            asked = call.model if self._wants_residency(nodes, call.model, now) else ""
            return Route(nodes, wants_residency=asked, keeps=_OWN)
        plan = self._plan(head, call)
        if plan is None:
            return self._send(head, call, call, now)
        if (plan.races or plan.shadows) and self._can_race(head, call):
            return Hold(collect=True, context=HeldRace(plan, now - self._waited(head)))
        return self._go_on(head, call, _alone(plan), now)

    async def resolve(self, held: Held) -> Decision:
        """Decides a held call: a race, or a gRPC call that is only renamed."""
        context = held.context
        assert isinstance(context, HeldRace)
        if held.call.protocol.is_grpc:
            # Once, for all candidates and copies.
            limit = self.body_limit
            held = await off_loop(held.most_plain(limit), held.unpacked, limit)
        if context.plan.races or context.plan.shadows:
            return await self._run_race(held, context.plan, context.arrival)
        return self._renamed_body(held, context.plan, context.arrival)

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        """Takes in what a node says of the model that it was asked about, and keeps it back."""
        if not isinstance(decision, Route) or not decision.wants_residency:
            return None
        word = residency_header.read_word(reply.value(RESIDENCY_HEADER))
        if word is not None:
            self._hints.told(reply.upstream, decision.wants_residency, *word, now)
        return _KEPT_BACK

    def _send(self, head: Head, call: Call, wanted: Call | Candidate, now: float, plan: Plan | None = None) -> Route:
        """The nodes for a call that goes out now, for the model that it is to be of.

        Nodes with the node role are told what the plan says of the call's time and its company.
        """
        model = wanted.model
        placement = self._placing.pick(call, model, now)
        nodes, endpoints = placement.nodes, placement.endpoints(call.protocol.kind)
        told: tuple[tuple[str, str], ...] = ()
        if call.protocol.is_grpc and (wanted is not call if MODEL_HEADER in head.headers else _ours(nodes)):
            told = ((MODEL_HEADER, write_model(model, wanted.version, wanted.label)),)
        if plan is not None and (terms := self._terms(head, plan)) != NO_TERMS and _ours(nodes):
            told += ((CALL_HEADER, write_terms(terms)),)
        # Of a plain call nothing more is heard, unless its stream lasts until the reply.
        lease = self._placing.lease(placement) if self.follows_replies else None
        return Route(
            endpoints, lease, told, wants_residency=model if self._wants_residency(endpoints, model, now) else ""
        )

    def _wants_residency(self, nodes: tuple[str, ...], model: str, now: float) -> bool:
        """Whether the first of `nodes` is to be asked about the model. Costs nothing while all nodes are heard."""
        return bool(self._hints.silent) and self._hints.wants_residency(nodes[0], model, now)

    def _waited(self, head: Head) -> float:
        """Seconds since the call came to Envoy: the time that it waited for us is part of its limit."""
        return 0.0 if head.received is None else max(0.0, self._wall() - head.received)

    def _terms(self, head: Head, plan: Plan) -> Terms:
        """What a node is told of a call that goes out now, and plainly."""
        left_ms = plan.limit_ms - 1000 * self._waited(head)
        return Terms(left_ms, plan.cross_lag_ms, plan.cross_request, plan.priority)

    def _plan(self, head: Head, call: Call) -> Plan | None:
        """What to do with the call, where it is not just routed. Raises CallError for headers that cannot hold."""
        get = head.headers.get
        options = read_options(
            tloc=get(TLOC_HEADER),
            backup=get(BACKUP_HEADER),
            primary=get(PRIMARY_HEADER),
            key=get(SPLIT_KEY_HEADER),
            grpc_timeout=get("grpc-timeout"),
        )
        self._seed += 1
        return self.model_table.plan(call, options, self._seed)

    def _can_race(self, head: Head, call: Call) -> bool:
        """Whether the call has a body, and its Envoy can hold and answer it; one that cannot is counted."""
        if head.end_of_stream:  # without a body there is nothing to predict; the node says so
            return False
        if head.body_can_come and (head.streams_answers or not call.protocol.is_grpc):
            return True
        self._count_unbrokered(head.envoy, call.protocol)
        return False

    def _go_on(self, head: Head, call: Call, plan: Plan, now: float) -> Decision:
        """The call goes on, to another name where it has one: an alias, a label or a split."""
        model = _only(plan)
        if (model.model, model.version, model.label) == (call.model, call.version, call.label):
            return self._send(head, call, call, now, plan)
        if call.protocol.is_grpc:
            if head.body_can_come:
                return Hold(collect=True, context=HeldRace(plan, now))
            return self._send(head, call, call, now, plan)
        path = swap_path(call, head.headers[":path"], model.model, model.version, model.label)
        route = self._send(head, call, model, now, plan)
        return replace(route, headers=((":path", path), *route.headers))

    def _renamed_body(self, held: Held, plan: Plan, now: float) -> Route:
        """A gRPC call with another name in its message. Raises CallError."""
        assert held.message is not None
        model = _only(plan)
        body = swap_model(held.call, held.message, model.model, model.version, model.label)
        return replace(self._send(held.head, held.call, model, now, plan), body=body)


def _alone(plan: Plan) -> Plan:
    """The plan of a call that is not raced: to the primary, without a limit of ours. One that was asked for is told."""
    limit_ms = plan.limit_ms if plan.races else math.inf
    return replace(plan, candidates=(_only(plan),), limit_ms=limit_ms, shadows=(), races=False)


def _ours(nodes: tuple[Node, ...]) -> bool:
    """Whether one of them has the node role: told the model by a header, it need not read the body for it."""
    return any(node.residency is not None for node in nodes)


def _only(plan: Plan) -> Candidate:
    """The candidate of a plan that is not raced: the primary, or the first member of its mix."""
    return members(plan.candidates[0])[0]
