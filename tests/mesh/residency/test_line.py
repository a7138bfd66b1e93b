import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.names import name_fault
from mesh.residency import line as residency_line
from mesh.residency.line import Heard, Lines, ResidencyError, read_line, write_line
from mesh.residency.state import Residency

FIRST = write_line(Heard({}, full=True))

names = st.text(max_size=20).filter(lambda name: name_fault(name) is None)
amounts = st.one_of(st.just(math.inf), st.integers(0, 1 << 53).map(float))
times = st.integers(0, 1_000_000_000).map(lambda ms: ms / 1000)
lines = st.builds(
    Heard,
    st.dictionaries(names, st.sampled_from(list(Residency))),
    st.just(False),
    st.booleans(),
    amounts,
    amounts,
    st.dictionaries(names, times),
    st.none() | times,
)


@given(st.lists(lines), st.integers(1, 50))
def test_what_is_written_is_read_however_the_bytes_are_cut(changes: list[Heard], size: int) -> None:
    data = FIRST + b"".join(map(write_line, changes))
    reader, heard = Lines(), []
    for start in range(0, len(data), size):
        heard += reader.push(data[start : start + size])
    assert heard == [Heard({}, full=True), *changes]


@given(st.one_of(st.binary(max_size=200), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr)))
def test_only_its_own_error_comes_out_of_any_bytes(data: bytes | str) -> None:
    raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    with pytest.raises(ResidencyError):
        Lines().push(raw + b"\n0\n")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"v": 2}, "version"),
        ({"v": None}, "version"),
        ({"models": ["a"]}, "models"),
        ({"models": {"": "available"}}, "name"),
        ({"models": {"a\nb": "available"}}, "name"),
        ({"models": {"\ud800": "available"}}, "name"),
        ({"models": {"a" * 1025: "available"}}, "name"),
        ({"models": {"a": 1}}, "word"),
        ({"free": 3}, "free"),
        ({"free": {"models": "3"}}, "number"),
        ({"free": {"models": True}}, "number"),
        ({"free": {"models": math.nan}}, "number"),
        ({"load": 3}, "load"),
        ({"load": {"models": ["a"]}}, "load"),
        ({"load": {"models": {"": 1}}}, "name"),
        ({"load": {"models": {"a": "1"}}}, "seconds"),
        ({"load": {"models": {"a": True}}}, "seconds"),
        ({"load": {"models": {"a": -1}}}, "seconds"),
        ({"load": {"default": math.nan}}, "seconds"),
        ({"load": {"default": math.inf}}, "seconds"),
        ({"load": {"default": 10**400}}, "seconds"),
    ],
)
def test_a_wrong_field_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        read_line(json.dumps({**json.loads(FIRST), **changes}).encode())


def test_it_can_be_added_to() -> None:
    more = {**json.loads(FIRST), "models": {"a": "dreaming", "b": "loading"}, "mood": "good"}
    heard = read_line(json.dumps(more).encode())
    assert heard.models == {"a": Residency.ABSENT, "b": Residency.LOADING}


def test_a_line_of_a_node_that_tells_no_times_is_read() -> None:
    old = b'{"v":1,"full":true,"models":{"a":"loading"},"leaving":false,"free":{"models":3.0,"memory_bytes":null}}'
    heard = read_line(old)
    assert (heard.models, heard.load_seconds, heard.default_load_seconds) == ({"a": Residency.LOADING}, {}, None)
    assert write_line(heard) == old + b"\n"


def test_times_cost_some_bytes_each() -> None:
    heard = Heard({}, load_seconds={f"model-{number}": 1.234567 for number in range(1000)}, default_load_seconds=2.0)
    assert len(write_line(heard)) < 20_000
    assert read_line(write_line(heard)).load_seconds["model-7"] == 1.235


def test_deep_json_and_huge_numbers() -> None:
    with pytest.raises(ResidencyError, match="not JSON"):
        read_line(b"[" * 100_000)
    with pytest.raises(ResidencyError, match="not JSON"):
        read_line(b'{"v":' + b"1" * 10_000 + b"}")
    assert read_line(b'{"v":1,"free":{"models":1' + b"0" * 400 + b"}}").free_models == math.inf


def test_a_change_before_the_snapshot_is_refused() -> None:
    with pytest.raises(ResidencyError, match="full"):
        Lines().push(write_line(Heard({"a": Residency.AVAILABLE})))


def test_a_line_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency_line, "MAX_LINE", 1000)
    reader = Lines()
    assert reader.push(b" " * 1000) == []
    with pytest.raises(ResidencyError, match="longer"):
        reader.push(b" ")
    with pytest.raises(ResidencyError, match="longer"):
        Lines().push(b" " * 1001 + b"\n")


def test_ever_new_names_are_cut_off_and_models_that_went_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency_line, "MAX_MODELS", 2)
    reader = Lines()
    reader.push(FIRST)
    for number in range(5):
        reader.push(write_line(Heard({f"m{number}": Residency.AVAILABLE})))
        reader.push(write_line(Heard({f"m{number}": Residency.ABSENT})))
    reader.push(write_line(Heard({"a": Residency.AVAILABLE, "b": Residency.FAILED})))
    reader.push(write_line(Heard({"a": Residency.AVAILABLE, "c": Residency.LOADING}, full=True)))
    with pytest.raises(ResidencyError, match="more than 2"):
        reader.push(write_line(Heard({"d": Residency.AVAILABLE})))
