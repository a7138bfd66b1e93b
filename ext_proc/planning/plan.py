"""The plan for one model: how large its batches may be, and what a rate of calls costs in lag and in GPUs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve
from ext_proc.planning.knee import knee
from ext_proc.planning.simulation import Exponential, Lags, evenly, poisson, simulate
from ext_proc.planning.tradeoff import Load, capacity, evenly_spaced

TAIL = 0.99
"""Share of the calls that have to keep the lag limit."""
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Of the capacity: the rates for which the plan is made."""
MOST_GPUS = 4096
CALLS = 4000
"""Calls that are simulated for each way to run it."""
MOST_BYTES = 2**31 - 1
"""Of a batch: the bound of `max_bytes` in the configuration, and of a message of gRPC."""
_MIB = 1024 * 1024
_STEPS = 4  # GPU counts that are shown, from the least one on
_WORTH = 1.01  # a larger batch is taken if it brings at least so much


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wanted. `lag` in seconds, `price` of a GPU for an hour; GPUs of one node share a queue. `row_bytes` of a
    request, where they are known.
    """

    model: str
    qps: float | None = None
    lag: float | None = None
    gpus: int = 1
    gpus_per_node: int = 1
    price: float | None = None
    row_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One way to run it. Lags in seconds, infinite where the GPUs cannot keep up: `even` is the mean for calls
    that come evenly spaced, `mean` and `tail` are for calls that know nothing of one another (Poisson). `cost` of a
    million responses.
    """

    load: Load
    even: float
    mean: float
    tail: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`curve` ends with the batch size that is chosen. `by_qps` on the wanted number of GPUs, `knee` is one of it;
    `by_gpus` at the wanted rate, `needed` the fewest GPUs that keep the lag limit at it (None: no number does).
    """

    wishes: Wishes
    curve: Curve
    settings: BatchingSettings
    capacity: float
    by_qps: Sequence[Operation]
    knee: Operation | None
    by_gpus: Sequence[Operation]
    needed: int | None


def make_plan(curve: Curve, wishes: Wishes, chance: Callable[[], Exponential], calls: int = CALLS) -> Plan:
    """`chance` gives what draws the same times again for every way to run it. Raises TbmsError."""
    _check(wishes)
    curve = curve.up_to(batch_rows(curve, wishes.lag))
    settings = settings_for(curve, wishes)
    runs = _Runs(curve, wishes, settings, chance, calls)
    most = capacity(curve, wishes.gpus)
    rates = {_rounded(share * most) for share in SHARES}
    last = max(rates)
    if wishes.qps is not None:
        rates.add(wishes.qps)
    by_qps = [runs.operation(qps, wishes.gpus) for qps in sorted(rates)]
    steady = [each for each in by_qps if each.load.qps <= last]
    found = knee([each.load.qps for each in steady], [each.mean for each in steady])
    by_gpus: Sequence[Operation] = ()
    needed = None
    if wishes.qps is not None:
        needed = runs.needed(wishes.qps) if wishes.lag is not None else None
        least = runs.least(wishes.qps)
        counts = {least + step * wishes.gpus_per_node for step in range(_STEPS)} | {wishes.gpus, needed or least}
        by_gpus = [runs.operation(wishes.qps, gpus) for gpus in sorted(counts)]
    return Plan(wishes, curve, settings, most, by_qps, None if found is None else steady[found], by_gpus, needed)


def batch_rows(curve: Curve, lag: float | None) -> int:
    """The batch size that the configuration allows: the most rows a second whose lag keeps the limit.

    While the GPU keeps up, a call waits for one batch at most and is in the next one: twice the time of the largest
    batch. If no size keeps that, those that take the least time.
    """
    limit = inf if lag is None else max(lag, 2 * min(point.seconds for point in curve.points))
    fits = [point for point in curve.points if 2 * point.seconds <= limit]
    best = fits[0]
    for point in fits[1:]:
        if point.rows / point.seconds >= _WORTH * best.rows / best.seconds:
            best = point
    return best.rows


def settings_for(curve: Curve, wishes: Wishes) -> BatchingSettings:
    """`node.batching` for these wishes, with the largest size of the curve."""
    rows = curve.max_rows
    lag_ms = None if wishes.lag is None else max(0.0, round((wishes.lag - curve.seconds(rows)) * 1e3, 1))
    model = ModelBatching(cross_request=True, cross_lag_ms=lag_ms, max_rows=rows)
    size = rows * (wishes.row_bytes or 0)
    if size > model.max_bytes:
        model = model.model_copy(update={"max_bytes": min(MOST_BYTES, -(-size // _MIB) * _MIB)})
    return BatchingSettings(slots=wishes.gpus_per_node, models={wishes.model: model})


class _Runs:
    """Ways to run it, each simulated once."""

    def __init__(
        self,
        curve: Curve,
        wishes: Wishes,
        settings: BatchingSettings,
        chance: Callable[[], Exponential],
        calls: int,
    ) -> None:
        self._curve, self._wishes, self._chance, self._calls = curve, wishes, chance, calls
        # No limit here on what waits: a queue that is too short would hide how long it gets.
        self._settings = settings.model_copy(update={"queue_calls": 2 * calls})
        self._lags: dict[float, Lags] = {}

    def operation(self, qps: float, gpus: int) -> Operation:
        load = evenly_spaced(self._curve, qps, gpus)
        price = self._wishes.price
        cost = None if price is None else price * gpus / 3600 / qps * 1e6
        rate = qps * self._wishes.gpus_per_node / gpus  # of a node
        even = self._shared(rate) if self._wishes.gpus_per_node > 1 and load.keeps_up else load.lag
        if load.share >= 1:  # by chance alone the queue would grow for ever
            return Operation(load, even, inf, inf, cost)
        lags = self._simulated(rate)
        return Operation(load, even, lags.mean, lags.percentile(TAIL), cost)

    def least(self, qps: float) -> int:
        """The fewest GPUs, in whole nodes, that keep up."""
        node = self._wishes.gpus_per_node
        nodes = max(1, ceil(qps / capacity(self._curve, node) - 1e-9))
        if nodes * node > MOST_GPUS:
            raise TbmsError(f"--qps: {qps:g} calls a second would take more than {MOST_GPUS} GPUs")
        return nodes * node

    def needed(self, qps: float) -> int | None:
        """The fewest GPUs that keep the lag limit at that rate."""
        node, limit = self._wishes.gpus_per_node, self._wishes.lag or inf
        if self._curve.seconds(1) > limit:
            return None
        low, high = self.least(qps) // node, self.least(qps) // node
        while self.operation(qps, high * node).tail > limit:
            if high == MOST_GPUS // node:
                return None
            low, high = high + 1, min(2 * high, MOST_GPUS // node)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.operation(qps, middle * node).tail <= limit else (middle + 1, high)
        return high * node

    def _shared(self, rate: float) -> float:
        """The mean lag of evenly spaced calls where several GPUs take from one queue: the formula is not for them."""
        return self._simulate(evenly(rate), self._calls // 4).mean

    def _simulated(self, rate: float) -> Lags:
        if rate not in self._lags:
            self._lags[rate] = self._simulate(poisson(rate, self._chance()), self._calls)
        return self._lags[rate]

    def _simulate(self, arrivals: Iterator[float], calls: int) -> Lags:
        return simulate(self._settings, self._wishes.model, self._curve, arrivals, calls, self._calls // 10)


def _check(wishes: Wishes) -> None:
    lag_ms = None if wishes.lag is None else wishes.lag * 1e3
    for flag, value, most in (("--qps", wishes.qps, 1e9), ("--lag-ms", lag_ms, 3.6e6), ("--price", wishes.price, 1e9)):
        if value is not None and not 0 < value <= most:
            raise TbmsError(f"{flag}: a number over 0, and at most {most:g}, was expected (found {value:g})")
    for flag, count, most in (("--gpus", wishes.gpus, MOST_GPUS), ("--gpus-per-node", wishes.gpus_per_node, 1024)):
        if not 1 <= count <= most:
            raise TbmsError(f"{flag}: a number from 1 to {most} was expected (found {count})")
    if wishes.gpus % wishes.gpus_per_node:
        raise TbmsError(f"--gpus: {wishes.gpus} GPUs are no whole number of nodes of {wishes.gpus_per_node}")


def _rounded(qps: float) -> float:
    """Three digits are enough for a table."""
    return float(f"{qps:.3g}")
