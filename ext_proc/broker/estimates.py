"""Estimates: the time that a model is expected to need, declared until it has been observed often enough."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil, exp, log

from ext_proc.broker.plan import Candidate, Plan, members
from ext_proc.broker.schedule import Estimate
from ext_proc.broker.settings import BrokerSettings
from mesh.routing.placement import RESIDENT, ExpectedWait

ENOUGH = 20
"""Observations within the window from which on the live 95th percentile replaces the declared estimate."""

_QUANTILE = 0.95
_TAIL = 0.99
_SLICES = 4
_MAX_SERIES = 4096
_STEP = log(1.05)  # a bucket is 5% wide, and so is the error of a percentile
_LEAST_MS, _MOST_MS = 0.01, 3_600_000.0


class Window:
    """Times seen in the last `window_s` seconds, as a histogram with log-spaced buckets.

    The window is four slices that rotate: time observed falls out a quarter at a time, memory is
    bounded by the number of buckets, and an observation or a percentile costs a few dictionary steps.
    """

    __slots__ = ("_count", "_known", "_newest", "_slice_s", "_slices", "_total")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / _SLICES
        self._slices: list[dict[int, int]] = [{} for _ in range(_SLICES)]
        self._newest = 0
        self._total: dict[int, int] = {}
        self._count = 0
        self._known: tuple[float, float] | None = None

    def observe(self, ms: float, now: float) -> None:
        """Counts one time. `now` in seconds, monotonic."""
        self._rotate(now)
        bucket = ceil(log(min(max(ms, _LEAST_MS), _MOST_MS)) / _STEP)
        newest = self._slices[self._newest % _SLICES]
        newest[bucket] = newest.get(bucket, 0) + 1
        self._total[bucket] = self._total.get(bucket, 0) + 1
        self._count += 1
        self._known = None

    def quantiles(self, now: float) -> tuple[float, float] | None:
        """The 95th and the 99th percentile in ms, each at most 5% too high; None with fewer than 20 observations.

        With fewer than 100 observations the 99th percentile is the slowest of them.
        """
        self._rotate(now)
        if self._count < ENOUGH:
            return None
        if self._known is None:
            self._known = self._quantile(_QUANTILE), self._quantile(_TAIL)
        return self._known

    def _quantile(self, share: float) -> float:
        above = self._count - ceil(share * self._count)  # observations allowed to be slower
        for bucket in sorted(self._total, reverse=True):
            above -= self._total[bucket]
            if above < 0:
                return exp(bucket * _STEP)
        raise AssertionError("a window with observations has every quantile")

    def _rotate(self, now: float) -> None:
        slot = int(now / self._slice_s)
        for _ in range(min(slot - self._newest, _SLICES)):
            self._newest += 1
            stale = self._slices[self._newest % _SLICES]
            for bucket, count in stale.items():
                self._total[bucket] -= count
                self._count -= count
                if not self._total[bucket]:
                    del self._total[bucket]
            stale.clear()
            self._known = None
        # After a long pause every slice is empty, wherever the counting goes on.
        self._newest = max(self._newest, slot)


class Estimates:
    """Estimates of every model, by version or label, and whether a load comes first.

    Bounded: the longest unobserved are forgotten.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._series: OrderedDict[tuple[str, bool], Window] = OrderedDict()

    def observe(self, candidate: Candidate, expected_wait: ExpectedWait, ms: float, now: float) -> None:
        """Counts the time of one completed answer, measured from its start, for which this wait was expected."""
        self._series_of(candidate, expected_wait.cold).observe(ms, now)

    def given_up(self, candidate: Candidate, expected_wait: ExpectedWait, ms: float, now: float) -> None:
        """Counts a call that was cancelled after `ms`, where that is over the estimate: it would have taken longer yet.

        Else the estimate would know of those calls only that came in time, and a model that is always too late
        would be started too late for ever.
        """
        if ms > self.of(candidate, expected_wait, now).ms:
            self._series_of(candidate, expected_wait.cold).observe(ms, now)

    def of(self, candidate: Candidate, expected_wait: ExpectedWait, now: float) -> Estimate:
        """What to expect of one call: live where known, else declared, else the default.

        With a load before it, what the node says of that load comes first: it knows whether one goes on already.
        """
        if expected_wait.cold:
            return self._of_cold(candidate, expected_wait.load_seconds, now)
        live = self._live(candidate, False, now)
        if live is not None:
            return Estimate(live[0], tail_ms=live[1])
        declared = candidate.estimate_ms
        return Estimate(self._settings.default_estimate_ms if declared is None else declared)

    def _of_cold(self, candidate: Candidate, load_seconds: float | None, now: float) -> Estimate:
        if load_seconds is None:
            live = self._live(candidate, True, now)
            if live is not None:
                return Estimate(live[0], cold=True, tail_ms=live[1])
        load_ms = self._settings.default_load_ms if load_seconds is None else load_seconds * 1000
        return Estimate(self.of(candidate, RESIDENT, now).ms + load_ms, cold=True)

    def of_plan(
        self, plan: Plan, expected_wait_of: Callable[[Candidate], ExpectedWait], now: float
    ) -> tuple[tuple[Estimate, ...], ...]:
        """The estimates of all candidates, by rank and member."""
        return tuple(
            tuple(self.of(one, expected_wait_of(one), now) for one in members(rank)) for rank in plan.candidates
        )

    def _live(self, candidate: Candidate, cold: bool, now: float) -> tuple[float, float] | None:
        window = self._series.get((candidate.title, cold))
        return None if window is None else window.quantiles(now)

    def _series_of(self, candidate: Candidate, cold: bool) -> Window:
        key = (candidate.title, cold)
        window = self._series.get(key)
        if window is None:
            window = self._series[key] = Window(self._settings.estimate_window_s)
            if len(self._series) > _MAX_SERIES:
                self._series.popitem(last=False)
        else:
            self._series.move_to_end(key)
        return window
