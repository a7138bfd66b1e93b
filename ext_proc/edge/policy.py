"""The policy of an edge: a client's call is routed to a node, that of its session if it has one, or held for a race."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from ext_proc.batching.terms import NO_TERMS, Terms, write_terms
from ext_proc.broker.deadline import read_grpc_timeout, read_options
from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.broker.resolver import NameStep
from ext_proc.contract import (
    BACKUP_HEADER,
    CALL_HEADER,
    CLAIM_HEADER,
    HOP_HEADER,
    MAX_RETRIES_HEADER,
    MODEL_HEADER,
    PRIMARY_HEADER,
    RACE_HEADERS,
    RESIDENCY_ASK,
    RESIDENCY_HEADER,
    RETRIES_HEADER,
    SESSION_HEADER,
    SPLIT_KEY_HEADER,
    TLOC_HEADER,
)  # fmt: skip
from ext_proc.edge.gathering import EdgeGathering, called, renamed
from ext_proc.edge.held import HeldForCompany, HeldForFar, HeldForSequence, HeldRace
from ext_proc.edge.placing import Placing, UncountedPlacing
from ext_proc.edge.sessions import Session, session_of_header, session_of_sequence
from ext_proc.edge.single_plan import alone, for_target, is_of, only
from ext_proc.edge.ways import Ground
from ext_proc.known.forms import form_of, says_more
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Pass, Respond, Route, Seat
from ext_proc.processing.request import NEWEST, Head, ReplyPart, Version
from ext_proc.upstream.handing_on import handed_on
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import READS, Call, InferenceProtocol, Verb
from ext_proc.wire.naming import write_model
from ext_proc.wire.rewrite import swap_model, swap_path
from ext_proc.wire.sequences import read_sequence
from ext_proc.worker_thread import off_loop
from mesh.digits import number
from mesh.node import Node, node_behind
from mesh.residency import header as residency_header
from mesh.residency.hints import ReplyHints
from mesh.routing.placement import Placement

# What nodes tell an edge is not for clients.
_KEPT_BACK = HeaderMutation(remove=(RESIDENCY_HEADER,))
# On a candidate call it is our own.
_OWN = (CALL_HEADER, CLAIM_HEADER)
# On a call that only one node may get.
_BOUND = ((MAX_RETRIES_HEADER, "0"),)


# So many times as slow as the unpacking of bytes is the search for a sequence among fields, or in JSON.
_SEQUENCE_WORK = 16


@dataclass(slots=True)
class Insight:
    """What the decision about a call follows from: the names on its way, its plan if it has one, and the ground."""

    steps: list[NameStep] = field(default_factory=list)
    plan: Plan | None = None
    grounds: list[Ground] = field(default_factory=list)
    """One, unless the call was refused, or its body has to be read first."""


RunRace = Callable[[Held, Plan, float], Awaitable[Decision]]
"""Answers a held call by its plan; the number is the call's arrival (monotonic seconds)."""

CountUnbrokered = Callable[[Version, InferenceProtocol], None]
"""Is told of each call that goes on plainly because its Envoy, of that version, cannot hold or answer it."""


NoteForm = Callable[[str, int], bool]
"""Is told of each call that only has to be routed, and that a map could know: its model, and its `Form`.

Says whether the map has the model.
"""


SeatOf = Callable[[Call, Session, Candidate, float], tuple[Seat, Candidate]]
"""Where the call of a session goes, and as what: `Sessions.seat`."""

NoteGround = Callable[[Ground], None]
"""Is told of each call that is decided, on which ground it goes its way."""

NoteCall = Callable[[tuple[str, str | None, str | None], Node, Plan | None, float, int, float], None]
"""Is told of each call of a client that goes out to a node: name, version and label of its model, the node, its plan if
it has one, its limit (seconds), the bytes of its body (0: not known), and when (monotonic seconds).
"""


class EdgePolicy:
    """See `RequestPolicy`. Lives as long as the process; a reload replaces `model_table` and `body_limit`.

    `send_far` answers a held call that goes to a node of another zone, if its body has at most `failover_bytes`;
    without it such a call goes on by Envoy alone. `wall` is the clock that Envoy's times go by, in seconds since the
    epoch.
    """

    def __init__(
        self,
        placing: Placing,
        seat_of: SeatOf,
        run_race: RunRace,
        model_table: ModelTable,
        hop: HopMark,
        hints: ReplyHints,
        count_unbrokered: CountUnbrokered,
        wall: Callable[[], float],
        *,
        body_limit: int,
        follows_replies: bool = False,
        note_form: NoteForm | None = None,
        gathering: EdgeGathering | None = None,
        note_ground: NoteGround = lambda ground: None,
        send_far: RunRace | None = None,
        failover_bytes: int = 0,
        note_call: NoteCall | None = None,
    ) -> None:
        self._placing = placing
        self._seat_of = seat_of
        self._run_race = run_race
        self._hop = hop
        self._hints = hints
        self._count_unbrokered = count_unbrokered
        self._wall = wall
        self._seed = 0
        self._gathering = gathering
        self.model_table = model_table
        self.body_limit = body_limit
        self.follows_replies = follows_replies
        self._note_form = note_form
        self._note_ground = note_ground
        self._send_far = send_far
        self._failover_bytes = failover_bytes
        self._note_call = note_call
        self._insight: Insight | None = None
        self.envoy = NEWEST
        """The version of the Envoy that asked last."""

    def uncounted(
        self, placing: UncountedPlacing, seat_of: SeatOf, is_mapped: Callable[[str], bool], insight: Insight
    ) -> "EdgePolicy":
        """A policy that decides one call as this one would now, by parts that count nothing, and leaves no trace here.

        `insight` is told what the decision follows from.
        """
        policy = EdgePolicy(
            placing,
            seat_of,
            _no_race,
            self.model_table,
            self._hop,
            ReplyHints(placing.router.cache_map, 0.0),
            lambda envoy, protocol: None,
            self._wall,
            body_limit=self.body_limit,
            follows_replies=False,
            note_form=None if self._note_form is None else lambda model, form: is_mapped(model),
            gathering=self._gathering,
            note_ground=insight.grounds.append,
            send_far=None if self._send_far is None else _no_race,
            failover_bytes=self._failover_bytes,
        )
        policy._seed, policy._insight = self._seed, insight
        return policy

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """The nodes for a call, or a hold where it is to be raced. Raises CallError."""
        headers, self.envoy = head.headers, head.envoy
        hop = headers.get(HOP_HEADER)
        if hop is not None and (nodes := self._hop.read(hop)) is not None:
            asks = headers.get(RESIDENCY_HEADER) == RESIDENCY_ASK
            bound = _BOUND if headers.get(RETRIES_HEADER) == "0" else ()
            self._note_ground(Ground.CANDIDATE)
            return Route(nodes, headers=bound, wants_residency=call.model if asks else "", keeps=_OWN)
        named = headers.get(SESSION_HEADER)
        if named is not None:
            return self._decide(head, call, session_of_header(call, named), now)
        if call.verb is Verb.INFER and call.model in self.model_table.stateful and not head.end_of_stream:
            return Hold(collect=True, context=HeldForSequence(now, now - self._waited(head)))
        return self._decide(head, call, None, now)

    async def resolve(self, held: Held) -> Decision:
        """Decides a held call: a race, a gRPC call that is only renamed, or one whose body tells its sequence."""
        limit = self.body_limit
        if held.call.protocol.is_grpc:
            # Once, for all candidates and copies.
            held = await off_loop(held.most_plain(limit), held.unpacked, limit)
        context = held.context
        if isinstance(context, HeldForSequence):
            plain = held.most_plain(limit) if "content-encoding" in held.head.headers else held.size
            session = await off_loop(plain * _SEQUENCE_WORK, _session_in, held, limit)
            decision = self._decide(held.head, held.call, session, context.now, context.arrival)
            if not isinstance(decision, Hold):
                return decision
            context = decision.context
        if isinstance(context, HeldForCompany):
            return await self._in_company(held, context)
        if isinstance(context, HeldForFar):
            assert self._send_far is not None
            return await self._send_far(held, context.plan, context.arrival)
        assert isinstance(context, HeldRace)
        if context.seat is not None:
            held = replace(held, seat=context.seat)
        if context.plan.races or context.plan.shadows:
            return await self._run_race(held, context.plan, context.arrival)
        route = self._renamed_body(held, context.plan, context.arrival, context.placement)
        if self._send_far is not None and self._is_far(route, held.call) and held.size <= self._failover_bytes:
            _release(route)
            return await self._send_far(held, context.plan, context.arrival)
        return route

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

    def _decide(
        self, head: Head, call: Call, session: Session | None, now: float, arrival: float | None = None
    ) -> Decision:
        """The nodes for a call of this session, or of none; or a hold where its body is needed. Raises CallError.

        `arrival` is given where the call's headers came to us some time ago.
        """
        plan = self._plan(head, call, session)
        seat = None
        if session is not None:
            primary = Candidate(call.model, call.version, call.label) if plan is None else only(plan)
            seat, target = self._seat_of(call, session, primary, now)
            plan = for_target(plan, call, target)
        if self._insight is not None:
            self._insight.plan = plan
        if plan is None:
            ground = self._plain(head, call) if seat is None else Ground.SESSION
            return self._send_as_it_is(head, call, now, seat, ground)
        asks = plan.races or bool(plan.shadows)
        if asks and self._can_race(head, call):
            arrival = now - self._waited(head) if arrival is None else arrival
            asked = any(map(head.headers.__contains__, RACE_HEADERS))
            self._note_ground(Ground.HEADERS if asked else Ground.SETTINGS)
            return Hold(collect=True, context=HeldRace(plan, arrival, seat))
        ground = Ground.SESSION if seat is not None else Ground.UNBROKERED if asks else Ground.TERMS
        return self._go_on(head, call, alone(plan), now, seat, ground)

    def _plain(self, head: Head, call: Call) -> Ground:
        """Why a call that only has to be routed was not sent by the map."""
        if self._note_form is None:
            return Ground.NO_MAP
        form = form_of(head, call)
        if not form:
            return Ground.MORE
        # Of a model that the map has, only calls come that say more; unless Envoy has another map.
        mapped = self._note_form(call.model, form)
        return Ground.MORE if mapped and says_more(head, call, form) else Ground.UNMAPPED

    def _send_as_it_is(
        self, head: Head, call: Call, now: float, seat: Seat | None, ground: Ground, plan: Plan | None = None
    ) -> Decision:
        """The nodes for a call that keeps its name; or a hold where it is gathered here, for a node that does not."""
        company = self._company_for(head, call, now, seat, plan)
        if isinstance(company, Hold):
            return company
        route = self._send(head, call, call, now, seat, plan, company)
        self._note_ground(ground)
        return self._far_or(route, head, call, call, now, plan)

    def _company_for(
        self, head: Head, call: Call, now: float, seat: Seat | None, plan: Plan | None
    ) -> Hold | Placement | None:
        """The hold of a call that is gathered here; if its node gathers it instead, its nodes; otherwise None."""
        gathering = self._gathering
        if gathering is None or seat is not None:
            return None
        terms = NO_TERMS if plan is None else self._terms(head, plan)
        other = None if plan is None or is_of(call, only(plan)) else only(plan)
        wanted = call if other is None else called(call, other)
        if not gathering.wants(wanted, terms) or not self._can_race(head, call):
            return None
        placement = self._placing.pick(call, wanted.model, now)
        if not gathering.takes(placement.nodes[0]):
            return placement
        self._note_ground(Ground.BATCHING)
        self._goes_out(head, wanted, placement, plan, now)
        return Hold(collect=True, context=HeldForCompany(terms, now, placement, other))

    def _far_or(
        self, route: Route, head: Head, call: Call, wanted: Call | Candidate, now: float, plan: Plan | None
    ) -> Decision:
        """The route; or a hold where it leads to another zone, and the server can send the call itself."""
        if self._send_far is None or not self._is_far(route, call) or not self._can_hold(head, call):
            return route
        _release(route)
        if plan is None:
            limit = head.headers.get("grpc-timeout")
            limit_ms = math.inf if limit is None or not call.protocol.is_grpc else read_grpc_timeout(limit)
            plan = Plan(call.model, (Candidate(wanted.model, wanted.version, wanted.label),), limit_ms, races=False)
        context = HeldForFar(plan, now - self._waited(head))
        return Hold(True, context, self._failover_bytes, replace(route, lease=None))

    def _is_far(self, route: Route, call: Call) -> bool:
        """Whether it leads to a node of another zone, and the call may be asked of another node, too."""
        bound = _BOUND[0] in route.headers
        return call.verb in READS and not bound and node_behind(route.nodes[0]) is not None

    async def _in_company(self, held: Held, wanted: HeldForCompany) -> Respond:
        assert self._gathering is not None
        nodes = wanted.placement.endpoints(held.call.protocol.kind)
        lease = self._placing.lease(wanted.placement)
        if wanted.renamed is not None:
            held = renamed(held, wanted.renamed)
        try:
            response = await self._gathering.ask(held, wanted.terms, wanted.now, nodes)
        finally:
            lease.release()
        return handed_on(response, held.call.protocol)

    def _send(
        self,
        head: Head,
        call: Call,
        wanted: Call | Candidate,
        now: float,
        seat: Seat | None,
        plan: Plan | None = None,
        placement: Placement | None = None,
    ) -> Route:
        """The nodes for a call that goes out now, for the model that it is to be of.

        Nodes with the node role are told what the plan says of the call's time and its company.
        """
        model = wanted.model
        told: tuple[tuple[str, str], ...] = ()
        if seat is None:
            limit = math.inf if plan is None else plan.limit_ms / 1000 - self._waited(head)
            placement = placement or self._placing.pick(call, model, now, limit)
        else:
            placement = self._placing.at(call, seat.node_id, model, now)
            told = (*_BOUND, (CLAIM_HEADER, seat.claim)) if seat.claim else _BOUND
        self._goes_out(head, wanted, placement, plan, now)
        nodes, endpoints = placement.nodes, placement.endpoints(call.protocol.kind)
        if call.protocol.is_grpc and (wanted is not call if MODEL_HEADER in head.headers else _ours(nodes)):
            told += ((MODEL_HEADER, write_model(model, wanted.version, wanted.label)),)
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

    def _plan(self, head: Head, call: Call, session: Session | None) -> Plan | None:
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
        if session is not None and options.key is None:
            options = replace(options, key=session.key.hex())
        trail = None if self._insight is None else self._insight.steps
        return self.model_table.plan(call, options, self._seed, bound=session is not None, trail=trail)

    def _can_race(self, head: Head, call: Call) -> bool:
        """Whether the call has a body, and its Envoy can hold and answer it; one that cannot is counted."""
        if self._can_hold(head, call):
            return True
        if not head.end_of_stream:  # without a body there is nothing to predict; the node says so
            self._count_unbrokered(head.envoy, call.protocol)
        return False

    def _can_hold(self, head: Head, call: Call) -> bool:
        """Whether the call has a body, and its Envoy can hold and answer it."""
        if head.end_of_stream:
            return False
        return head.body_can_come and (head.streams_answers or not call.protocol.is_grpc)

    def _go_on(self, head: Head, call: Call, plan: Plan, now: float, seat: Seat | None, ground: Ground) -> Decision:
        """The call goes on, to another name where it has one: an alias, a label or a split."""
        model = only(plan)
        if is_of(call, model):
            return self._send_as_it_is(head, call, now, seat, ground, plan)
        company = self._company_for(head, call, now, seat, plan)
        if isinstance(company, Hold):
            return company
        ground = Ground.RENAMED if ground is Ground.TERMS else ground
        if call.protocol.is_grpc:
            if head.body_can_come:
                self._note_ground(ground)
                return Hold(collect=True, context=HeldRace(plan, now, seat, company))
            route = self._send(head, call, call, now, seat, plan)
            self._note_ground(ground)
            return route
        path = swap_path(call, head.headers[":path"], model.model, model.version, model.label)
        route = self._send(head, call, model, now, seat, plan, company)
        route = replace(route, headers=((":path", path), *route.headers))
        self._note_ground(ground)
        return self._far_or(route, head, call, model, now, plan)

    def _renamed_body(self, held: Held, plan: Plan, now: float, placement: Placement | None) -> Route:
        """A gRPC call with another name in its message. Raises CallError."""
        assert held.message is not None
        model = only(plan)
        body = swap_model(held.call, held.message, model.model, model.version, model.label)
        return replace(self._send(held.head, held.call, model, now, held.seat, plan, placement), body=body)

    def _goes_out(
        self, head: Head, wanted: Call | Candidate, placement: Placement, plan: Plan | None, now: float
    ) -> None:
        """See `NoteCall`."""
        if self._note_call is not None:
            limit = math.inf if plan is None else plan.limit_ms / 1000
            size = number(head.headers.get("content-length", ""), 15) or 0
            model = (wanted.model, wanted.version, wanted.label)
            self._note_call(model, placement.nodes[0], plan, limit, size, now)


async def _no_race(held: Held, plan: Plan, arrival: float) -> Decision:
    raise AssertionError("a call that is only explained is never resolved")


def _release(route: Route) -> None:
    """The call goes another way than this one, and is counted anew there."""
    if route.lease is not None:
        route.lease.release()


def _session_in(held: Held, limit: int) -> Session | None:
    """The session of a held call whose body names a sequence. Raises CallError."""
    body = b"".join(held.chunks) if held.message is None else held.message
    part = read_sequence(held.call, held.head.headers, body, limit)
    return None if part is None else session_of_sequence(held.call, part)


def _ours(nodes: tuple[Node, ...]) -> bool:
    """Whether one of them has the node role: told the model by a header, it need not read the body for it."""
    return any(node.residency is not None for node in nodes)
