"""Who needs whom: which version serves a need, what goes with what, and in which order."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_cache.books.eviction import Evict, Rules, TooLarge, Wait, make_room
from mesh.model_cache.books.ledger import Ledger, Newcomer
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import MAX_NEEDED, Entangled, Need, parts_first
from mesh.model_cache.books.relations import Relations
from mesh.model_cache.books.states import CacheEntry, ModelState, Room

NOW = 1000.0
MODELS = "abcde"
TREES = st.dictionaries(st.sampled_from(MODELS), st.sets(st.sampled_from(MODELS)).map(sorted))


def loaded(relations: Relations, name: str, *needs: str, version: int = 1, **more: object) -> CacheEntry:
    entry = CacheEntry(Key(name, version), ModelState.AVAILABLE, disk_bytes=1, memory_bytes=1, begun=True)
    for field, value in more.items():
        setattr(entry, field, value)
    relations.add(entry)
    relations.relate(entry, tuple(map(Need, needs)))
    return entry


@given(TREES, st.sampled_from(MODELS))
def test_parts_come_first_or_the_circle_is_named(tree: dict[str, list[str]], root: str) -> None:
    try:
        order = parts_first(root, lambda name: tree.get(name, ()))
    except Entangled as error:
        circle = [name.strip("'") for name in str(error).rpartition(", ")[2].split(" -> ")]
        assert circle[0] == circle[-1]
        assert all(after in tree[before] for before, after in itertools.pairwise(circle))
        return
    assert order[-1] == root
    assert len(set(order)) == len(order)
    for place, name in enumerate(order):
        assert set(tree.get(name, ())) <= set(order[:place])


def test_a_chain_may_have_so_many_and_no_more() -> None:
    assert len(parts_first("0", lambda name: [str(int(name) + 1)] if int(name) < MAX_NEEDED else [])) == MAX_NEEDED + 1
    with pytest.raises(Entangled, match="more than 256"):
        parts_first("0", lambda name: [str(int(name) + 1)])


def test_a_need_without_a_version_is_served_by_the_newest_that_is_available() -> None:
    relations = Relations()
    versions = {number: loaded(relations, "a", version=number) for number in (1, 2, 3)}
    user = loaded(relations, "u", "a")
    assert relations.parts(user) == (versions[3],)
    assert relations.users(versions[3]) == [user]
    assert relations.users(versions[2]) == []
    versions[3].state = ModelState.DRAINING
    assert relations.parts(user) == (versions[2],)
    for entry in versions.values():
        entry.state = ModelState.LOADING
    versions[1].state = ModelState.DRAINING
    assert relations.parts(user) is None
    assert relations.meant(Need("a")) is versions[1], "as long as the server has it"
    versions[1].state = ModelState.ABSENT
    assert relations.meant(Need("a")) is versions[3]


def test_a_need_with_a_version_is_served_by_that_one() -> None:
    relations = Relations()
    old, new = loaded(relations, "a", version=1), loaded(relations, "a", version=2)
    user = loaded(relations, "u")
    relations.relate(user, (Need("a", 1),))
    assert relations.parts(user) == (old,)
    assert (relations.users(old), relations.users(new)) == ([user], [])
    user.state = ModelState.FAILED
    assert relations.users(old) == []


def test_what_is_dropped_needs_nothing_and_is_needed_by_none() -> None:
    relations = Relations()
    part, user = loaded(relations, "a"), loaded(relations, "u", "a")
    relations.remove(user)
    assert relations.users(part) == []
    relations.remove(part)
    assert relations.versions("a") == []
    assert relations.meant(Need("a")) is None
    assert (relations._versions, relations._users) == ({}, {})


def test_users_stand_before_what_they_need() -> None:
    relations = Relations()
    for name, needs in (("a", ""), ("b", "a"), ("c", "ab"), ("d", "acb")):
        loaded(relations, name, *needs)
    entry = relations.serving(Need("d"))
    assert entry is not None
    parts = relations.parts(entry)
    assert parts is not None
    assert [each.key.model for each in parts] == ["c", "b", "a"]


def keys(names: str) -> tuple[Key, ...]:
    return tuple(Key(name, 1) for name in names)


def verdict(relations: Relations, entries: list[CacheEntry], places: int, need: int, **more: object) -> object:
    rules = Rules(Room(places, 100, 100), **more)  # type: ignore[arg-type]
    users = lambda entry: [user.key for user in relations.users(entry)]  # noqa: E731
    return make_room(rules, entries, Room(need), (), NOW, users)


@pytest.mark.parametrize("order", ["uab", "abu", "aub"])
def test_parts_go_after_their_users_whatever_the_order_of_use(order: str) -> None:
    relations = Relations()
    entries = {"a": loaded(relations, "a"), "b": loaded(relations, "b"), "u": loaded(relations, "u", "a", "b")}
    listed = [entries[name] for name in order]
    one, all_of_them = (verdict(relations, listed, 3, need) for need in (1, 3))
    assert isinstance(one, Evict)
    assert one.unload == keys("u")
    assert isinstance(all_of_them, Evict)
    assert all_of_them.unload[0] == Key("u", 1)
    assert sorted(all_of_them.unload) == sorted(keys("uab"))


def test_what_a_user_in_flight_or_pinned_needs_stays() -> None:
    relations = Relations()
    part, user = loaded(relations, "a"), loaded(relations, "u", "a", in_flight=1)
    assert isinstance(verdict(relations, [part, user], 2, 1), Wait)
    user.in_flight = 0
    assert isinstance(verdict(relations, [part, user], 2, 1, pinned=frozenset("u")), Wait)
    loaded(relations, "v", "a", in_flight=1)
    found = verdict(relations, [user, part], 2, 1)
    assert isinstance(found, Evict)
    assert found.unload == keys("u")


def test_a_user_that_frees_nothing_itself_goes_for_what_it_keeps() -> None:
    relations = Relations()
    part = loaded(relations, "a", memory_bytes=60)
    user = loaded(relations, "u", "a", memory_bytes=0)
    rules = Rules(Room(10, 100, 100))
    users = lambda entry: [user.key for user in relations.users(entry)]  # noqa: E731
    found = make_room(rules, [user, part], Room(1, 0, 50), (), NOW, users)
    assert isinstance(found, Evict)
    assert found.unload == keys("ua")


def test_room_is_promised_to_all_or_to_none() -> None:
    ledger = Ledger(Rules(Room(3, 100, 100)), Room())
    old = ledger.open(Key("old", 1), NOW)
    old.state, old.begun, old.memory_bytes = ModelState.AVAILABLE, True, 10
    part, user = ledger.open(Key("a", 1), NOW), ledger.open(Key("u", 1), NOW)
    both = [Newcomer(part, 10, 50), Newcomer(user, 1, 45, (Need("a"), Need("old")))]
    assert isinstance(ledger.admit(both, [old], (), NOW), TooLarge)
    both[1] = Newcomer(user, 1, 40, both[1].needs)
    other = ledger.open(Key("x", 1), NOW)
    other.state, other.in_flight = ModelState.AVAILABLE, 1
    assert isinstance(ledger.admit(both, [old], (), NOW), Wait)
    assert (part.state, user.state, user.needs) == (ModelState.ABSENT, ModelState.ABSENT, ())
    other.in_flight = 0
    assert ledger.admit(both, [old], (), NOW) == Evict(unload=keys("x"), delete=keys("x"))
    assert part.state is user.state is ModelState.FETCHING
    assert ledger.relations.users(old) == ledger.relations.users(part) == [user]


def test_a_part_of_the_set_is_no_victim_of_another() -> None:
    ledger = Ledger(Rules(Room(2, 100, 100)), Room())
    part, other = (ledger.open(Key(name, 1), NOW) for name in "ax")
    for entry in (part, other):
        entry.state, entry.begun = ModelState.AVAILABLE, True
    user = ledger.open(Key("u", 1), NOW)
    found = ledger.admit([Newcomer(user, 1, 1, (Need("a"),))], [part], (), NOW)
    assert found == Evict(unload=keys("x"), delete=keys("x")), "though a was used longer ago"
