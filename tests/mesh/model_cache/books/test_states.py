"""The table of states, the back-off, expected times, names: each by itself."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_cache.books import load_times
from mesh.model_cache.books.back_off import BackOff
from mesh.model_cache.books.load_times import LoadTimes
from mesh.model_cache.books.names import Key, check_name
from mesh.model_cache.books.states import LEGAL, CacheEntry, IllegalTransition, ModelState
from mesh.model_cache.errors import BadName, Busy, ModelBroken

KEY = Key("m", 1)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(ModelState, ModelState)))
def test_every_pair_of_states(old: ModelState, new: ModelState) -> None:
    entry = CacheEntry(KEY, old, since=1.0, cause="before")
    if new in LEGAL[old]:
        entry.move(new, 2.0, "after")
        assert (entry.state, entry.since, entry.cause) == (new, 2.0, "after")
    else:
        with pytest.raises(IllegalTransition, match=f"from {old} to {new}"):
            entry.move(new, 2.0)
        assert (entry.state, entry.since, entry.cause) == (old, 1.0, "before")


def test_no_state_is_a_dead_end() -> None:
    for start in ModelState:
        reached, todo = {start}, [start]
        while todo:
            for each in LEGAL[todo.pop()] - reached:
                reached.add(each)
                todo.append(each)
        assert reached == set(ModelState)


def test_the_back_off_doubles_up_to_a_limit_and_is_forgotten() -> None:
    back_off: BackOff[Key] = BackOff(5, 60)
    now, delays = 0.0, []
    for _ in range(6):
        failure = back_off.record(KEY, ModelBroken("no", "because"), now)
        delays.append(failure.until - now)
        assert back_off.check(KEY, failure.until - 0.001) is failure
        assert back_off.check(KEY, failure.until) is None
        now = failure.until
    assert delays == [5, 10, 20, 40, 60, 60]
    assert failure.attempts == 6
    assert back_off.record(KEY, ModelBroken("no"), now + 60).attempts == 1
    back_off.clear(KEY)
    assert back_off.check(KEY, now) is None


def test_a_failure_is_raised_as_what_it_was() -> None:
    back_off: BackOff[Key] = BackOff(5, 60)
    failure = back_off.record(KEY, ModelBroken("Model m does not load.", "inside"), 0)
    one, other = failure.error(), failure.error()
    assert one is not other
    assert isinstance(one, ModelBroken)
    assert (one.message, one.cause) == ("Model m does not load.", "inside")


@given(st.integers(1, 5000))
def test_ever_so_many_failures_give_a_number(attempts: int) -> None:
    back_off: BackOff[Key] = BackOff(1, 30)
    for _ in range(min(attempts, 1500)):
        failure = back_off.record(KEY, ModelBroken("no"), 0)
    assert math.isfinite(failure.until)
    assert failure.until <= 30


def test_the_quarantine_is_bounded() -> None:
    back_off: BackOff[int] = BackOff(5, 60, limit=100)
    for number in range(1000):
        back_off.record(number, ModelBroken("no"), 0)
    assert len(back_off) == 100
    assert back_off.last(999) is not None
    assert back_off.last(0) is None


def test_expected_times() -> None:
    times = LoadTimes()
    assert (times.expected("m"), times.mean) == (None, None)
    times.observe("m", 10, 1000)
    assert times.expected("m") == 10
    times.observe("m", 20, 1000)
    assert times.expected("m") == pytest.approx(13)
    assert times.expected("other") == times.mean == pytest.approx(13)
    assert times.expected("other", 2000) == pytest.approx(26)
    times.observe("n", 1, 100)
    times.observe("m", 13, 1000)
    assert times.latest(10) == ["m", "n"]
    assert times.latest(1) == ["m"]
    assert ("n" in times, "other" in times) == (True, False)


def test_expected_times_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_times, "_LIMIT", 3)
    times = LoadTimes()
    for number in range(5):
        times.observe(f"m{number}", number, 1)
    assert times.latest(10) == ["m4", "m3", "m2"]


@given(st.text(max_size=300))
def test_a_name_that_passes_stays_in_its_folder(name: str) -> None:
    try:
        assert check_name(name) == name
    except BadName:
        return
    assert not set(name) & set("/\\\x00\n")
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= 255


@pytest.mark.parametrize("name", ["", "..", "a/b", "\ud800x", "é" * 200])
def test_a_refused_name_is_told_in_one_printable_sentence(name: str) -> None:
    with pytest.raises(BadName) as raised:
        check_name(name)
    message = raised.value.message
    assert message.endswith(".")
    assert message.isascii()
    assert message.isprintable()


def test_a_copied_error_keeps_what_it_says() -> None:
    busy = Busy("full", "inside", 7.0)
    copy = busy.copy()
    assert copy is not busy
    assert isinstance(copy, Busy)
    assert (copy.message, copy.cause, copy.retry_after) == ("full", "inside", 7.0)
