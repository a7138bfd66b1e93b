"""What a scheduler makes of a device that has too little time, or had: in virtual time, with limits on all calls."""

from itertools import pairwise, takewhile
from random import Random

import pytest

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.waiting import Dropped, Effect, Send
from ext_proc.planning.simulation import Cost, Simulation, poisson
from tests.ext_proc.batching.calls import by_server, call, fixed

BATCH, SWITCH, MAX_ROWS = 0.020, 0.030, 10
NAMES = ("a", "b", "c")


def stalls(system: Simulation, at: float, seconds: float) -> Cost:
    """Batches that cost the same, but for one, the first after that time."""
    left = [seconds]
    return lambda model, rows: BATCH + (left.pop() if left and system.now >= at else 0.0)


def shared(qps: float, limit: float, seconds: float, *, switch_ms: float | None, stalled: bool = False) -> Simulation:
    """Three models on one device, called in turn from second 3 on; each has been called by itself before."""
    models = {name: ModelBatching(max_rows=MAX_ROWS, switch_ms=switch_ms) for name in NAMES}
    rng = Random(1)
    system = Simulation(
        BatchingSettings(models=models), fixed(BATCH), lambda model: SWITCH, lambda: rng.uniform(0.0005, 0.0020)
    )
    if stalled:
        system.cost = stalls(system, 4.0, 0.3)
    system.arrive(call(name, turn + 0.04 * i) for turn, name in enumerate(NAMES) for i in range(20))
    arrivals = [3.0 + i / qps for i in range(round(qps * seconds))]
    system.arrive(call(NAMES[i % len(NAMES)], at, deadline=at + limit) for i, at in enumerate(arrivals))
    system.run()
    return system


def in_time(system: Simulation, since: float) -> int:
    """Calls that came since then and were answered by their deadline."""
    return sum(one.arrived >= since and end <= one.deadline for one, end in system.answered.items())


def in_time_of(system: Simulation, model: str) -> int:
    """Calls of the model that were answered by their deadline."""
    return sum(one.model == model and end <= one.deadline for one, end in system.answered.items())


def by_chance(system: Simulation, *loads: tuple[str, float, float]) -> None:
    """Six seconds of calls that know nothing of one another: model, calls a second, and limit of each."""
    rng = Random(1)
    for name, qps, limit in loads:
        for at in takewhile(lambda at: at < 6.0, poisson(qps, rng.expovariate)):
            system.arrive([call(name, at, deadline=at + limit)])
    system.run()


@pytest.mark.parametrize("switch_ms", [30.0, None])
def test_models_that_fit_a_device_together_are_all_served(switch_ms: float | None) -> None:
    """Also while nobody knows what a switch costs yet."""
    system = shared(300.0, 0.390, 6.0, switch_ms=switch_ms)
    assert in_time(system, 3.0) >= 0.99 * 300 * 6


@pytest.mark.parametrize("switch_ms", [30.0, None])
def test_a_stall_is_over_when_it_is_over(switch_ms: float | None) -> None:
    """All calls are urgent then; a device that went from one to the next would be late for ever."""
    system = shared(300.0, 0.390, 8.0, switch_ms=switch_ms, stalled=True)
    assert in_time(system, 4.6) == round(300 * 6.4)


def test_with_too_many_calls_for_a_device_it_does_not_go_from_one_model_to_the_next_at_every_batch() -> None:
    system = shared(600.0, 0.390, 6.0, switch_ms=30.0)
    models = [batch.model for at, batch in system.sent if at > 4.0]
    assert sum(one != two for one, two in pairwise(models)) <= len(models) / 4
    # Six batches in 150 ms are 400 calls a second; each alone, in 50 ms, 200.
    assert in_time(system, 4.0) >= 380 * 5
    assert {batch.model for at, batch in system.sent if at > 8.0} == set(NAMES), "and none is forgotten"


@pytest.mark.parametrize("qps", [300.0, 450.0, 600.0])
def test_nothing_is_computed_for_nobody(qps: float) -> None:
    """A call that will be late is dropped before it is sent: a switch, and what runs already, are part of its wait."""
    system = shared(qps, 0.250, 6.0, switch_ms=30.0)
    late = [one for one, end in system.answered.items() if end > one.deadline + 0.005]
    assert len(late) <= 0.01 * len(system.answered)
    assert {drop.why for drop in system.dropped.values()} <= {Dropped.LATE}


@pytest.mark.parametrize(("slow", "least"), [(1, 385), (2, 260), (3, 130)])
def test_a_model_that_begins_slowly_is_not_refused_for_ever(slow: int, least: int) -> None:
    """Its first batches take half a second, what comes after them 20 ms; all its calls have 100 ms."""
    times = [0.5] * slow
    system = Simulation(BatchingSettings(), lambda model, rows: times.pop() if times else BATCH, way=lambda: 0.001)
    system.arrive(call("m", 0.05 * i, deadline=0.05 * i + 0.1) for i in range(400))
    system.run()
    assert system.in_time() >= least
    assert system.in_time() >= 0.95 * len(system.answered) - slow * 3


def test_a_model_that_is_too_slow_for_its_callers_takes_a_tenth_of_the_device_at_most() -> None:
    system = Simulation(BatchingSettings(), fixed(0.5), way=lambda: 0.001)
    system.arrive(call("m", 0.05 * i, deadline=0.05 * i + 0.1) for i in range(2000))
    system.run()
    assert 10 <= len(system.sent) <= 2 + 100 / 5
    assert system.in_time() == 0


def test_a_switch_that_seemed_long_is_tried_again() -> None:
    """Once, going over to a model took a second; its calls have 200 ms, and the other model always has work."""
    odd = [1.0]
    models = {name: ModelBatching(max_rows=MAX_ROWS) for name in "ab"}
    system = Simulation(
        BatchingSettings(models=models),
        fixed(BATCH),
        lambda model: odd.pop() if odd and model == "b" and system.now > 1.0 else 0.001,
    )
    system.arrive(call("a", 0.02 * i, deadline=0.02 * i + 0.2) for i in range(2000))
    system.arrive(call("b", 0.5 + 0.1 * i, deadline=0.7 + 0.1 * i) for i in range(400))
    system.run(until=41.0)
    last = [one for one in system.answered if one.model == "b" and one.arrived > 25.0]
    assert len(last) > 100


def test_work_that_can_wait_refuses_no_call_that_cannot() -> None:
    """While the device has a batch of the one and much more of it waits, the other's call goes next, and is in time."""
    models = {name: ModelBatching(max_rows=1, switch_ms=0) for name in "ab"}
    system = Simulation(BatchingSettings(models=models), fixed(BATCH))
    system.arrive(call(name, at) for name, at in (("b", 0.0), ("a", 0.5)))
    urgent = call("b", 1.001, deadline=1.090)
    system.arrive([*(call("a", 1.0, deadline=6.0) for _ in range(100)), urgent])
    system.run()
    assert not system.dropped
    assert system.answered[urgent] <= urgent.deadline


def test_models_of_unlike_costs_and_limits_share_a_device_that_is_nearly_full() -> None:
    """Batches of 6 to 66 ms, limits of 0.2 to 1.3 s, 0.95 of what full batches would allow."""
    base = {"a": 0.010, "b": 0.010, "c": 0.050, "d": 0.006, "e": 0.020}
    slope = {"a": 0.0, "b": 0.0, "c": 0.0005, "d": 0.0005, "e": 0.0005}
    limits = {"a": 0.33, "b": 0.332, "c": 0.33, "d": 0.204, "e": 1.326}
    models = {name: ModelBatching(max_rows=32, switch_ms=2) for name in base}
    rng = Random(1)
    system = Simulation(
        BatchingSettings(models=models), lambda model, rows: base[model] + slope[model] * rows, lambda model: 0.002
    )
    names = sorted(base)
    for i in range(4224):
        name, at = names[i % 5], i / 1056
        system.arrive([call(name, at, deadline=at + limits[name] * rng.choice([0.5, 1.0, 2.0]))])
    system.run()
    assert system.in_time() >= 0.88 * 4224
    assert system.in_time() >= 0.98 * len(system.answered)


def test_short_limits_are_kept_beside_long_batches() -> None:
    """Two models of 80 ms a batch, switch included, and one of 10 whose calls have 110: none of theirs goes ahead."""
    base, most = {"a": 0.050, "b": 0.050, "c": 0.010}, {"a": 4, "b": 4, "c": 32}
    models = {name: ModelBatching(max_rows=most[name]) for name in NAMES}
    system = Simulation(BatchingSettings(models=models), lambda model, rows: base[model], lambda model: SWITCH)
    by_chance(system, ("a", 28.0, 0.67), ("b", 14.0, 3.0), ("c", 980.0, 0.11))
    assert in_time_of(system, "c") >= 0.8 * 980 * 6


def test_a_device_of_several_slots_has_so_much_more_time() -> None:
    """Four slots: what waits is no reason to let urgent calls go while all of it can be in time."""
    models = {"bulk": ModelBatching(max_rows=32), "brief": ModelBatching(max_rows=4)}
    system = Simulation(
        BatchingSettings(slots=4, models=models), lambda model, rows: 0.042 if model == "bulk" else 0.010
    )
    by_chance(system, ("bulk", 2200.0, 0.4), ("brief", 560.0, 0.085))
    assert in_time_of(system, "brief") >= 0.9 * 560 * 6


def test_a_model_that_never_stays_is_tried_once_so_that_its_switch_is_known() -> None:
    """Its batches seem to take 34 ms; without the switch they take 4."""
    models = {name: ModelBatching(max_rows=4) for name in "ab"}
    system = Simulation(BatchingSettings(models=models), fixed(0.004), lambda model: SWITCH)
    system.arrive(call("ab"[i % 2], 0.010 * i, deadline=0.010 * i + 0.5) for i in range(600))
    system.run()
    for name in "ab":
        times = system.scheduler.times(name)
        assert times is not None
        assert times.expected(4) == pytest.approx(0.004, rel=0.2)
    assert system.in_time() >= 0.99 * 600


def test_a_way_is_not_longer_than_a_batch_that_went_it() -> None:
    """A slow first batch, then calls that always fill the next one: a batch must not be taken for the way to it."""
    slow = [0.050]
    system = Simulation(
        BatchingSettings(models={"m": ModelBatching(max_rows=10)}), lambda model, rows: slow.pop() if slow else BATCH
    )
    system.arrive(call("m", i / 520, deadline=i / 520 + 0.2) for i in range(3000))
    system.run()
    times = system.scheduler.times("m")
    assert times is not None
    assert times.expected(10) == pytest.approx(BATCH, rel=0.1)


def test_a_server_that_gathers_by_itself_leaves_the_device_to_the_others() -> None:
    """However much of it waits, who is next on the device is chosen as if it were not there."""

    def order(beside: int) -> list[str]:
        models = {name: ModelBatching(max_rows=rows, switch_ms=0) for name, rows in (("a", 4), ("b", 1))}
        models["own"] = ModelBatching(max_rows=1, slots=1)
        scheduler, order = Scheduler(BatchingSettings(slots=1, ahead=0, models=models)), list[str]()
        for now, one in ((0.0, call("a")), (1.0, by_server("own")), (2.9, call("b"))):
            for effect in scheduler.add(one, now):
                assert isinstance(effect, Send)
                assert not scheduler.finished(effect.batch.number, now + BATCH, answered=True)
        now, effects = 3.0, list[Effect]()
        for one in [by_server("own", now, deadline=now + 0.3) for _ in range(beside)]:
            effects += scheduler.add(one, now)
        for one in [*(call("a", now, deadline=now + 2.0) for _ in range(40)), call("b", now, deadline=now + 0.13)]:
            effects += scheduler.add(one, now)
        while sent := [effect.batch for effect in effects if isinstance(effect, Send) and effect.batch.model != "own"]:
            now += BATCH
            order += [batch.model for batch in sent]
            effects = [each for batch in sent for each in scheduler.finished(batch.number, now, answered=True)]
        return order

    assert "b" in order(0)
    assert order(0) == order(60)


def test_what_is_more_important_goes_first_among_models_too() -> None:
    """A device with too little time: calls of priority 1 are all in time, whichever model has more to do."""
    models = {name: ModelBatching(max_rows=4) for name in "ab"}
    system = Simulation(BatchingSettings(models=models), fixed(BATCH), lambda model: 0.005)
    system.arrive(call("a", i / 400, deadline=i / 400 + 0.3) for i in range(1600))
    system.arrive(call("b", i / 20, deadline=i / 20 + 0.3, priority=1) for i in range(80))
    system.run()
    assert in_time_of(system, "b") >= 78
    assert not [one for one in system.dropped if one.priority]
