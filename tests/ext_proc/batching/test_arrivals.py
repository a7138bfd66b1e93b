"""Whether calls come so regularly that the next one is known to come."""

from collections.abc import Iterable
from itertools import islice
from random import Random

import pytest

from ext_proc.batching.arrivals import Arrivals
from ext_proc.batching.queue import BatchQueue
from ext_proc.batching.settings import ModelBatching
from ext_proc.planning.simulation import evenly, poisson
from tests.ext_proc.batching.calls import call

QUEUE = BatchQueue("m", "k", ModelBatching())


def after(times: Iterable[float]) -> Arrivals:
    arrivals = Arrivals()
    for time in times:
        arrivals.observe(call(at=time), time)
    return arrivals


def test_of_evenly_spaced_calls_the_next_one_is_known() -> None:
    arrivals = after(islice(evenly(200), 101))
    assert arrivals.tell_next(QUEUE)
    assert arrivals.gap == pytest.approx(0.005)
    assert arrivals.next == pytest.approx(0.505)
    assert arrivals.next < arrivals.latest < 0.506


def test_a_few_gaps_tell_nothing() -> None:
    assert not after(islice(evenly(200), 16)).tell_next(QUEUE)
    assert after(islice(evenly(200), 17)).tell_next(QUEUE)


def test_calls_that_are_off_by_a_little_are_given_time_for_it() -> None:
    chance = Random(1)
    times = [number / 200 + chance.uniform(0, 0.001) for number in range(2000)]
    arrivals, in_time, told = after(times[:1000]), 0, 0
    for time in times[1000:]:
        told += arrivals.tell_next(QUEUE)
        in_time += time <= arrivals.latest
        arrivals.observe(call(at=time), time)
    assert told == 1000
    assert in_time > 950


def test_of_calls_that_know_nothing_of_one_another_the_next_one_is_not_known() -> None:
    arrivals, told = Arrivals(), 0
    for time in islice(poisson(200, Random(1).expovariate), 20_000):
        arrivals.observe(call(at=time), time)
        told += arrivals.tell_next(QUEUE)
    assert told < 20


def test_after_a_pause_it_is_not_known_until_they_are_regular_again() -> None:
    arrivals = after(islice(evenly(200), 101))
    for number in range(30):
        arrivals.observe(call(), 1.5 + number / 200)
        assert arrivals.tell_next(QUEUE) == (number >= 16)


@pytest.mark.parametrize("other", [{"key": "other"}, {"model": "other"}, {"key": None}])
def test_a_call_of_another_kind_begins_it_anew(other: dict[str, str | None]) -> None:
    arrivals = after(islice(evenly(200), 101))
    arrivals.observe(call(**other), 0.503)  # type: ignore[arg-type]
    assert not arrivals.tell_next(QUEUE)
    for number in range(17):
        assert not arrivals.tell_next(QUEUE)
        arrivals.observe(call(), 0.505 + number * 0.010)
    assert arrivals.tell_next(QUEUE)
    assert arrivals.gap == pytest.approx(0.010)
