import hypothesis.strategies as st
from hypothesis import given

from ext_proc.broker.budget import TokenBucket


def test_it_starts_full_and_refills_by_the_share() -> None:
    budget = TokenBucket(0.2, 100)
    assert budget.take(100)
    assert not budget.take(1)
    budget.earn(50)
    assert budget.level_ms == 10
    assert budget.take(10)
    budget.earn(10_000)
    assert budget.level_ms == 100


def test_a_hedge_dearer_than_the_bucket_needs_a_full_one() -> None:
    budget = TokenBucket(0.2, 100)
    assert budget.take(250)
    assert budget.level_ms == -150
    budget.earn(1000)
    assert not budget.take(250)
    budget.earn(250)
    assert budget.take(250)


def test_debt_has_a_floor() -> None:
    budget = TokenBucket(0.2, 100)
    for _ in range(10):
        budget.owe(80)
    assert budget.level_ms == -100
    budget.earn(1000)
    assert budget.take(100)


def test_a_share_of_nothing_allows_nothing() -> None:
    budget = TokenBucket(0, 100)
    assert not budget.take(1)


steps = st.lists(st.tuples(st.sampled_from(["earn", "take", "owe"]), st.integers(0, 1000)), max_size=60)


@given(steps, st.integers(1, 500), st.floats(0.01, 1))
def test_granted_work_never_exceeds_the_share(steps: list[tuple[str, int]], burst: int, share: float) -> None:
    budget = TokenBucket(share, burst)
    primary = granted = 0.0
    for what, ms in steps:
        if what == "earn":
            budget.earn(ms)
            primary += ms
        elif what == "owe":
            budget.owe(ms)
        elif budget.take(ms):
            # Before a dear hedge the bucket was full, so that the sum cannot run away by it.
            granted += min(ms, burst)
        assert granted <= burst + share * primary + 1e-6
        assert budget.level_ms <= burst
