"""The bytes of a recording: read as they were written, as far as they go, and never mistaken for something else."""

import math
from collections.abc import Iterable
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix, Plan
from ext_proc.recording.blocks import MARK, BlockWriter, RecordingError, read_blocks
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
seconds = st.integers(0, 10**10).map(lambda us: us / 1e6)
candidates = st.builds(
    Candidate,
    names,
    version=st.none() | st.just("3"),
    label=st.none() | st.just("stable"),
    estimate_ms=st.none() | st.floats(0.1, 1e6),
    weight=st.floats(0.1, 10),
)
mixes = st.builds(Mix, st.lists(candidates, min_size=1, max_size=3).map(tuple), st.sampled_from(How))
plans = st.builds(
    Plan,
    names,
    st.lists(candidates | mixes, min_size=1, max_size=3).map(tuple),
    st.just(math.inf),
    st.sampled_from(AnswerMode),
    cross_request=st.none() | st.booleans(),
    cross_lag_ms=st.none() | st.floats(0, 1e4),
    priority=st.integers(-10, 10),
    races=st.booleans(),
)
calls = st.builds(
    RecordedCall,
    st.integers(1, 2 * 10**15).map(lambda us: us / 1e6),
    names,
    st.sampled_from(Way),
    st.sampled_from(Ending),
    st.just("") | names,
    st.booleans(),
    st.none() | plans,
    st.just(math.inf) | seconds.filter(bool),
    seconds,
    st.integers(0, 16),
    st.integers(-1, 7),
    st.integers(0, 2**40),
)
nodes = st.builds(
    RecordedNode,
    names,
    names | st.just(""),
    st.floats(0.1, 10),
    st.frozensets(st.sampled_from(["grpc", "rest"])),
    st.booleans(),
    st.none() | st.integers(1, 1000),
    st.lists(names, max_size=3).map(tuple),
)
fleets = st.builds(RecordedFleet, st.lists(nodes, max_size=3).map(tuple), st.just('{"routing":{}}'))
portions = st.builds(
    Portion,
    st.lists(calls, max_size=5).map(tuple),
    st.none() | fleets,
    st.lists(st.tuples(names, st.floats(0, 1e3)), max_size=3).map(tuple),
)

CALL = RecordedCall(1_000.5, "bert", Way.DECIDED, node="node-a")


def file_of(parts: Iterable[Portion]) -> bytes:
    writer = BlockWriter()
    return b"".join(map(writer.write, parts))


def read(data: bytes) -> list[Portion]:
    return list(read_blocks(BytesIO(data)))


@given(st.lists(portions, max_size=4))
def test_what_was_written_is_read_again(parts: list[Portion]) -> None:
    found = read(file_of(parts))
    assert len(found) == len(parts)
    for one, other in zip(found, parts, strict=True):
        assert (one.fleet, one.loads) == (other.fleet, other.loads)
        # A number of seconds since the epoch has no more than microseconds, and not quite all of them.
        for read_call, call in zip(one.calls, other.calls, strict=True):
            assert read_call.at == pytest.approx(call.at, abs=1e-5)
            assert read_call[1:] == call[1:]


@given(st.lists(portions, min_size=1, max_size=3), st.data())
def test_a_file_that_is_cut_off_is_read_as_far_as_it_is_whole(parts: list[Portion], data: st.DataObject) -> None:
    whole = file_of(parts)
    ends = [len(file_of(parts[:count])) for count in range(len(parts) + 1)]
    cut = data.draw(st.integers(0, len(whole)))
    assert len(read(whole[:cut])) == sum(end <= cut for end in ends[1:])


def test_a_block_that_is_damaged_is_told_unless_it_is_the_last() -> None:
    first, second = file_of([Portion((CALL,))]), file_of([Portion((CALL,)), Portion((CALL,))])
    spoilt = bytearray(second)
    spoilt[len(first) - 1] ^= 1
    with pytest.raises(RecordingError, match="damaged"):
        read(bytes(spoilt))
    spoilt = bytearray(second)
    spoilt[-1] ^= 1
    assert len(read(bytes(spoilt))) == 1


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"tbms calls 9\n rest", "another version"),
        (b'{"event": "race"}\n', "no recording"),
        (MARK + b"\xff\xff\xff\xff\x00\x00\x00\x00", "damaged"),
    ],
)
def test_what_is_no_recording_of_this_version_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(RecordingError, match=told):
        read(data)


def test_a_call_takes_few_bytes() -> None:
    many = [CALL._replace(at=1_000.0 + number / 200, model=f"model-{number % 7}") for number in range(1000)]
    assert len(file_of([Portion(tuple(many))])) < 12_000
