"""Virtual time: what happens at once, and what a device makes of batches."""

from itertools import islice
from random import Random

import pytest

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.planning.curve import straight
from ext_proc.planning.simulation import Lags, Simulation, evenly, poisson, simulate
from tests.ext_proc.batching.calls import call, fixed


def test_batches_wait_for_a_slot_of_the_device_and_take_the_way_both_ways() -> None:
    system = Simulation(BatchingSettings(ahead=1), fixed(0.020), way=lambda: 0.002)
    calls = [call(key=None) for _ in range(3)]
    system.arrive(calls)
    system.run()
    assert [system.answered[one] for one in calls] == pytest.approx([0.024, 0.044, 0.064])


def test_each_slot_of_the_device_runs_a_batch() -> None:
    system = Simulation(BatchingSettings(slots=2, ahead=0), fixed(0.020), switch=lambda model: 0.005)
    calls = [call("a", key=None), call("b", key=None), call("b", key=None)]
    system.arrive(calls)
    system.run()
    ends = sorted(system.answered[one] for one in calls)
    assert ends[:2] == pytest.approx([0.025, 0.025])
    assert system.most_running == 2


def test_a_call_that_comes_as_a_batch_ends_is_in_the_next_one() -> None:
    """Whatever rounding makes of either time."""
    settings = BatchingSettings(models={"m": ModelBatching(cross_request=True, max_rows=10)})
    lags = simulate(settings, "m", straight(0.020, 0, 10), evenly(200), 4001, 4)
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
