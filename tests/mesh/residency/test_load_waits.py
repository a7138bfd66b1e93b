from hypothesis import given
from hypothesis import strategies as st

from mesh.residency import load_waits as module
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency

LOADING, AVAILABLE, ABSENT = Residency.LOADING, Residency.AVAILABLE, Residency.ABSENT


def test_nothing_is_known_of_a_node_that_says_nothing() -> None:
    waits = LoadWaits()
    waits.told("old", {"m": LOADING}, {}, None, 0.0)
    assert waits.seconds("old", "m", 0.0) is None
    assert waits.seconds("never seen", "m", 0.0) is None


def test_named_models_others_and_loads_that_go_on() -> None:
    waits = LoadWaits()
    waits.told("a", {}, {"m": 4.0}, 2.0, 0.0)
    waits.told("b", {}, {"m": 8.0}, None, 0.0)
    assert [waits.seconds(node, "m", 50.0) for node in "ab"] == [4.0, 8.0]
    assert [waits.seconds(node, "n", 50.0) for node in "ab"] == [2.0, None]
    waits.told("a", {"m": LOADING}, {"m": 3.5}, 2.0, 100.0)
    assert [waits.seconds("a", "m", now) for now in (100.0, 102.5, 104.0)] == [3.5, 1.0, 0.0]
    waits.told("a", {"m": AVAILABLE}, {}, 3.0, 105.0)
    waits.told("a", {"m": ABSENT}, {"m": 5.0}, 3.0, 106.0)
    assert (waits.seconds("a", "m", 107.0), waits.seconds("a", "n", 107.0)) == (5.0, 3.0)
    waits.forget("a")
    assert waits.seconds("a", "m", 107.0) is None
    waits.forget("never seen")


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([LOADING, ABSENT])), max_size=60))
def test_the_newest_are_remembered(told: list[tuple[int, Residency]]) -> None:
    waits, most = LoadWaits(), module.MOST
    module.MOST = 3
    try:
        newest: dict[Residency, dict[str, None]] = {LOADING: {}, ABSENT: {}}
        for number, state in told:
            model = f"m{number}"
            waits.told("a", {model: state}, {model: 1.0}, None, 0.0)
            newest[LOADING].pop(model, None)
            newest[state].pop(model, None)
            newest[state][model] = None
            for kept in newest.values():
                for oldest in list(kept)[:-3]:
                    del kept[oldest]
        known = {f"m{number}" for number in range(10) if waits.seconds("a", f"m{number}", 0.0) is not None}
        assert known == newest[LOADING].keys() | newest[ABSENT].keys()
    finally:
        module.MOST = most
