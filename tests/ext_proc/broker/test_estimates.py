import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from ext_proc.broker.estimates import ENOUGH, Estimates, Window
from ext_proc.broker.plan import Candidate, How, Mix, Plan
from ext_proc.broker.schedule import Estimate
from ext_proc.broker.settings import BrokerSettings
from mesh.routing.placement import RESIDENT, ExpectedWait

COLD = ExpectedWait(cold=True)  # and nobody knows how long a load takes
BERT = Candidate("bert", estimate_ms=35)


def estimates(**settings: float) -> Estimates:
    return Estimates(BrokerSettings(**settings))  # type: ignore[arg-type]


def test_declared_until_twenty_observations() -> None:
    live = estimates()
    for _ in range(ENOUGH - 1):
        live.observe(BERT, RESIDENT, 80, 1000.0)
    assert live.of(BERT, RESIDENT, 1000.0) == Estimate(35)
    live.observe(BERT, RESIDENT, 80, 1000.0)
    assert live.of(BERT, RESIDENT, 1000.0).ms == pytest.approx(80, rel=0.05)


def test_calls_that_were_given_up_raise_the_estimate_but_never_lower_it() -> None:
    live = estimates()
    for _ in range(2 * ENOUGH):
        live.given_up(BERT, RESIDENT, 20, 0.0)
    assert live.of(BERT, RESIDENT, 0.0) == Estimate(35)  # declared: nothing was learnt
    for _ in range(ENOUGH):
        live.given_up(BERT, RESIDENT, 80, 0.0)
    assert live.of(BERT, RESIDENT, 0.0).ms == pytest.approx(80, rel=0.05)


def test_the_default_where_nothing_is_declared() -> None:
    assert estimates(default_estimate_ms=7).of(Candidate("x"), RESIDENT, 0.0) == Estimate(7)


def test_versions_are_told_apart() -> None:
    live = estimates()
    for _ in range(ENOUGH):
        live.observe(Candidate("bert", version="3"), RESIDENT, 80, 0.0)
    assert live.of(BERT, RESIDENT, 0.0) == Estimate(35)


def test_old_observations_fall_out_of_the_window() -> None:
    live = estimates(estimate_window_s=60)
    for _ in range(ENOUGH):
        live.observe(BERT, RESIDENT, 80, 1000.0)
    assert live.of(BERT, RESIDENT, 1040.0).ms > 70
    assert live.of(BERT, RESIDENT, 1075.0) == Estimate(35)
    for _ in range(ENOUGH):
        live.observe(BERT, RESIDENT, 10, 90_000.0)
    assert live.of(BERT, RESIDENT, 90_000.0).ms == pytest.approx(10, rel=0.05)


def test_a_cold_model_carries_its_load_time() -> None:
    live = estimates(default_load_ms=2000)
    assert live.of(BERT, COLD, 0.0) == Estimate(2035, cold=True)
    assert live.of(BERT, ExpectedWait(True, 0.5), 0.0) == Estimate(535, cold=True)  # as its node says
    for _ in range(ENOUGH):
        live.observe(BERT, COLD, 700, 0.0)
    assert live.of(BERT, COLD, 0.0).ms == pytest.approx(700, rel=0.05)
    # A load that goes on already is not seen in what others have waited.
    assert live.of(BERT, ExpectedWait(True, 0.1), 0.0) == Estimate(135, cold=True)


def test_the_estimates_of_a_plan() -> None:
    plan = Plan("m", (BERT, Mix((Candidate("a", estimate_ms=1), Candidate("b", estimate_ms=2)), How.MAX)), 50)
    cold = estimates(default_load_ms=100).of_plan(plan, lambda one: COLD if one.model == "b" else RESIDENT, 0.0)
    assert cold == ((Estimate(35),), (Estimate(1), Estimate(102, cold=True)))


def test_memory_is_bounded() -> None:
    live = estimates()
    for n in range(5000):
        live.observe(Candidate(f"m{n}"), RESIDENT, 5, 0.0)
    assert len(live._series) == 4096
    window = Window(60)
    for n in range(100_000):
        window.observe(0.001 * 1.0005**n if n < 50_000 else 1e300, 0.0)
    assert len(window._total) < 600


@given(st.lists(st.floats(0.01, 1e5), min_size=ENOUGH, max_size=200))
def test_the_percentile_is_that_of_the_observations(times: list[float]) -> None:
    window = Window(60)
    for ms in times:
        window.observe(ms, 5.0)
    exact = float(np.quantile(times, 0.95, method="inverted_cdf"))
    quantiles = window.quantiles(5.0)
    assert quantiles is not None
    assert exact * 0.999 <= quantiles[0] <= exact * 1.051


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0.01, 1000)), min_size=1, max_size=120))
def test_the_window_holds_the_last_slices_exactly(steps: list[tuple[float, float]]) -> None:
    window, now, seen = Window(40), 0.0, []
    for pause, ms in steps:
        now += pause
        window.observe(ms, now)
        seen.append((int(now / 10), ms))
        recent = [ms for slot, ms in seen if slot > int(now / 10) - 4]
        quantiles = window.quantiles(now)
        assert (quantiles is None) == (len(recent) < ENOUGH)
        if quantiles is not None:
            assert quantiles[0] == pytest.approx(float(np.quantile(recent, 0.95, method="inverted_cdf")), rel=0.051)


def test_the_tail_is_the_99th_percentile_and_with_few_observations_the_slowest() -> None:
    live = estimates()
    for n in range(50):
        live.observe(BERT, RESIDENT, 100.0 if n == 7 else 10.0, 0.0)
    few = live.of(BERT, RESIDENT, 0.0)
    assert few.ms == pytest.approx(10, rel=0.051)
    assert few.tail_ms == pytest.approx(100, rel=0.051)
    for _ in range(250):
        live.observe(BERT, RESIDENT, 10.0, 0.0)
    assert live.of(BERT, RESIDENT, 0.0).tail_ms == pytest.approx(10, rel=0.051)
