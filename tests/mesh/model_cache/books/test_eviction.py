"""Who has to go."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_cache.books.eviction import Evict, Rules, TooLarge, Wait, make_room
from mesh.model_cache.books.ledger import Ledger, Newcomer
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState, Room

NOW = 1000.0
GIB = 1 << 30


def loaded(name: str, disk: int = 1, memory: int = 1, **more: object) -> CacheEntry:
    entry = CacheEntry(
        Key(name, 1), ModelState.AVAILABLE, disk_bytes=disk, memory_bytes=memory, begun=True, complete=True
    )
    for field, value in more.items():
        setattr(entry, field, value)
    return entry


def kept(name: str, disk: int = 1) -> CacheEntry:
    return CacheEntry(Key(name, 1), ModelState.ABSENT, disk_bytes=disk, complete=True)


def keys(names: str) -> tuple[Key, ...]:
    return tuple(Key(name, 1) for name in names)


THREE = Rules(Room(3, math.inf, math.inf))
ONE_MORE = Room(1, 1, 1)


def test_nothing_goes_while_there_is_room() -> None:
    assert make_room(THREE, [loaded("a"), loaded("b")], ONE_MORE, (), NOW) == Evict()


def test_the_least_recently_used_goes_with_its_files() -> None:
    verdict = make_room(THREE, [loaded("a"), loaded("b"), loaded("c")], ONE_MORE, (), NOW)
    assert verdict == Evict(unload=keys("a"), delete=keys("a"))


def test_files_stay_where_the_disk_has_a_limit_of_its_own() -> None:
    rules = Rules(Room(3, 100, math.inf), keep_files=True)
    assert make_room(rules, [loaded(name) for name in "abc"], ONE_MORE, (), NOW) == Evict(unload=keys("a"))


def test_models_in_flight_and_pinned_ones_are_passed_over() -> None:
    rules = Rules(Room(3, math.inf, math.inf), pinned=frozenset({"b"}))
    entries = [loaded("a", in_flight=1), loaded("b"), loaded("c")]
    assert make_room(rules, entries, ONE_MORE, (), NOW) == Evict(unload=keys("c"), delete=keys("c"))
    entries[2].in_flight = 1
    verdict = make_room(rules, entries, ONE_MORE, (), NOW)
    assert isinstance(verdict, Wait)
    assert verdict.until is None


def test_a_young_model_ends_the_search() -> None:
    rules = Rules(Room(2, math.inf, math.inf), min_age=10)
    verdict = make_room(rules, [loaded("a", since=NOW - 4), loaded("b", since=0)], ONE_MORE, (), NOW)
    assert isinstance(verdict, Wait)
    assert verdict.until == NOW + 6


def test_a_model_is_old_enough_at_the_very_time_that_was_named() -> None:
    rules = Rules(Room(1, math.inf, math.inf), min_age=10)
    entry = loaded("a", since=8.397)
    verdict = make_room(rules, [entry], ONE_MORE, (), NOW - 990)
    assert isinstance(verdict, Wait)
    assert verdict.until is not None
    assert verdict.until - entry.since < 10  # by the rounding of floats: nobody may wait for nothing again and again
    assert isinstance(make_room(rules, [entry], ONE_MORE, (), verdict.until), Evict)


def test_kept_files_go_first_and_only_for_disk() -> None:
    rules = Rules(Room(3, 100, math.inf), keep_files=True)
    entries = [loaded("a", disk=40), kept("b", 30), kept("c", 30)]
    assert make_room(rules, entries, Room(1, 10, 1), (), NOW) == Evict(delete=keys("b"))
    assert make_room(rules, entries, Room(1, 80, 1), (), NOW) == Evict(unload=keys("a"), delete=keys("bca"))


def test_the_newcomers_own_files_are_no_victim() -> None:
    rules = Rules(Room(3, 100, math.inf), keep_files=True)
    entries = [kept("a", 60), kept("b", 40)]
    assert make_room(rules, entries, Room(1, 10, 1), {Key("a", 1)}, NOW) == Evict(delete=keys("b"))


def test_memory_and_models_are_freed_together() -> None:
    rules = Rules(Room(3, math.inf, 100))
    entries = [loaded("a", memory=10), loaded("b", memory=30), loaded("c", memory=60)]
    assert make_room(rules, entries, Room(1, 1, 35), (), NOW) == Evict(keys("ab"), keys("ab"))


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (Room(1, 5 * GIB, 1), "it takes 5 GiB of disk, and the node has 2 GiB"),
        (Room(1, 1, 3 * GIB), "it takes 3 GiB of memory, and the node has 1 GiB"),
    ],
)
def test_too_large_says_both_sizes(need: Room, words: str) -> None:
    assert make_room(Rules(Room(3, 2 * GIB, GIB)), [], need, (), NOW) == TooLarge(words)


entries_of = st.lists(
    st.builds(
        lambda state, disk, memory, flight, since: (state, disk, memory, flight, since),
        st.sampled_from(
            [
                ModelState.AVAILABLE,
                ModelState.AVAILABLE,
                ModelState.AVAILABLE,
                ModelState.ABSENT,
                ModelState.DRAINING,
                ModelState.LOADING,
            ]
        ),
        st.integers(1, 30),
        st.integers(1, 30),
        st.integers(0, 1),
        st.sampled_from([0.0, NOW - 1]),
    ),
    max_size=8,
)


@given(entries_of, st.integers(1, 30), st.integers(1, 30), st.booleans(), st.sampled_from([0, 10]), st.integers(0, 8))
def test_what_every_decision_keeps_to(
    given_entries: list[tuple[ModelState, int, int, int, float]],
    disk: int,
    memory: int,
    keep_files: bool,
    min_age: float,
    pinned: int,
) -> None:
    entries = []
    for number, (state, disk_bytes, memory_bytes, in_flight, since) in enumerate(given_entries):
        entry = loaded(f"m{number}", disk_bytes, memory_bytes, in_flight=in_flight, since=since)
        entry.state = state
        entries.append(entry)
    rules = Rules(Room(5, 100, 80), min_age, frozenset({f"m{pinned}"}), keep_files)
    need = Room(1, disk, memory)
    verdict = make_room(rules, entries, need, (), NOW)
    by_key = {entry.key: entry for entry in entries}
    evictable = [
        entry.key
        for entry in entries
        if entry.state is ModelState.AVAILABLE and not entry.in_flight and entry.key.model not in rules.pinned
    ]
    if not isinstance(verdict, Evict):
        assert isinstance(verdict, Wait)
        return
    # In the order of use, with nobody passed over, nobody young.
    assert list(verdict.unload) == evictable[: len(verdict.unload)]
    assert all(NOW - by_key[key].since >= min_age for key in verdict.unload)
    # Files go only of models that go, or are not loaded.
    assert all(key in verdict.unload or by_key[key].state is ModelState.ABSENT for key in verdict.delete)
    assert len(set(verdict.delete)) == len(verdict.delete)
    if not keep_files:
        assert set(verdict.unload) <= set(verdict.delete)

    def after(unload: tuple[Key, ...], delete: tuple[Key, ...]) -> Room:
        total = need
        for entry in entries:
            room = entry.promised
            if entry.key in unload:
                room = Room(0, room.disk_bytes, 0)
            if entry.key in delete:
                room = Room(room.models, 0, room.memory_bytes)
            total += room
        return total

    assert after(verdict.unload, verdict.delete).fits(rules.capacity)
    # No victim more than it takes.
    if verdict.unload:
        last = verdict.unload[-1]
        without = after(verdict.unload[:-1], tuple(key for key in verdict.delete if key != last))
        assert not without.fits(rules.capacity)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=30))
def test_the_books_know_the_order_of_use(uses: list[tuple[str, bool]]) -> None:
    ledger = Ledger(THREE, Room())
    order: list[str] = []
    for time, (name, acquire) in enumerate(uses):
        entry = ledger.open(Key(name, 1), time)
        if acquire or name not in order:
            order = [other for other in order if other != name] + [name]
        if acquire:
            ledger.acquire(entry, time)
            assert entry.last_used == time
    assert [entry.key.model for entry in ledger.oldest_first()] == order
    assert [entry.key.model for entry in ledger.newest_first()] == order[::-1]


def test_a_newcomer_begins_when_its_victims_are_gone() -> None:
    ledger = Ledger(Rules(Room(1, math.inf, math.inf)), Room())
    old = ledger.open(Key("old", 1), NOW)
    old.state, old.begun = ModelState.AVAILABLE, True
    new = ledger.open(Key("new", 1), NOW)
    assert ledger.admit([Newcomer(new, 10, 10)], (), (), NOW) == Evict(unload=keys_of("old"), delete=keys_of("old"))
    assert (old.state, new.state) == (ModelState.DRAINING, ModelState.FETCHING)
    assert not ledger.may_begin(new)
    old.move(ModelState.ABSENT, NOW)
    old.begun = False
    assert ledger.may_begin(new)


def keys_of(name: str) -> tuple[Key, ...]:
    return (Key(name, 1),)
