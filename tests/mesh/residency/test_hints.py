import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.node import Node
from mesh.residency import hints as module
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.state import Residency

AVAILABLE, ABSENT = Residency.AVAILABLE, Residency.ABSENT
A = Node("a", grpc="10.0.0.1:8500", rest="10.0.0.1:8501")
B = Node("b", grpc="10.0.0.2:8500")
GRPC_A, REST_A = A.grpc, A.rest
REMEMBER = 10.0


def hints() -> tuple[ReplyHints, CacheMap]:
    cache_map = CacheMap()
    return ReplyHints(cache_map, REMEMBER), cache_map


def test_nobody_is_asked_while_all_are_heard() -> None:
    ours, cache_map = hints()
    assert not ours.silent
    assert not ours.wants_residency(GRPC_A, "m", 0.0)
    ours.told(GRPC_A, "m", AVAILABLE, True, 0.0)
    assert (len(cache_map), cache_map.leaving) == (0, frozenset())


def test_a_silent_node_is_asked_about_each_model_twice_in_the_time_that_its_word_holds() -> None:
    ours, _ = hints()
    ours.silence(A)
    asked = [now for now in (0.0, 0.1, 4.9, 5.0, 9.9, 10.0) if ours.wants_residency(REST_A, "m", now)]
    assert asked == [0.0, 5.0, 10.0]
    assert ours.wants_residency(GRPC_A, "n", 0.0)
    assert not ours.wants_residency(B.grpc, "m", 0.0)
    assert not ours.wants_residency(None, "m", 0.0)


def test_what_it_says_holds_for_a_while_and_is_renewed() -> None:
    ours, cache_map = hints()
    ours.silence(A)
    ours.told(GRPC_A, "m", AVAILABLE, False, 0.0)
    ours.told(REST_A, "n", AVAILABLE, False, 1.0)
    ours.told(REST_A, "m", AVAILABLE, False, 5.0)
    assert not cache_map.is_live("a")
    ours.expire("a", 11.0)
    assert cache_map.models("a") == {"m": AVAILABLE}
    ours.told(GRPC_A, "m", ABSENT, False, 12.0)
    assert cache_map.models("a") == {}
    ours.told(GRPC_A, "m", AVAILABLE, False, 13.0)
    ours.expire("a", 23.0)
    assert len(cache_map) == 0


def test_a_node_that_says_it_goes_is_believed_for_the_same_time() -> None:
    ours, cache_map = hints()
    ours.silence(A)
    ours.told(GRPC_A, "m", AVAILABLE, True, 0.0)
    ours.expire("a", 9.9)
    assert cache_map.is_leaving("a")
    ours.expire("a", 10.0)
    assert not cache_map.is_leaving("a")
    ours.told(GRPC_A, "m", AVAILABLE, True, 20.0)
    ours.told(GRPC_A, "m", AVAILABLE, False, 21.0)
    assert not cache_map.is_leaving("a")


def test_a_stream_makes_its_word_void() -> None:
    ours, cache_map = hints()
    ours.silence(A)
    ours.told(GRPC_A, "m", AVAILABLE, True, 0.0)
    ours.heard("a")
    cache_map.snapshot("a", {"n": AVAILABLE})
    assert not ours.silent
    assert cache_map.models("a") == {"n": AVAILABLE}
    ours.told(GRPC_A, "m", AVAILABLE, False, 1.0)  # a reply that was on its way
    ours.expire("a", 100.0)
    assert cache_map.models("a") == {"n": AVAILABLE}


def test_a_declaration_stands() -> None:
    ours, cache_map = hints()
    cache_map.declare("a", ["n"])
    ours.silence(A)
    ours.told(GRPC_A, "m", AVAILABLE, False, 0.0)
    ours.expire("a", 100.0)
    assert cache_map.models("a") == {"n": AVAILABLE}


def test_new_addresses_take_the_place_of_the_old_ones() -> None:
    ours, _ = hints()
    ours.silence(A)
    ours.silence(Node("a", grpc="10.0.0.9:8500"))
    ours.silence(B)
    assert ours.silent == {"10.0.0.9:8500": "a", B.grpc: "b"}


def test_memory_is_bounded_and_what_is_forgotten_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    ours, cache_map = hints()
    ours.silence(A)
    for number in range(5):
        assert ours.wants_residency(GRPC_A, f"m{number}", 0.0)
        ours.told(GRPC_A, f"m{number}", AVAILABLE, False, 0.0)
    assert set(cache_map.models("a")) == {"m2", "m3", "m4"}


words = st.tuples(st.sampled_from("mnop"), st.sampled_from([AVAILABLE, ABSENT, Residency.LOADING]), st.floats(0, 6))


@given(st.lists(words, max_size=40))
def test_exactly_the_words_of_the_last_seconds_are_known(told: list[tuple[str, Residency, float]]) -> None:
    ours, cache_map = hints()
    ours.silence(A)
    now, last = 0.0, {}
    for model, state, pause in told:
        now += pause
        ours.told(GRPC_A, model, state, False, now)
        last[model] = (state, now)
        ours.expire("a", now)
        recent = {name: word for name, (word, at) in last.items() if at + REMEMBER > now and word is not ABSENT}
        assert cache_map.models("a") == recent
