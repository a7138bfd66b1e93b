"""The ranks of a race side by side: who comes next, who is the last, who is a hedge and what the budget says to it.

Questions about the runners as they stand: nothing here changes one, it is the race that starts them. Times are whole
microseconds since arrival.
"""

from collections.abc import Sequence

from ext_proc.broker.budget import HedgeBudget
from ext_proc.broker.plan import Plan
from ext_proc.broker.runner import RankState, State
from ext_proc.broker.schedule import Estimate, latest_start, starts


def line_up(plan: Plan, estimates: Sequence[Sequence[Estimate]], limit_us: int, margin_us: int) -> list[RankState]:
    """The ranks of a plan, all waiting. A mix is as slow as its slowest member."""
    slowest = [max(rank, key=lambda estimate: estimate.ms) for rank in estimates]
    dues = starts(slowest, limit_us, margin_us)
    return [
        RankState(rank, entrant, costs, due, latest_start(slow, limit_us, margin_us), plan.limit_ms)
        for rank, (entrant, costs, slow, due) in enumerate(zip(plan.candidates, estimates, slowest, dues, strict=True))
    ]


def heir_of(fallen: RankState, runners: Sequence[RankState]) -> RankState | None:
    """Who starts at once where this one has failed: the next that has not failed itself, if it still waits."""
    heir = next((runner for runner in runners[fallen.rank + 1 :] if runner.state is not State.FAILED), None)
    return heir if heir is not None and heir.state is State.WAITING else None


def last_of(runners: Sequence[RankState]) -> RankState:
    """The last-ranked one that may still be of use."""
    alive = (one for one in reversed(runners) if one.state not in (State.FAILED, State.DROPPED))
    return next(alive)


def is_hedge(runner: RankState, runners: Sequence[RankState]) -> bool:
    """Whether it would run beside a better one."""
    return any(better.state is State.RUNNING for better in runners[: runner.rank])


def ask_budget(budget: HedgeBudget, runner: RankState, runners: Sequence[RankState], at: int) -> str:
    """What the budget says to a hedge, and the log of it: granted, denied, or exempt.

    Exempt is the last one at its latest start: it starts whatever the budget says, and that is owed.
    """
    if budget.take(runner.cost_ms):
        return "granted"
    if runner is last_of(runners) and at >= runner.latest:
        budget.owe(runner.cost_ms)
        return "exempt"
    return "denied"


def next_wake(runners: Sequence[RankState], limit_us: int, cutoff_us: int) -> int:
    """When time alone changes something: a start, the moment at which a held result is returned, or the limit."""
    times = [limit_us]
    for runner in runners:
        if runner.state is State.WAITING and runner.due is not None:
            times.append(runner.due)
        if runner.state is State.HELD or (runner.state is State.RUNNING and runner.payloads):
            times.append(cutoff_us)
    return min(times)
