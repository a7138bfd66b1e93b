import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mesh.health.state import HealthState, ProbeSettings


def observed(settings: ProbeSettings, results: str) -> str:
    """The beliefs after each of the probes: + for a good one and for alive, - for the opposite."""
    state = HealthState(settings)
    beliefs = ""
    for result in results:
        before = state.alive
        change = state.observe(result == "+")
        assert change is (None if state.alive is before else state.alive)
        beliefs += "+" if state.alive else "-"
    return beliefs


@pytest.mark.parametrize(
    ("results", "beliefs"),
    [
        ("+++", "+++"),
        ("--+--+", "++++++"),  # never three in a row
        ("---", "++-"),
        ("----++", "++---+"),
        ("---+-++", "++----+"),  # one good one is no return
        ("---++--+---", "++--++++++-"),
    ],
)
def test_it_takes_three_failures_to_die_and_two_good_probes_to_return(results: str, beliefs: str) -> None:
    assert observed(ProbeSettings(failures=3, successes=2), results) == beliefs


@given(st.text("+-", max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_a_belief_changes_only_on_enough_contradictions_and_always_gives_way_to_them(
    results: str, failures: int, successes: int
) -> None:
    beliefs = "+" + observed(ProbeSettings(failures=failures, successes=successes), results)
    for now in range(1, len(beliefs)):
        seen = results[:now]
        if beliefs[now] != beliefs[now - 1]:
            assert seen.endswith("-" * failures if beliefs[now] == "-" else "+" * successes)
        if seen.endswith("-" * failures):
            assert beliefs[now] == "-"
        if seen.endswith("+" * successes):
            assert beliefs[now] == "+"


def test_it_is_asked_again_soon_while_in_doubt_and_at_leisure_when_certain() -> None:
    state = HealthState(ProbeSettings(interval=2.0, retry_interval=0.25, failures=2, successes=2, jitter=0.5))
    pauses = []
    for good in (True, False, False, True, True):
        state.observe(good)
        pauses.append(state.pause(0.5))
    assert pauses == [2.0, 0.25, 2.0, 0.25, 2.0]
    assert (state.pause(0.0), state.pause(1.0)) == (1.0, 3.0)


@pytest.mark.parametrize(
    "wrong",
    [{"interval": 0}, {"failures": 0}, {"jitter": 0.6}, {"path": "health"}, {"path": "/a b"}, {"path": "/a\r\nX: y"}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ProbeSettings.model_validate(wrong)
