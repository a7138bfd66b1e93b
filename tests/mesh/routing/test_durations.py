import pytest

from mesh.routing.durations import LONGEST, Durations


def test_the_mean_follows_what_calls_take() -> None:
    durations = Durations(30.0, 10)
    assert durations.of("m", 0.0) is None
    durations.took("m", 1.0, 0.0)
    assert durations.of("m", 0.0) == 1.0
    for _ in range(40):
        durations.took("m", 0.1, 1.0)
    assert durations.of("m", 1.0) == pytest.approx(0.1, rel=0.1)


def test_what_nobody_saw_for_a_window_is_void() -> None:
    durations = Durations(30.0, 10)
    durations.took("m", 1.0, 0.0)
    assert durations.of("m", 30.0) == 1.0
    assert durations.of("m", 30.1) is None
    durations.took("m", 0.2, 100.0)
    assert durations.of("m", 100.0) == 0.2, "begun anew"


def test_bounds() -> None:
    durations = Durations(30.0, 10)
    durations.took("m", 1e9, 0.0)
    assert durations.of("m", 0.0) == LONGEST
    for number in range(100):
        durations.took(str(number), 1.0, 0.0)
    assert durations.of("m", 0.0) is None
