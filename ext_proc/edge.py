"""The edge role: decides about a client's call. Routed to a node at once, or handed to the time broker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from ext_proc.broker.catalogue import Catalogue
from ext_proc.broker.deadline import read_ask
from ext_proc.broker.plan import Candidate, Plan, members
from ext_proc.errors import CallError, Reason
from ext_proc.hop import HOP_HEADER, HopMark
from ext_proc.stream.decision import Decision, Held, Hold, Route
from ext_proc.stream.events import Head
from ext_proc.telemetry.unbrokered import Unbrokered
from ext_proc.wire.call import Call
from ext_proc.wire.naming import MODEL_HEADER, write_model
from ext_proc.wire.rewrite import swap_model, swap_path
from mesh.node import ProtocolKind
from mesh.routing.pick import NoNode, Router


@dataclass(frozen=True, slots=True)
class Matter:
    """What the edge keeps of a held call: its plan, and when it arrived (monotonic seconds)."""

    plan: Plan
    arrival: float


Broker = Callable[[Held, Plan, float], Awaitable[Decision]]


class Edge:
    """Names in, nodes out. Lives as long as the process; a reload replaces `catalogue` and `body_limit`."""

    follows_replies = False

    def __init__(self, router: Router, catalogue: Catalogue, hop: HopMark, body_limit: int) -> None:
        self._router = router
        self._hop = hop
        self._seed = 0
        self.broker: Broker | None = None
        """Races held calls; set once by whoever owns it."""
        self.catalogue = catalogue
        self.body_limit = body_limit
        self.unbrokered = Unbrokered()
        """Calls that went on plainly because their Envoy cannot hold or answer them."""

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """The nodes for a call, or a hold where it is to be raced. Raises CallError."""
        headers = head.headers
        hop = headers.get(HOP_HEADER)
        if hop is not None and (nodes := self._hop.read(hop)) is not None:
            return Route(nodes, node="")
        plan = self._plan(head, call)
        if plan is None:
            return self.place(call, call.model, now)
        if plan.races or plan.shadows:
            return Hold(collect=True, matter=Matter(plan, now))
        return self._rename(head, call, plan, now)

    async def resolve(self, held: Held) -> Decision:
        """Decides a held call: a race, or a gRPC call that is only renamed."""
        matter: Matter = held.matter
        if self.broker is not None and (matter.plan.races or matter.plan.shadows):
            return await self.broker(held, matter.plan, matter.arrival)
        return self._renamed_body(held, _only(matter.plan), matter.arrival)

    def place(self, call: Call, model: str, now: float) -> Route:
        """The nodes for a call of that protocol to `model`. Raises CallError (UNAVAILABLE) if none is alive."""
        kind: ProtocolKind = "grpc" if call.protocol.is_grpc else "rest"
        try:
            nodes = self._router.pick(model, now, kind).nodes
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None
        return Route(tuple([endpoint for node in nodes if (endpoint := node.endpoint(kind))]), nodes[0].id)

    def started(self, node: str) -> None:
        """A call is on its way to the node."""
        self._router.started(node)

    def finished(self, node: str) -> None:
        """A call to the node is over."""
        self._router.finished(node)

    def _plan(self, head: Head, call: Call) -> Plan | None:
        get = head.headers.get
        ask = read_ask(
            tloc=get("tloc"),
            backup=get("backup"),
            primary=get("primary"),
            key=get("tbms-key"),
            grpc_timeout=get("grpc-timeout"),
        )
        self._seed += 1
        plan = self.catalogue.plan(call, ask, self._seed)
        if plan is None or not (plan.races or plan.shadows):
            return plan
        if head.end_of_stream:  # without a body there is nothing to predict; the node says so
            return self._alone(plan, call)
        if head.body_can_come and (head.streams_answers or not call.protocol.is_grpc):
            return plan
        self.unbrokered.count(head.envoy, call.protocol)
        return self._alone(plan, call)

    def _alone(self, plan: Plan, call: Call) -> Plan | None:
        """The plan of a call that is not raced all the same: its primary, if that has another name."""
        primary = _only(plan)
        if (primary.model, primary.version, primary.label) == (call.model, call.version, call.label):
            return None
        return replace(plan, candidates=(primary,), shadows=(), races=False)

    def _rename(self, head: Head, call: Call, plan: Plan, now: float) -> Decision:
        """An alias, a label or a split: the call goes on to another name."""
        if call.protocol.is_grpc:
            return (
                Hold(collect=True, matter=Matter(plan, now))
                if head.body_can_come
                else self.place(call, call.model, now)
            )
        model = _only(plan)
        path = swap_path(call, head.headers[":path"], model.model, model.version, model.label)
        route = self.place(call, model.model, now)
        return Route(route.nodes, route.node, headers=((":path", path),))

    def _renamed_body(self, held: Held, model: Candidate, now: float) -> Route:
        headers = held.head.headers
        body = swap_model(
            held.call,
            held.body,
            model.model,
            model.version,
            model.label,
            encoding=headers.get("grpc-encoding", "identity"),
            limit=self.body_limit,
        )
        route = self.place(held.call, model.model, now)
        told = write_model(model.model, model.version, model.label)
        named = ((MODEL_HEADER, told),) if MODEL_HEADER in headers else ()
        return Route(route.nodes, route.node, headers=named, body=body)


def _only(plan: Plan) -> Candidate:
    return members(plan.candidates[0])[0]
