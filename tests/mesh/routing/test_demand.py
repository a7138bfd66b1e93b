import pytest

from mesh.routing.demand import Demand


def test_a_steady_rate_is_told_as_it_is_and_fades() -> None:
    demand = Demand(window=10.0, models=100)
    for number in range(1000):
        demand.called("m", number / 10)
    assert demand.rate("m", 100.0) == pytest.approx(10.0, rel=0.01)
    assert demand.rate("m", 110.0) == pytest.approx(10.0 / 2.71828, rel=0.01)
    assert demand.rate("m", 300.0) == 0.0
    assert demand.rate("never", 0.0) == 0.0


def test_one_call_is_in_demand_for_about_three_windows() -> None:
    demand = Demand(window=10.0, models=100)
    demand.called("m", 0.0)
    assert demand.rate("m", 29.0) > 0.0
    assert demand.rate("m", 31.0) == 0.0


def test_memory_is_bounded_whatever_names_come() -> None:
    demand = Demand(window=10.0, models=100)
    for number in range(10_000):
        demand.called(f"name-{number}", 0.0)
    assert 100 <= len(demand.models()) <= 200
    assert len(set(demand.models())) == len(demand.models())
    assert demand.rate("name-9999", 0.0) > 0.0
    assert demand.rate("name-0", 0.0) == 0.0


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    demand = Demand(window=10.0, models=100)
    demand.called("m", 5.0)
    demand.called("m", 4.0)
    assert demand.rate("m", 5.0) == pytest.approx(0.2)
