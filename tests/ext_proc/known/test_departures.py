"""Which models Envoy may still call by itself: maps that are written, taken in by all workers, or by nobody."""

import math

import pytest

from ext_proc.known.departures import SETTLES, Departures

NOW = 100.0


@pytest.fixture
def departures() -> Departures:
    """Envoy goes by the first map of this process, which has a and b."""
    found = Departures()
    found.writes(1, ["a", "b"])
    found.goes_by(1, False, NOW - SETTLES)
    return found


def test_of_the_maps_of_an_earlier_process_nobody_knows_the_models() -> None:
    departures = Departures()
    assert departures.settled_at("any") == math.inf
    departures.goes_by(0, True, NOW)
    assert departures.settled_at("any") == math.inf, "that is still somebody else's map"
    departures.writes(1, ["a"])
    assert departures.settled_at("any") == math.inf, "written is not taken"
    departures.goes_by(1, False, NOW)
    assert departures.settled_at("any") == NOW + SETTLES
    departures.goes_by(1, False, NOW + 0.5)
    assert departures.settled_at("any") == NOW + SETTLES, "it is not said anew with every word of Envoy's"
    assert departures.settled_at("a") == math.inf


def test_a_model_that_was_never_in_a_map_goes_at_once(departures: Departures) -> None:
    assert departures.settled_at("z") <= NOW


def test_a_model_is_called_until_all_workers_go_by_a_map_without_it(departures: Departures) -> None:
    departures.writes(2, ["b"])
    assert departures.settled_at("a") == math.inf
    departures.goes_by(1, False, NOW + 1)
    assert departures.settled_at("a") == math.inf
    departures.goes_by(2, False, NOW + 2)
    assert departures.settled_at("a") == NOW + 2 + SETTLES
    assert departures.settled_at("b") == math.inf
    departures.goes_by(2, False, NOW + 9)
    assert departures.settled_at("a") <= NOW + 9


def test_an_envoy_without_a_call_in_flight_has_none_of_that_model(departures: Departures) -> None:
    departures.writes(2, ["b"])
    departures.goes_by(1, True, NOW)
    assert departures.settled_at("a") == math.inf, "but it may get one, by the map before"
    departures.goes_by(2, False, NOW)
    departures.goes_by(2, True, NOW + 0.1)
    assert departures.settled_at("a") <= NOW + 0.1


def test_a_model_that_comes_back_is_called_again(departures: Departures) -> None:
    departures.writes(2, ["b"])
    departures.writes(3, ["a", "b"])
    departures.goes_by(2, True, NOW)
    assert departures.settled_at("a") == math.inf
    departures.goes_by(3, True, NOW)
    assert departures.settled_at("a") == math.inf
    departures.writes(4, [])
    departures.goes_by(4, True, NOW)
    assert {departures.settled_at(model) for model in "ab"} <= {NOW}


def test_where_words_were_lost_calls_tell_once_more(departures: Departures) -> None:
    departures.writes(2, [])
    departures.goes_by(2, False, NOW)
    departures.missed(NOW + 0.9 * SETTLES)
    assert departures.settled_at("a") == NOW + 1.9 * SETTLES
    departures.missed(NOW + 5)
    assert departures.settled_at("a") <= NOW + 5, "what has settled stays so"


def test_who_hears_nothing_any_more_knows_of_no_call(departures: Departures) -> None:
    departures.writes(2, ["b"])
    departures.goes_by(2, False, NOW)
    departures.hears_no_more(NOW + 0.1)
    assert departures.settled_at("a") == math.inf
    assert departures.settled_at("z") <= NOW, "what has settled stays so"
    departures.goes_by(2, False, NOW + 9)
    assert departures.settled_at("a") == math.inf
    departures.goes_by(2, True, NOW + 10)
    assert departures.settled_at("a") <= NOW + 10


def test_an_envoy_that_is_gone_begins_with_the_file_as_it_is(departures: Departures) -> None:
    departures.writes(2, ["b"])
    departures.is_gone(2, NOW)
    assert departures.settled_at("a") <= NOW
    assert departures.settled_at("b") == math.inf
