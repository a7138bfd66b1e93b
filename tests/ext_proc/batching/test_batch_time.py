import pytest

from ext_proc.batching.batch_time import BatchTimes


def learned(pairs: list[tuple[int, float]]) -> BatchTimes:
    times = BatchTimes()
    for rows, seconds in pairs:
        times.observe(rows, seconds)
    return times


def test_nothing_is_expected_to_take_long_before_anything_has_run() -> None:
    assert (BatchTimes().expected(100), BatchTimes().cautious(100), BatchTimes().observations) == (0, 0, 0)


def test_a_line_is_found_exactly() -> None:
    times = learned([(rows, 0.010 + 0.002 * rows) for rows in (1, 4, 8, 2, 32)])
    assert times.expected(16) == pytest.approx(0.042)
    assert times.constant == pytest.approx(0.010)
    assert times.slope == pytest.approx(0.002)


def test_batches_of_one_size_teach_a_constant() -> None:
    times = learned([(8, 0.02)] * 20)
    assert times.expected(8) == pytest.approx(0.02)
    assert times.expected(32) == pytest.approx(0.02)


def test_no_row_saves_time() -> None:
    times = learned([(1, 0.030), (32, 0.020)] * 5)
    assert times.slope == 0
    assert times.expected(1) == pytest.approx(0.025, rel=0.05)


def test_no_batch_begins_below_nothing() -> None:
    times = learned([(10, 0.010), (20, 0.040)] * 5)
    assert times.constant == 0
    assert 0 < times.expected(1) < times.expected(20)


def test_what_was_long_ago_is_forgotten() -> None:
    times = learned([(4, 0.010)] * 200 + [(4, 0.020)] * 200)
    assert times.expected(4) == pytest.approx(0.020, rel=0.01)


@pytest.mark.parametrize("stalled", [[5.0], [0.0], [5.0, 0.0]])
def test_one_stall_is_no_new_regime(stalled: list[float]) -> None:
    """Nor is what comes right behind one: between two replies, one of which was late, there is no time at all."""
    times = learned([(4, 0.010)] * 50 + [(4, seconds) for seconds in stalled])
    assert times.expected(4) == pytest.approx(0.010, rel=0.01)


def test_a_cautious_time_covers_what_varies() -> None:
    times = learned([(4, 0.010), (4, 0.014)] * 50)
    assert times.expected(4) == pytest.approx(0.012, rel=0.1)
    assert 0.014 <= times.cautious(4) <= 0.020
