"""The ranks of a race and how far each has come: which is next, last, a hedge, and when time alone changes one.

All times are whole microseconds since the call arrived.
"""

import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from ext_proc.broker.budget import HedgeBudget
from ext_proc.broker.plan import Plan, RankedTarget, members
from ext_proc.broker.schedule import Estimate, latest_start, starts


class RankState(Enum):
    """State of a rank. WAITING and RUNNING ranks can still finish; a HELD one can still answer; the others are out."""

    WAITING = auto()  # not started
    RUNNING = auto()  # its calls are on the wire
    HELD = auto()  # it has a result, kept back while a better rank can still finish
    FAILED = auto()
    DROPPED = auto()  # useless: a better rank has a result


_OUT = (RankState.FAILED, RankState.DROPPED)


class CallState(Enum):
    """State of one call of a rank. PENDING: not started, or on the wire; `RankState` tells which."""

    PENDING = auto()
    ARRIVED = auto()
    FAILED = auto()  # or cancelled


class Rank:
    """One rank of a race, a candidate or a mix, and how far it has come. The race changes it; nothing here does.

    `index`: 0 is the primary.
    `target`, `candidates`: what the plan says, and the models that it asks, one for each member.
    `cost_ms`: estimated work of all its calls; none of them can work for longer than the limit of the client's call.
    `due`: when it starts, us; None: only if a better rank fails.
    `latest`: T - e - m, us: the last moment at which it is expected to answer in time.
    `calls`: the state of each member's call, by member.
    `payloads`: what arrived by the limit, by member; 0 is the only member of a rank that is no mix. For the race a
        payload is opaque: the shell's response, or whatever a test hands in.
    `result`: the payload to answer with, that of the mix where the rank is one; None unless HELD.
    `error`, `refused`: the first failure of its calls, opaque as well, and whether that call did no work.
    """

    __slots__ = (
        "calls", "candidates", "cost_ms", "due", "error", "index", "latest", "payloads", "refused", "result", "state",
        "target",
    )  # fmt: skip

    def __init__(
        self, index: int, target: RankedTarget, estimates: Sequence[Estimate], due: int, latest: int, limit_ms: float
    ) -> None:
        self.index = index
        self.target = target
        self.candidates = members(target)
        self.cost_ms = math.fsum([min(estimate.ms, limit_ms) for estimate in estimates])
        self.due: int | None = due
        self.latest = latest
        self.state = RankState.WAITING
        self.calls = [CallState.PENDING] * len(self.candidates)
        self.payloads: dict[int, Any] = {}
        self.result: Any = None
        self.error: Any = None
        self.refused = False

    @property
    def can_finish(self) -> bool:
        """Whether a result of this rank may still come."""
        return self.state is RankState.WAITING or self.state is RankState.RUNNING

    @property
    def partial(self) -> bool:
        """Whether some of its calls did not answer."""
        return len(self.payloads) < len(self.calls)

    def is_pending(self, member: int) -> bool:
        """Whether this call was started and has not ended."""
        return self.state is RankState.RUNNING and self.calls[member] is CallState.PENDING

    def pending(self) -> list[int]:
        """The members whose calls were started and have not ended."""
        if self.state is not RankState.RUNNING:
            return []
        return [member for member, call in enumerate(self.calls) if call is CallState.PENDING]

    def fail(self, error: Any, *, refused: bool) -> None:
        """The whole rank has failed; the first error of its calls is the one that is told."""
        self.state = RankState.FAILED
        if self.error is None:
            self.error = error
            self.refused = refused


def ranks_of(plan: Plan, estimates: Sequence[Sequence[Estimate]], limit_us: int, margin_us: int) -> list[Rank]:
    """The ranks of a plan, all waiting. `estimates` by rank and member; a mix is as slow as its slowest member."""
    slowest = [of_rank[0] if len(of_rank) == 1 else max(of_rank, key=_ms) for of_rank in estimates]
    dues = starts(slowest, limit_us, margin_us)
    return [
        Rank(index, target, of_rank, due, latest_start(slow, limit_us, margin_us), plan.limit_ms)
        for index, (target, of_rank, slow, due) in enumerate(
            zip(plan.candidates, estimates, slowest, dues, strict=True)
        )
    ]


def _ms(estimate: Estimate) -> float:
    return estimate.ms


def successor_of(failed: Rank, ranks: Sequence[Rank]) -> Rank | None:
    """The rank to start at once in the place of a failed one: the next that has not failed, if it still waits."""
    successor = next((rank for rank in ranks[failed.index + 1 :] if rank.state is not RankState.FAILED), None)
    return successor if successor is not None and successor.state is RankState.WAITING else None


def last_useful(ranks: Sequence[Rank]) -> Rank:
    """The last rank that may still be of use: neither failed nor dropped. There is one while the race is on."""
    for rank in reversed(ranks):
        if rank.state not in _OUT:
            return rank
    raise AssertionError("a race that is on has a rank that may be of use")


def is_hedge(rank: Rank, ranks: Sequence[Rank]) -> bool:
    """Whether its calls would run beside those of a better rank."""
    return rank.index > 0 and any(better.state is RankState.RUNNING for better in ranks[: rank.index])


def ask_budget(budget: HedgeBudget, rank: Rank, ranks: Sequence[Rank], at: int) -> str:
    """Whether a hedge may start, as the race's log says it: granted, denied, or exempt.

    Exempt is the last useful rank at its latest start: it starts whatever the budget says, and its cost is owed.
    """
    if budget.take(rank.cost_ms):
        return "granted"
    if rank is last_useful(ranks) and at >= rank.latest:
        budget.owe(rank.cost_ms)
        return "exempt"
    return "denied"


def next_wake(ranks: Sequence[Rank], limit_us: int, cutoff_us: int) -> int:
    """When time alone changes something: a start, T - m where something is held or a mix has a part, or the limit."""
    times = [limit_us]
    for rank in ranks:
        if rank.state is RankState.WAITING and rank.due is not None:
            times.append(rank.due)
        if rank.state is RankState.HELD or (rank.state is RankState.RUNNING and rank.payloads):
            times.append(cutoff_us)
    return min(times)
