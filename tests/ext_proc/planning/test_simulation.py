"""Virtual time: the same as the simulated device of the scheduler's own tests."""

from itertools import islice
from random import Random

import pytest

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.planning.curve import straight
from ext_proc.planning.simulation import Lags, evenly, poisson, simulate
from tests.ext_proc.batching.simulated import Simulated, call

CURVE = straight(0.010, 0.001, 8)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("qps", [40, 200, 420])
def test_every_lag_is_that_of_the_other_device(qps: float, slots: int) -> None:
    model = ModelBatching(cross_request=True, max_rows=8)
    settings = BatchingSettings(slots=slots, ahead=0, models={"m": model}, queue_calls=10_000)
    rate = qps * slots
    found = simulate(settings, "m", CURVE, poisson(rate, Random(7).expovariate), 400)
    other = Simulated(settings, lambda model, rows: CURVE.seconds(rows), slots=slots)
    other.arrive([call(at=at) for at in islice(poisson(rate, Random(7).expovariate), 400)])
    other.run()
    assert found.lags == pytest.approx(sorted(other.lags()))
    assert found.rows == pytest.approx(sum(batch.rows for _, batch in other.sent) / len(other.sent))


def test_a_call_that_comes_as_a_batch_ends_is_in_the_next_one() -> None:
    """Whatever rounding makes of either time."""
    settings = BatchingSettings(models={"m": ModelBatching(cross_request=True, max_rows=10)})
    lags = simulate(settings, "m", straight(0.020, 0, 10), evenly(200), 4000, 4)
    assert {round(lag, 6) for lag in lags.lags} == {0.020, 0.025, 0.030, 0.035}
    assert lags.rows == pytest.approx(4, rel=1e-3)


def test_arrivals_are_as_many_as_they_say() -> None:
    assert list(islice(evenly(4), 3)) == [0, 0.25, 0.5]
    times = list(islice(poisson(50, Random(1).expovariate), 5000))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(100, rel=0.05)


def test_percentiles_are_nearest_ranks() -> None:
    lags = Lags([1.0, 2.0, 3.0, 4.0], 1.0)
    assert [lags.percentile(share) for share in (0, 0.25, 0.26, 0.99, 1)] == [1.0, 1.0, 2.0, 4.0, 4.0]
    assert lags.mean == 2.5
