"""Calls that share a batch, drawn: each is one set of arrays, of inputs that all have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ext_proc.wire.batch import BatchCodec, Member, Written
from ext_proc.wire.call import Call
from mesh.tensors.dtypes import DTYPES, STRING, DType
from tests.ext_proc.wire.arrays import NAMES, Array
from tests.ext_proc.wire.messages import unknown_fields

TAILS = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
STRINGS = st.binary(max_size=200)
UNKNOWN = st.lists(unknown_fields(groups=False), max_size=3).map(b"".join)


@dataclass(frozen=True)
class Input:
    name: str
    dtype: DType
    tail: tuple[int, ...]


@dataclass(frozen=True)
class Calls:
    """What is asked: `calls` are the arrays by name, one mapping for each member, in its own order."""

    inputs: list[Input]
    calls: list[dict[str, Array]]


@st.composite
def arrays(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...], strings: st.SearchStrategy[bytes]) -> Array:
    if dtype is not STRING:
        return draw(hnp.arrays(dtype.numpy, shape))
    array = np.empty(shape, object)
    array.ravel()[:] = draw(st.lists(strings, min_size=array.size, max_size=array.size))
    return array


@st.composite
def calls_of(
    draw: st.DrawFn,
    dtypes: tuple[DType, ...] = DTYPES,
    tails: st.SearchStrategy[tuple[int, ...]] = TAILS,
    strings: st.SearchStrategy[bytes] = STRINGS,
    names: st.SearchStrategy[str] = NAMES,
) -> Calls:
    chosen = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    inputs = [Input(name, draw(st.sampled_from(dtypes)), draw(tails)) for name in chosen]
    calls = []
    for _ in range(draw(st.integers(1, 4))):
        rows = draw(st.integers(1, 4))
        order = draw(st.permutations(inputs))
        calls.append({each.name: draw(arrays(each.dtype, (rows, *each.tail), strings)) for each in order})
    return Calls(inputs, calls)


Server = Callable[[Mapping[str, str], bytes], Written]
"""What answers a call: its headers and body to those of the reply."""
Request = tuple[Mapping[str, str], bytes]


def read(codec: BatchCodec, call: Call, request: Request) -> Member:
    member = codec.read(call, *request)
    assert isinstance(member, Member), member
    return member


def check(codec: BatchCodec, call: Call, server: Server, requests: list[Request], draw: st.DrawFn) -> list[Member]:
    """The requests share a batch, whole or in pieces, and get, byte for byte, what the server answers each alone."""
    members = [read(codec, call, request) for request in requests]
    assert len({member.key for member in members}) == 1
    alone = [server(*request) for request in requests]

    def asked(batch: list[Member]) -> list[Written]:
        merged = codec.merge(batch)
        reply = server({**requests[0][0], **dict(merged.headers)}, merged.body)
        return codec.cut(dict(reply.headers), reply.body, batch)

    assert asked(members) == alone
    pieces = []
    for member in members:
        first = draw(st.integers(0, member.rows))
        rows = [part for part in (first, member.rows - first) if part]
        pieces.append(codec.split(member, rows))
        assert [piece.rows for piece in pieces[-1]] == rows
    replies = iter(asked([piece for parts in pieces for piece in parts]))
    for member, parts, reply in zip(members, pieces, alone, strict=True):
        assert codec.join(dict(reply.headers), [next(replies) for _ in parts], member) == reply
    return members
