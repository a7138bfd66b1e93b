import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.bounded import ByteMemo, Memo, footprint, keep_newest


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=200), st.integers(1, 5))
def test_it_never_remembers_wrongly_keeps_the_latest_and_stays_bounded(
    steps: list[tuple[bool, int]], size: int
) -> None:
    memo = Memo[int](size)
    written: dict[str, int] = {}
    used: list[str] = []
    for number, (put, key) in enumerate(steps):
        name = f"m{key}"
        if put:
            memo.put(name, number)
            written[name] = number
        found = memo.get(name)
        assert found in (None, written.get(name))
        if found is not None:
            used = [*(other for other in used if other != name), name]
        assert all(memo.get(recent) is not None for recent in used[-1:])
        assert len(memo) <= 2 * size


def test_the_last_size_models_asked_for_are_all_remembered() -> None:
    memo = Memo[int](10)
    for number in range(1_000):
        memo.put(f"m{number}", number)
    assert [memo.get(f"m{number}") for number in range(990, 1_000)] == list(range(990, 1_000))


def test_a_model_that_is_asked_for_survives_a_flood_of_others() -> None:
    memo = Memo[int](10)
    memo.put("popular", 1)
    for number in range(1_000):
        memo.put(f"m{number}", number)
        if number % 5 == 0:
            assert memo.get("popular") == 1


def test_a_cleared_memo_is_empty() -> None:
    memo = Memo[int](10)
    memo.put("m", 1)
    memo.clear()
    assert memo.get("m") is None
    assert len(memo) == 0


@given(st.lists(st.integers(0, 12), max_size=100), st.integers(1, 5))
def test_a_table_keeps_the_newest_in_the_order_of_their_writes_and_names_what_it_drops(
    keys: list[int], most: int
) -> None:
    table: dict[str, int] = {}
    order: list[str] = []
    for number, key in enumerate(keys):
        name = f"m{key}"
        order = [*(other for other in order if other != name), name]
        dropped = order.pop(0) if len(order) > most else None
        assert keep_newest(table, name, number, most) == dropped
        assert list(table) == order
        assert table[name] == number


def test_a_memo_of_100_000_hostile_keys_stays_within_its_bytes() -> None:
    memo = ByteMemo[str, str](lambda key: key[::-1], most=1 << 18)
    for number in range(100_000):
        key = f"{number}" + "x" * (number * 37 % 9_000)
        assert memo[key] == key[::-1]
        assert memo.bytes <= 1 << 18
    assert len(memo) > 0
    assert footprint(tuple(memo.items())) <= memo.bytes


def test_what_is_asked_for_is_made_once_in_a_flood_and_what_fails_or_is_long_is_not_remembered() -> None:
    made: list[str] = []

    def make(key: str) -> int | None:
        made.append(key)
        return None if int(key) % 2 else int(key)

    memo = ByteMemo[str, int | None](make, most=100_000, longest=4_000)
    for number in range(10_000):
        assert memo[str(number)] == (None if number % 2 else number)
        assert memo["7"] is None
    assert made.count("7") == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            memo["x"]
        memo["0" * 4_200]
    assert (made.count("x"), made.count("0" * 4_200)) == (2, 2)
