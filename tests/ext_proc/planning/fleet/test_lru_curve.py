"""The curve of one cache against caches that are simply tried."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from ext_proc.planning.fleet.lru_curve import LruCurve


def tried(models: list[int], slots: int) -> float:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for model in models:
        if model in cache:
            hits += 1
            cache.move_to_end(model)
        elif slots:
            if len(cache) >= slots:
                cache.popitem(last=False)
            cache[model] = None
    return hits / len(models)


@given(st.lists(st.integers(0, 8), min_size=1), st.integers(0, 10))
def test_a_size_of_the_curve_hits_as_a_cache_of_that_size(models: list[int], slots: int) -> None:
    curve = LruCurve()
    for model in models:
        curve.add(model)
    assert curve.share(slots) == tried(models, slots)
    points = dict(curve.points())
    assert points[min(slots, max(points))] == curve.share(slots)
    assert curve.models == len(set(models))


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5), min_size=1), st.integers(1, 6))
def test_calls_that_do_not_count_fill_the_cache(before: list[int], after: list[int], slots: int) -> None:
    curve = LruCurve()
    for number, model in enumerate([*before, *after]):
        curve.add(model, counts=number >= len(before))
    hits = tried([*before, *after], slots) * (len(before) + len(after))
    counted = hits - (tried(before, slots) * len(before) if before else 0.0)
    assert abs(curve.share(slots) * len(after) - counted) < 1e-6


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1), st.integers(1, 6))
def test_a_call_that_stands_for_several_counts_as_these(calls: list[tuple[int, int]], slots: int) -> None:
    curve = LruCurve()
    for model, times in calls:
        curve.add(model, times)
    assert curve.share(slots) == tried([model for model, times in calls for _ in range(times)], slots)
