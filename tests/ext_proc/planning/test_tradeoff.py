"""The formula of throughput against lag, held against the scheduler in virtual time."""

from itertools import product
from math import inf
from random import Random
from statistics import mean

import pytest

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.planning.curve import Curve, Point, straight
from ext_proc.planning.simulation import Lags, evenly, poisson, simulate
from ext_proc.planning.tradeoff import capacity, evenly_spaced

EXAMPLE = straight(0.020, 0.0, 10)
"""20 ms a batch, whatever is in it, of at most 10 rows."""
LINES = {"20": (0.020, 0.0), "5+2n": (0.005, 0.002), "10+n/2": (0.010, 0.0005), "20+2n": (0.020, 0.002)}
LOADS = (0.1, 0.25, 0.4, 0.6, 0.8, 0.95)


def scheduled(curve: Curve, qps: float, slots: int = 1, calls: int = 801) -> Lags:
    """What the scheduler makes of it: one queue before so many GPUs."""
    model = ModelBatching(cross_request=True, max_rows=curve.max_rows)
    settings = BatchingSettings(slots=slots, models={"m": model}, queue_calls=10_000)
    return simulate(settings, "m", curve, evenly(qps), calls, 600)


def test_the_example() -> None:
    assert capacity(EXAMPLE) == pytest.approx(500)
    one, four = evenly_spaced(EXAMPLE, 200), evenly_spaced(EXAMPLE, 200, gpus=4)
    assert (one.lag, one.rows, one.share) == pytest.approx((0.0275, 4, 0.4))
    assert (four.lag, four.rows, four.share) == pytest.approx((0.020, 1, 0.1))
    assert scheduled(EXAMPLE, 200).mean == pytest.approx(0.0275, rel=1e-3)
    assert scheduled(EXAMPLE, 200 / 4).mean == pytest.approx(0.020), "each GPU with a queue of its own"
    assert scheduled(EXAMPLE, 200, slots=4).mean == pytest.approx(0.020), "one queue before four"


def test_at_the_capacity_it_just_keeps_up_and_beyond_it_does_not() -> None:
    assert evenly_spaced(EXAMPLE, 500).lag == pytest.approx(0.029)
    assert scheduled(EXAMPLE, 500).mean == pytest.approx(0.029, rel=1e-3)
    beyond = evenly_spaced(EXAMPLE, 501)
    assert not beyond.keeps_up
    assert beyond.lag == inf
    assert beyond.share == pytest.approx(1.002)
    early, late = scheduled(EXAMPLE, 550, calls=500), scheduled(EXAMPLE, 550, calls=4000)
    assert late.mean > 2 * early.mean, "the queue grows for as long as it lasts"


@pytest.mark.parametrize(("share", "max_rows"), [*product(LOADS, (4, 10, 32))])
def test_where_batches_take_the_same_time_the_formula_is_exact(share: float, max_rows: int) -> None:
    """But where they do not keep step with the calls, and the device waits for one that is about to come."""
    curve = straight(*LINES["20"], max_rows)
    qps = round(share * capacity(curve))
    load, found = evenly_spaced(curve, qps), scheduled(curve, qps)
    in_step = load.rows == pytest.approx(round(load.rows))
    assert load.lag == pytest.approx(found.mean, rel=5e-3 if in_step or share > 0.9 else 0.1)
    assert found.mean <= load.lag * 1.005


@pytest.mark.parametrize("max_rows", [4, 10, 32])
@pytest.mark.parametrize("line", [name for name in LINES if name != "20"])
def test_where_batches_take_longer_with_their_rows_it_is_right_within_a_few_percent(line: str, max_rows: int) -> None:
    """Too low by a few at most; and too high where the device waits for a call, and batches are larger for it."""
    curve = straight(*LINES[line], max_rows)
    errors = []
    for share in LOADS:
        expected, found = evenly_spaced(curve, share * capacity(curve)), scheduled(curve, share * capacity(curve))
        errors.append(found.mean / expected.lag - 1)
        assert expected.rows <= 1.05 * found.rows
    assert max(errors) < 0.04
    assert min(errors) > -0.15
    assert mean(map(abs, errors)) < 0.05


@pytest.mark.parametrize("rows", [2, 5, 9])
@pytest.mark.parametrize("line", LINES)
def test_batches_of_whole_rows_may_keep_step_with_the_calls(line: str, rows: int) -> None:
    """They do if all batches take the same time. If not, the first ones decide how far out of step the others are."""
    curve = straight(*LINES[line], 10)
    qps = rows / curve.seconds(rows)
    load, found = evenly_spaced(curve, qps), scheduled(curve, qps)
    assert load.rows == pytest.approx(rows)
    assert load.lag == pytest.approx(1.5 * load.batch_seconds - (0.5 / qps if line == "20" else 0))
    assert load.lag == pytest.approx(found.mean, rel=0.005 if line == "20" else 0.5 / rows)


@pytest.mark.parametrize("slots", [2, 4])
@pytest.mark.parametrize("line", LINES)
def test_one_queue_before_several_gpus_is_hardly_ever_slower_than_a_queue_for_each(line: str, slots: int) -> None:
    curve = straight(*LINES[line], 10)
    for share in LOADS:
        qps = share * capacity(curve, slots)
        assert scheduled(curve, qps, slots).mean < 1.05 * evenly_spaced(curve, qps, slots).lag


def test_a_curve_with_steps_is_followed() -> None:
    """As of a GPU that works in tiles of 8 rows."""
    curve = Curve((Point(1, 0.010), Point(8, 0.010), Point(9, 0.020), Point(16, 0.020)))
    for qps in (90, 400, 700):
        load = evenly_spaced(curve, qps)
        assert load.rows == pytest.approx(max(1.0, qps * load.batch_seconds))
        assert load.lag == pytest.approx(scheduled(curve, qps).mean, rel=0.09)
    assert evenly_spaced(curve, 801).lag == inf


def test_poisson_arrivals_cost_more_and_ever_more_towards_the_capacity() -> None:
    settings = BatchingSettings(
        slots=1, models={"m": ModelBatching(cross_request=True, max_rows=10)}, queue_calls=10_000
    )
    extra = []
    for qps in (50, 200, 400, 475):
        lags = simulate(settings, "m", EXAMPLE, poisson(qps, Random(3).expovariate), 3000, 300)
        extra.append(lags.mean / evenly_spaced(EXAMPLE, qps).lag)
        assert lags.percentile(0.99) > lags.mean
    assert all(each > 1.02 for each in extra)
    assert extra[-1] == max(extra) > 1.3
