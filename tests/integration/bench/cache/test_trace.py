"""What the cache benchmark plays, and the caches that it is compared with."""

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.bench.cache.hit_shares import at_random, in_turn, lru_hits, placed_hits, share
from integration.bench.cache.trace import MIB, Case, weights, zipf

CALLS = st.lists(st.integers(0, 5), max_size=40)


def test_a_case_has_the_same_trace_each_time() -> None:
    case = Case(0.9, 0.05, models=50, calls=300)
    assert case.trace() == case.trace() != Case(1.1, 0.05, models=50, calls=300).trace()
    assert case.weights() == case.weights()
    assert Case(**case.as_json()) == case


def test_calls_follow_zipfs_law_at_the_rate_that_is_said() -> None:
    trace = zipf(1.1, 100, 50_000, 200.0, 1)
    ranked = [count for _, count in Counter(trace.models).most_common()]
    assert set(trace.models) <= set(range(100))
    for rank in (2, 4, 8):
        assert ranked[0] / ranked[rank - 1] == pytest.approx(rank**1.1, rel=0.1)
    assert all(earlier < later for earlier, later in pairwise(trace.at))
    assert trace.at[-1] == pytest.approx(250.0, rel=0.03)


def test_popularity_has_nothing_to_do_with_numbers() -> None:
    most = {Counter(zipf(1.1, 100, 2000, 1.0, seed).models).most_common(1)[0][0] for seed in range(8)}
    assert len(most) > 4


def test_a_model_takes_time_as_it_has_bytes() -> None:
    found = weights(1000, 1)
    for each in found[:10]:
        assert each.fetch_seconds == pytest.approx(each.size_bytes / (500 * MIB), rel=1e-6)
        assert each.load_seconds == pytest.approx(0.1 + each.size_bytes / (1024 * MIB), rel=1e-6)
    assert sorted(each.size_bytes for each in found)[500] == pytest.approx(200 * MIB, rel=0.1)


def test_the_least_recently_used_one_goes() -> None:
    assert list(lru_hits([1, 2, 1, 3, 1, 2], 2)) == [False, False, True, False, True, False]


@given(CALLS, st.integers(1, 6))
def test_a_model_is_held_if_fewer_than_slots_others_were_asked_for_since(models: list[int], slots: int) -> None:
    expected = []
    for number, model in enumerate(models):
        earlier = [before for before in range(number) if models[before] == model]
        since = set(models[earlier[-1] + 1 : number]) if earlier else set(range(slots))
        expected.append(bool(earlier) and len(since) < slots)
    assert list(lru_hits(models, slots)) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40), st.integers(1, 4))
def test_each_node_has_a_cache_of_its_own(calls: list[tuple[int, int]], slots: int) -> None:
    found = list(placed_hits([model for model, _ in calls], [node for _, node in calls], slots))
    for node in range(3):
        alone = lru_hits([model for model, at in calls if at == node], slots)
        assert [hit for hit, (_, at) in zip(found, calls, strict=True) if at == node] == list(alone)


def test_placements() -> None:
    assert list(islice(in_turn(3), 7)) == [0, 1, 2, 0, 1, 2, 0]
    drawn = list(islice(at_random(4, 1), 4000))
    assert drawn == list(islice(at_random(4, 1), 4000)) != list(islice(at_random(4, 2), 4000))
    assert set(drawn) == {0, 1, 2, 3}
    assert all(count == pytest.approx(1000, rel=0.15) for count in Counter(drawn).values())


def test_the_start_does_not_count() -> None:
    assert share([False, False, True, False, True, True], 2) == 3 / 4
    with pytest.raises(ValueError, match="no calls"):
        share([True], 1)
