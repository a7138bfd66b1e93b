"""What this edge would do with a call, and why: decided by the policy itself, over parts that count nothing."""

from collections.abc import Callable, Iterable

from ext_proc.admin.call_to_explain import named_call, read_head, refusal_of
from ext_proc.admin.explanation import (
    CallToExplain,
    CandidateExplanation,
    EdgeExplanation,
    MapExplanation,
    NameStep,
    NodeReasons,
    RankExplanation,
    Refusal,
)
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate, Mix, Plan, members
from ext_proc.broker.ranks import ranks_of
from ext_proc.broker.resolver import NameStep as Step
from ext_proc.broker.schedule import micros
from ext_proc.edge.held import HeldForSequence
from ext_proc.edge.placing import UncountedPlacing
from ext_proc.edge.policy import EdgePolicy, Insight
from ext_proc.edge.sessions import Session, Sessions
from ext_proc.edge.ways import Ground, Way, way_of
from ext_proc.errors import CallError
from ext_proc.known.forms import form_of, says_more
from ext_proc.known.keeper import MapKeeper
from ext_proc.processing.decision import Decision, Hold, Route, Seat
from ext_proc.processing.request import Head
from ext_proc.wire.call import Call
from mesh.known_map import PARTS
from mesh.node import Node, ProtocolKind
from mesh.residency.state import Residency
from mesh.routing.known import Absence, KnownModels
from mesh.routing.placement import NodeStanding
from mesh.routing.router import Router

_WORDS = {
    Ground.NO_MAP: "The server names its nodes: no map of known calls is kept here ({}).",
    Ground.UNMAPPED: "The server names its nodes.",
    Ground.MORE: "The server names its nodes: the call says or asks for more than a map knows, which is the plain name "
    "of a model in its usual spelling.",
    Ground.SESSION: "The call belongs to a session, whose calls all go to one node.",
    Ground.RENAMED: "The models section gives it another name, under which it goes on.",
    Ground.TERMS: "It goes on as it is, and its node is told how it may share a batch.",
    Ground.UNBROKERED: "It has no body, or an Envoy that cannot hold it, so it is not raced but sent to the primary.",
    Ground.CANDIDATE: "It is a candidate of a race of this server.",
    Ground.HEADERS: "Its own headers (tloc, backup, primary) ask for a race.",
    Ground.SETTINGS: "The models section has a limit, backups, a fallback or a shadow for it.",
    Ground.BATCHING: "Its model's calls are gathered at this edge, or it asks for company.",
}
_SEQUENCE = "Its model is stateful: its body is read, and if it names a sequence, the call goes to the node of that."
_ABSENCES = {
    Absence.DECISION: "The map leaves its model out: its calls need a decision.",
    Absence.NOT_HELD: "The map leaves its model out: the node that it would go to has not said that it holds it.",
    Absence.NOT_CALLED: "The map leaves its model out: no such call has come lately; this one would bring it in.",
    Absence.WAITS: "Its model comes into the map with its next version, if that has room for it.",
}


class EdgeExplainer:
    """Explains calls. `clock` in seconds, monotonic; `probe_failure` says why a node's last probe failed.

    `margin_ms` is that of races; `known_off` says why there is no keeper of a map, where there is none.
    """

    def __init__(
        self,
        policy: EdgePolicy,
        router: Router,
        sessions: Sessions,
        estimates: Estimates,
        margin_ms: float,
        keeper: MapKeeper[KnownModels] | None,
        known_off: str | None,
        probe_failure: Callable[[str], str | None],
        clock: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._router = router
        self._sessions = sessions
        self._estimates = estimates
        self._margin_ms = margin_ms
        self._keeper = keeper
        self._known_off = known_off
        self._probe_failure = probe_failure
        self._clock = clock

    def explain(self, asked: CallToExplain) -> EdgeExplanation:
        """Which way the call would go now, and why. Raises TbmsError for a call that does not say its model."""
        try:
            head, call = read_head(asked, self._policy.envoy)
        except CallError as error:
            return _told(Way.REFUSED, "", error.message, None, refusal=refusal_of(error))
        if call is None:
            return _told(Way.PASSED, "", "It asks for no inference of a model, and goes on untouched.", None)
        return _Explaining(self, head, call).explain()


class _Explaining:
    """One call that is explained."""

    def __init__(self, explainer: EdgeExplainer, head: Head, call: Call) -> None:
        self._of = explainer
        self._head = head
        self._call = call
        self._now = explainer._clock()
        self._placing = UncountedPlacing(explainer._router)
        self._insight = Insight()
        self._seat: Seat | None = None

    def explain(self) -> EdgeExplanation:
        of, call = self._of, self._call
        policy = of._policy.uncounted(self._placing, self._seated, self._is_mapped, self._insight)
        try:
            decision = policy.decide(self._head, call, self._now)
        except CallError as error:
            return self._refused(error)
        return self._explained(decision)

    def _seated(self, call: Call, session: Session, primary: Candidate, now: float) -> tuple[Seat, Candidate]:
        self._seat, target = self._of._sessions.would_seat(call, session, primary, now)
        return self._seat, target

    def _is_mapped(self, model: str) -> bool:
        keeper = self._of._keeper
        return keeper is not None and model in keeper.known

    def _refused(self, error: CallError) -> EdgeExplanation:
        told = _told(Way.REFUSED, "", error.message, self._call, names=self._insight.steps, refusal=refusal_of(error))
        told["nodes"] = self._nodes(self._call.model, ())
        return told

    def _explained(self, decision: Decision) -> EdgeExplanation:
        call = self._call
        context = decision.context if isinstance(decision, Hold) else None
        if isinstance(context, HeldForSequence):
            return _told(Way.DECIDED, Ground.SESSION, _SEQUENCE, call)
        (ground,), plan = self._insight.grounds, self._insight.plan
        way, why = way_of(ground), _WORDS[ground].format(self._of._known_off)
        target = Candidate(call.model, call.version, call.label) if plan is None else members(plan.candidates[0])[0]
        told = _told(way, ground, why, call, names=self._insight.steps)
        told["goes_to"] = target.title
        told["map"] = self._map()
        if ground is Ground.UNMAPPED and told["map"] is not None:
            self._by_the_map(told, told["map"])
        if way is Way.RACED and plan is not None:
            self._race(told, plan)
        if self._seat is not None:
            told["session_node"] = self._seat.node_id
        route = decision.otherwise if isinstance(decision, Hold) else decision
        asked = route.nodes if isinstance(route, Route) else self._asked(target)
        told["nodes"] = self._nodes(target.model, asked)
        return told

    def _asked(self, target: Candidate) -> tuple[str, ...]:
        """The endpoints of a call that is held, for its primary."""
        try:
            node_id = None if self._seat is None else self._seat.node_id
            return self._placing.place(self._call, target.model, self._now, node_id)[0]
        except CallError:
            return ()

    def _map(self) -> MapExplanation | None:
        keeper, call = self._of._keeper, self._call
        if keeper is None:
            return None
        form = form_of(self._head, call)
        known, absence = keeper.known.find(call.model), keeper.known.absence(call.model, form) if form else None
        shares = () if known is None or not form or absence else known.shares.get(call.protocol.kind, ())
        return {
            "absence": absence,
            "taken": keeper.taken,
            "shares": [{"share": round(parts / PARTS, 4), "nodes": nodes} for parts, nodes in shares],
        }

    def _by_the_map(self, told: EdgeExplanation, found: MapExplanation) -> None:
        """The call says no more than a name: it is the map that decides whether the server is asked."""
        absence = found["absence"]
        if absence is not None:
            told["why"] += " " + _ABSENCES[Absence(absence)]
            if says_more(self._head, self._call, form_of(self._head, self._call)):
                told["why"] += " It says more than a name, too, and would ask in any case."
        elif found["taken"] is False:
            told["why"] += " The map has its model, but that version is not in force in Envoy yet."
        elif self._of._keeper is not None and self._of._keeper.unread:
            told["why"] += " The map has its model, but Envoy has no filter that reads the map."
        else:
            told["way"], told["ground"] = Way.KNOWN, ""
            told["why"] = "Its Envoy sends it by the map of known calls, and does not ask the server."
            if found["taken"] is None:
                told["why"] += " (Envoy cannot be asked whether it has the map.)"

    def _race(self, told: EdgeExplanation, plan: Plan) -> None:
        """The schedule of the race, as it would be now."""
        of, call, now = self._of, self._call, self._now
        seat = None if self._seat is None else self._seat.node_id
        estimates = of._estimates.of_plan(
            plan, lambda one: self._placing.expected_wait(call, one.model, now, seat), now
        )
        ranks = ranks_of(plan, estimates, micros(plan.limit_ms), micros(of._margin_ms))
        told["limit_ms"], told["answer"] = plan.limit_ms, plan.answer
        told["shadows"] = [one.title for one in plan.shadows]
        told["ranks"] = [
            RankExplanation(
                mix=rank.target.how if isinstance(rank.target, Mix) else None,
                starts_ms=(rank.due or 0) / 1000,
                latest_ms=rank.latest / 1000,
                candidates=[
                    CandidateExplanation(
                        model=one.title,
                        estimate_ms=round(estimate.ms, 3),
                        live=estimate.tail_ms > 0,
                        cold=estimate.cold,
                        node=self._first(one),
                    )
                    for one, estimate in zip(rank.candidates, estimates[rank.index], strict=True)
                ],
            )
            for rank in ranks
        ]

    def _first(self, candidate: Candidate) -> str | None:
        asked = self._asked(candidate)
        node = self._of._router.at(asked[0]) if asked else None
        return None if node is None else node.id

    def _nodes(self, model: str, asked: tuple[str, ...]) -> list[NodeReasons]:
        """All nodes in the order in which they would be asked, then the others; `asked` are endpoints of the call's."""
        router, kind = self._of._router, self._call.protocol.kind
        router.tick(self._now)
        standings = {each.node.id: each for each in router.placements(model, kind)}
        told = [self._reasons(node, standings.get(node.id), model, kind, asked) for node in router.nodes]
        return sorted(told, key=_order)

    def _reasons(
        self, node: Node, standing: NodeStanding | None, model: str, kind: ProtocolKind, asked: tuple[str, ...]
    ) -> NodeReasons:
        router = self._of._router
        cache_map = router.cache_map
        address = node.endpoint(kind)
        state = cache_map.state(node.id, model)
        wait = router.wait_on(node.id, model, self._now)
        found: NodeReasons = {
            "id": node.id,
            "address": address,
            "place": asked.index(address) if address is not None and address in asked else None,
            "rank": None if standing is None else standing.rank,
            "alive": router.is_alive(node.id),
            "state": state.name.lower(),
            "told_by": "stream" if cache_map.is_live(node.id)
            else "declaration" if cache_map.is_declared(node.id)
            else "reply" if state is not Residency.ABSENT
            else "nobody",
            "leaving": cache_map.is_leaving(node.id),
            "remote": standing is not None and standing.remote,
            "over_bound": standing is not None and standing.over_bound,
            "load": round(router.load(node.id), 2),
            "load_seconds": wait.load_seconds,
            "why": "",
        }  # fmt: skip
        found["why"] = "; ".join(self._because(found, kind))
        return found

    def _because(self, node: NodeReasons, kind: ProtocolKind) -> Iterable[str]:
        if not node["alive"]:
            cause = self._of._probe_failure(node["id"])
            yield "dead" if cause is None else f"dead: {cause}"
        if node["address"] is None:
            yield f"has no {kind} endpoint"
        elif node["rank"] is None:
            yield "declares other models"
        else:
            yield _STATES[node["state"]] if node["told_by"] != "nobody" else "does not say what it holds"
            yield "home of the model" if node["rank"] == 0 else f"rank {node['rank']}"
        if self._seat is not None and self._seat.node_id == node["id"]:
            yield "the session's node"
        if node["leaving"]:
            yield "about to leave"
        if node["over_bound"]:
            yield "over its share of the load"
        if node["remote"]:
            yield "in another zone"


_STATES = {
    "available": "holds the model",
    "loading": "loads the model",
    "draining": "is unloading the model",
    "failed": "could not load the model",
    "absent": "does not hold the model",
}


def _order(node: NodeReasons) -> tuple[bool, int, bool, int, str]:
    place, rank = node["place"], node["rank"]
    return place is None, place or 0, rank is None, rank or 0, node["id"]


def _told(
    way: Way,
    ground: Ground | str,
    why: str,
    call: Call | None,
    *,
    names: Iterable[Step] = (),
    refusal: Refusal | None = None,
) -> EdgeExplanation:
    return {
        "role": "edge",
        "way": way,
        "ground": ground,
        "why": why,
        "call": named_call(call),
        "names": [_step(step) for step in names],
        "goes_to": None,
        "limit_ms": None,
        "answer": None,
        "ranks": [],
        "shadows": [],
        "session_node": None,
        "map": None,
        "nodes": [],
        "refusal": refusal,
    }


def _step(step: Step) -> NameStep:
    among = {side.title: side.weight for side in step.among}
    return {"name": step.name, "kind": step.kind, "leads_to": step.leads_to, "among": among}
