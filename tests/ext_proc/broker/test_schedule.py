import hypothesis.strategies as st
from hypothesis import given

from ext_proc.broker.schedule import Estimate, latest_start, micros, starts


def at(limit_ms: float, *estimates: float, margin_ms: float = 2) -> list[float]:
    return [us / 1000 for us in starts([Estimate(ms) for ms in estimates], micros(limit_ms), micros(margin_ms))]


def test_the_seeds_example() -> None:
    assert at(50, 35, 25, 15, 5) == [0, 23, 33, 43]


def test_the_sum_counts_where_there_is_time() -> None:
    assert at(200, 35, 25, 15, 5) == [0, 35, 60, 75]


def test_never_below_zero() -> None:
    assert at(10, 35, 25, 15, 5) == [0, 0, 0, 3]


def test_a_worse_candidate_may_have_to_start_before_a_better_one() -> None:
    assert at(50, 35, 5, 40) == [0, 35, 8]


def test_nobody_waits_for_a_load_that_cannot_end_in_time() -> None:
    cold = [Estimate(2035, cold=True), Estimate(25), Estimate(5)]
    assert starts(cold, 500_000, 2_000) == [0, 0, 25_000]
    assert starts(cold, 5_000_000, 2_000) == [0, 2_035_000, 2_060_000]
    slow = [Estimate(2035), Estimate(25)]
    assert starts(slow, 500_000, 2_000) == [0, 473_000]


times = st.integers(0, 10**7).map(lambda us: us / 1000)


@given(st.lists(times, min_size=1, max_size=8), st.integers(0, 10**7), st.integers(0, 10**5))
def test_the_formula(estimates: list[float], limit: int, margin: int) -> None:
    got = starts([Estimate(ms) for ms in estimates], limit, margin)
    assert got[0] == 0
    for i in range(1, len(estimates)):
        before = sum(micros(ms) for ms in estimates[:i])
        assert got[i] == max(0, min(before, limit - micros(estimates[i]) - margin))
        assert got[i] <= latest_start(Estimate(estimates[i]), limit, margin)


@given(st.lists(times, min_size=2, max_size=8), st.integers(0, 10**7), st.integers(0, 10**6))
def test_a_longer_limit_never_starts_a_backup_earlier(estimates: list[float], limit: int, more: int) -> None:
    ms = [Estimate(one) for one in estimates]
    assert all(a <= b for a, b in zip(starts(ms, limit, 2000), starts(ms, limit + more, 2000), strict=True))


def test_the_last_candidate_starts_early_enough_for_its_tail() -> None:
    primary, backup = Estimate(55), Estimate(10, tail_ms=30)
    assert starts([primary, backup], 60_000, 2_000) == [0, 28_000]
    # A better one keeps its 95th percentile: somebody stands behind it.
    assert starts([primary, backup, Estimate(5)], 60_000, 2_000) == [0, 48_000, 53_000]
    # The tail never delays a start.
    assert starts([Estimate(20), backup], 60_000, 2_000) == [0, 20_000]
