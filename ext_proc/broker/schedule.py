"""When each candidate of a race starts. All times are whole microseconds since the call arrived."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """The time one candidate is expected to need. `cold`: it includes the load of a model that is not resident.

    `tail_ms` is what hardly any of its calls exceed (the live 99th percentile); 0 where that is not known.
    """

    ms: float
    cold: bool = False
    tail_ms: float = 0.0


def micros(ms: float) -> int:
    """Milliseconds as whole microseconds."""
    return round(ms * 1000)


def latest_start(estimate: Estimate, limit_us: int, margin_us: int) -> int:
    """T - e - m, never below 0: the last moment at which a candidate is expected to answer in time."""
    return max(0, limit_us - micros(estimate.ms) - margin_us)


def starts(estimates: Sequence[Estimate], limit_us: int, margin_us: int) -> list[int]:
    """Start times: the first at 0, then ci at min(e0+...+e(i-1), T - ei - m), never below 0.

    A cold candidate that cannot load and answer before T - m is not waited for, so it adds nothing to
    the sum: its backup then starts early, instead of the caller waiting for a load. (A resident
    candidate with such an estimate is waited for: its 95th percentile is over the limit, most of
    its calls are not.)

    Nobody stands behind the last candidate, and one in twenty exceeds a 95th percentile: where its tail
    is known, that is its e (docs/time-broker.md). The hedge budget decides whether it may start so early.
    """
    times: list[int] = []
    waited = 0
    for rank, estimate in enumerate(estimates):
        awaited = estimate
        if rank == len(estimates) - 1 and estimate.tail_ms > estimate.ms:
            awaited = Estimate(estimate.tail_ms)
        times.append(min(waited, latest_start(awaited, limit_us, margin_us)) if times else 0)
        run = micros(estimate.ms)
        if not (estimate.cold and run > limit_us - margin_us):
            waited += run
    return times
