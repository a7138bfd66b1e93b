"""A call of ours on its way: to the node that it is placed on, and to another one where one of another zone fails it.

Among nodes of its own zone Envoy itself asks the next one. From a node that a header names it cannot go on to another:
the route is chosen, and each of its retries takes the same way.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ext_proc.batching.terms import Terms
from ext_proc.broker.effects import Start
from ext_proc.broker.plan import Candidate, Plan, members
from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Held, Respond
from ext_proc.racing.candidate_request import Candidates, terms_of
from ext_proc.upstream.client import Request, Response, UpstreamError
from ext_proc.upstream.handing_on import handed_on
from ext_proc.upstream.verdict import TellOutcome, answered
from ext_proc.wire.call import READS
from mesh.node import node_behind
from mesh.routing.placement import ExpectedWait


class Caller(Protocol):
    """Sends one call; `Upstream`, but for tests."""

    async def call(self, request: Request) -> Response:
        """Raises UpstreamError; gives the call up on the wire when cancelled."""


AskInCompany = Callable[[Held, Candidate, Terms, Request], Awaitable[Response] | None]
"""The reply to a candidate that is gathered into a batch instead of going out by the request; None: it is not.

Raises CallError.
"""

Placed = Callable[[tuple[str, ...], ExpectedWait], None]
"""Is told on which nodes a call is placed, best first, and what the first one makes it wait for."""

MOST_NODES = 3
"""Nodes that one call is sent to at most."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends calls of ours. `tell_outcome` hears what becomes of those to far nodes, `clock` is in seconds, monotonic.

    `repeats`: a call that a far node has failed is sent to another node, if it only reads and is of no session.
    `ask_in_company`: whether a batch takes it along.
    """

    candidates: Candidates
    upstream: Caller
    clock: Callable[[], float]
    tell_outcome: TellOutcome
    repeats: bool = True
    ask_in_company: AskInCompany | None = None

    async def send(self, held: Held, start: Start, plan: Plan, race: str | None, placed: Placed) -> Response:
        """The reply to a candidate of the plan. `placed` is told of each time that it is placed, before it is sent.

        Raises UpstreamError and CallError.
        """
        began = self.clock()
        failed: list[str] = []
        first: Response | UpstreamError | CallError | None = None
        while True:
            now = self.clock()
            left = replace(start, remaining_ms=start.remaining_ms - (now - began) * 1000) if failed else start
            try:
                request, lease, expected_wait = self.candidates.placed(held, left, plan, race, now, failed)
            except CallError as error:
                # There is no other node: the first one's word says more.
                return _given(error if first is None else first)
            outcome: Response | UpstreamError
            placed(request.nodes, expected_wait)
            try:
                outcome = await self._reply(held, left, plan, race, request)
            except UpstreamError as caught:
                outcome = caught
            finally:
                lease.release()
            if isinstance(outcome, Response):
                self.candidates.replied(start.candidate, outcome, self.clock())
            node_id = node_behind(request.nodes[0])
            if node_id is None:
                return _given(outcome)
            cause = why_away(outcome)
            if cause is not None or (isinstance(outcome, Response) and answered(outcome.status, outcome.grpc_status)):
                self.tell_outcome(node_id, cause)
            if cause is None or not self._may_repeat(held, left, len(failed)):
                return _given(outcome)
            first = outcome if first is None else first
            failed.append(node_id)

    async def answer(self, held: Held, plan: Plan, arrival: float) -> Respond:
        """The answer to a call that is not raced, and came at `arrival` (monotonic seconds). Raises CallError."""
        left_ms = plan.limit_ms - (self.clock() - arrival) * 1000
        candidate = members(plan.candidates[0])[0]
        start = Start(rank=0, member=0, candidate=candidate, remaining_ms=left_ms, hedge=False)
        try:
            response = await self.send(held, start, plan, None, _ignore)
        except UpstreamError as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None
        return handed_on(response, held.call.protocol)

    def _may_repeat(self, held: Held, start: Start, failed: int) -> bool:
        reads = held.seat is None and held.call.verb in READS
        return self.repeats and reads and start.remaining_ms > 0 and failed + 1 < MOST_NODES

    async def _reply(self, held: Held, start: Start, plan: Plan, race: str | None, request: Request) -> Response:
        if self.ask_in_company is not None:
            reply = self.ask_in_company(held, start.candidate, terms_of(start, plan, race), request)
            if reply is not None:
                return await reply
        return await self.upstream.call(request)


def why_away(outcome: Response | UpstreamError) -> str | None:
    """Why the call has failed, in one sentence, where another node may answer it; None for everything else.

    A call that never left this machine says nothing of the node.
    """
    if isinstance(outcome, UpstreamError):
        return None if outcome.refused else f"A call to it failed: {outcome}"
    if answered(outcome.status, outcome.grpc_status) is not False:
        return None
    return f"A call to it was answered with {outcome.status if outcome.trailers is None else 'UNAVAILABLE'}."


def _ignore(nodes: tuple[str, ...], wait: ExpectedWait) -> None:
    """Nobody asks where it goes, and how long it waits for a load."""


def _given(outcome: Response | UpstreamError | CallError) -> Response:
    if isinstance(outcome, Response):
        return outcome
    raise outcome
