"""Calls of unequal sizes in common buckets: what was added goes to the server, and comes back to nobody."""

import json
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.batching.settings import InputPadding
from ext_proc.wire.batch import Member, ReplyMismatch
from ext_proc.wire.buckets import MAX_BLOCKS, in_buckets
from ext_proc.wire.call import Call
from ext_proc.wire.codecs import CODECS
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import BOOL, BY_V2, DTYPES, HALF, STRING, DType, TensorSpec
from tests.ext_proc.wire.arrays import NAMES, TFS_GRPC, TFS_REST, V2_GRPC, V2_REST, Array
from tests.ext_proc.wire.batching import Calls, Input, Request, Server, arrays, read
from tests.ext_proc.wire.tfs import test_grpc_batch as tfs_grpc
from tests.ext_proc.wire.tfs import test_rest_batch as tfs_rest
from tests.ext_proc.wire.v2 import test_grpc_batch as v2_grpc
from tests.ext_proc.wire.v2 import test_rest_batch as v2_rest

BUCKETS = (2, 4, 5)
MOST = 1 << 20


def value_of(dtype: DType, chosen: bool) -> int | str:
    if not chosen:
        return 0
    return "é,]" if dtype is STRING else 1


@st.composite
def ragged(
    draw: st.DrawFn, dtypes: Sequence[DType], strings: st.SearchStrategy[bytes], names: st.SearchStrategy[str] = NAMES
) -> tuple[Calls, list[InputPadding]]:
    """Calls of one or two inputs, of which one at least differs in a dimension from call to call."""
    inputs, paddings = [], []
    for name in draw(st.lists(names, min_size=1, max_size=2, unique=True)):
        dtype, tail = draw(st.sampled_from(dtypes)), draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        if not paddings or draw(st.booleans()):
            dim = draw(st.integers(1, len(tail)))
            tail[dim - 1] = -1
            value = value_of(dtype, draw(st.booleans()))
            outputs = [{"name": name, "dim": dim}]
            paddings.append(InputPadding(input=name, dim=dim, buckets=BUCKETS, value=value, outputs=outputs))  # type: ignore[arg-type]
        inputs.append(Input(name, dtype, tuple(tail)))
    calls = []
    for _ in range(draw(st.integers(1, 4))):
        rows = draw(st.integers(1, 3))
        shapes = {each.name: (rows, *(draw(st.integers(1, 5)) if n < 0 else n for n in each.tail)) for each in inputs}
        calls.append({each.name: draw(arrays(each.dtype, shapes[each.name], strings)) for each in inputs})
    return Calls(inputs, calls), paddings


def check(call: Call, server: Server, requests: list[Request], calls: Calls, paddings: list[InputPadding]) -> None:
    """Calls of one bucket are asked at once, padded, and each gets, byte for byte, what it gets alone and unpadded."""
    codec = CODECS[call.protocol].batches
    together: dict[Hashable, list[int]] = defaultdict(list)
    members = [in_buckets(read(codec, call, request), paddings, MOST) for request in requests]
    for at, member in enumerate(members):
        together[member.key].append(at)
    assert len(together) == len({buckets(arrays, paddings) for arrays in calls.calls})
    for places in together.values():
        batch = [members[at] for at in places]
        merged = codec.merge(batch)
        reply = server({**requests[0][0], **dict(merged.headers)}, merged.body)
        check_padded(call, reply.body, dict(reply.headers), calls, paddings, places)
        assert codec.cut(dict(reply.headers), reply.body, batch) == [server(*requests[at]) for at in places]
        first = batch[0]
        pieces = codec.split(first, [1] * first.rows)
        merged = codec.merge(pieces)
        reply = server({**requests[0][0], **dict(merged.headers)}, merged.body)
        parts = codec.cut(dict(reply.headers), reply.body, pieces)
        assert codec.join(dict(reply.headers), parts, first) == server(*requests[places[0]])


def buckets(arrays: dict[str, Array], paddings: list[InputPadding]) -> tuple[int, ...]:
    return tuple(next(size for size in BUCKETS if size >= arrays[each.input].shape[each.dim]) for each in paddings)


def check_padded(
    call: Call, body: bytes, headers: dict[str, str], calls: Calls, paddings: list[InputPadding], places: list[int]
) -> None:
    """What the server was sent, which it says back, is what NumPy pads."""
    if any(each.dtype in (STRING, BOOL) for each in calls.inputs):
        return
    found = CODECS[call.protocol].decode_outputs(headers, body)
    for each in calls.inputs:
        wanted = []
        for array in (calls.calls[at][each.name] for at in places):
            for padding in (padding for padding in paddings if padding.input == each.name):
                size = next(size for size in BUCKETS if size >= array.shape[padding.dim])
                widths = [(0, size - array.shape[at] if at == padding.dim else 0) for at in range(array.ndim)]
                array = np.pad(array, widths, constant_values=padding.value)  # type: ignore[arg-type]
            wanted.append(array)
        one = found[each.name] if each.name in found else next(iter(found.values()))
        whole = np.concatenate(wanted)
        if one.dtype.kind == "f":  # V2 REST's numbers are written with few digits, too
            with np.errstate(over="ignore"):
                assert one.shape == whole.shape
                near = one.astype(whole.dtype)
                # Of the largest numbers few digits may say one that is too large.
                largest = np.isinf(near) & (np.abs(whole) > 0.99 * np.finfo(whole.dtype).max)
                assert np.allclose(np.where(largest, whole, near), whole, rtol=1e-3, atol=1e-6, equal_nan=True)
        else:
            assert np.array_equal(one.astype(whole.dtype), whole)


@given(ragged(DTYPES, st.binary(max_size=200)), st.data())
def test_tfs_grpc(drawn: tuple[Calls, list[InputPadding]], data: st.DataObject) -> None:
    calls, paddings = drawn
    typed = {each.name: each.dtype is STRING or data.draw(st.booleans()) for each in calls.inputs}
    requests: list[Request] = []
    for one in calls.calls:
        made = tfs.PredictRequest(model_spec={"name": "m"})
        for each in calls.inputs:
            encode = tf_tensors.encode if typed[each.name] else lambda array, of=each: tfs_grpc.packed(array, of.dtype)
            made.inputs[each.name].CopyFrom(encode(one[each.name]))
        requests.append(({}, made.SerializeToString()))
    check(TFS_GRPC, tfs_grpc.server, requests, calls, paddings)


@given(ragged(DTYPES, st.binary(max_size=200)))
def test_raw_v2_grpc(drawn: tuple[Calls, list[InputPadding]]) -> None:
    requests: list[Request] = [({}, made.SerializeToString()) for made in v2_grpc.bodies(drawn[0], False)]
    check(V2_GRPC, v2_grpc.server, requests, *drawn)


@given(ragged(v2_grpc.TYPED, st.binary(max_size=200)))
def test_typed_v2_grpc(drawn: tuple[Calls, list[InputPadding]]) -> None:
    requests: list[Request] = [({}, made.SerializeToString()) for made in v2_grpc.bodies(drawn[0], True)]
    check(V2_GRPC, v2_grpc.server, requests, *drawn)


V2_NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)


@given(ragged(DTYPES, v2_rest.TEXTS, V2_NAMES), st.data())
def test_v2_rest(drawn: tuple[Calls, list[InputPadding]], data: st.DataObject) -> None:
    check(V2_REST, v2_rest.server, v2_rest.requests_of(drawn[0], data), *drawn)


@given(ragged(tfs_rest.IN_JSON, tfs_rest.TEXTS, tfs_rest.NAMES), st.booleans(), st.data())
def test_tfs_rest(drawn: tuple[Calls, list[InputPadding]], rows: bool, data: st.DataObject) -> None:
    calls, paddings = drawn
    specs = [TensorSpec(each.name, each.dtype, (-1, *each.tail)) for each in calls.inputs]
    check(TFS_REST, tfs_rest.server(specs), tfs_rest.requests_of(calls, rows, data), calls, paddings)


IDS = {"name": "ids", "shape": [1, 3], "datatype": "INT64", "data": [7, 8, 9]}


def padding(**fields: Any) -> InputPadding:
    return InputPadding(**{"input": "ids", "buckets": (4, 8)} | fields)


def member_of(call: Call, asked: Any) -> Member:
    return read(CODECS[call.protocol].batches, call, ({}, json.dumps(asked).encode()))


def padded(asked: Any, *paddings: InputPadding, call: Call = V2_REST, most: int = MOST) -> Any:
    member = in_buckets(member_of(call, asked), paddings, most)
    return json.loads(CODECS[call.protocol].batches.merge([member]).body)


def test_sizes_and_values() -> None:
    def inputs(*sizes: int, value: int | float | str = 0, **fields: Any) -> Any:
        asked = {"inputs": [{**IDS, "shape": list(sizes), "data": [7] * int(np.prod(sizes)), **fields}]}
        (one,) = padded(asked, padding(value=value))["inputs"]
        return one["shape"], one["data"]

    assert inputs(1, 3) == ([1, 4], [7, 7, 7, 0])
    assert inputs(2, 3, value=-1) == ([2, 4], [7, 7, 7, -1] * 2)
    assert inputs(1, 4) == ([1, 4], [7] * 4)
    assert inputs(1, 5) == ([1, 8], [7] * 5 + [0] * 3)
    assert inputs(1, 2, 2) == ([1, 4, 2], [7] * 4 + [0] * 4)
    assert inputs(1, 2, datatype="FP32", value=0.5)[1] == [7, 7, 0.5, 0.5]
    assert inputs(1, 2, datatype="BYTES", data=["a", "b"])[1] == ["a", "b", "", ""]
    assert inputs(1, 2, datatype="BYTES", data=["a", "b"], value="[PAD]")[1] == ["a", "b", "[PAD]", "[PAD]"]
    assert inputs(1, 2, datatype="BOOL", data=[True, True])[1] == [True, True, False, False]


@pytest.mark.parametrize(
    ("asked", "how"),
    [
        (IDS, {"input": "mask"}),
        (IDS, {"dim": 2}),
        (IDS | {"shape": [1, 9], "data": [0] * 9}, {}),
        (IDS | {"shape": [1, 0], "data": []}, {}),
        (IDS | {"shape": [3], "data": [1, 2, 3]}, {}),
        (IDS, {"value": "x"}),
        (IDS, {"value": 0.5}),
        (IDS, {"value": 2**63}),
        (IDS | {"datatype": "UINT8"}, {"value": -1}),
        (IDS | {"datatype": "BOOL", "data": [True] * 3}, {"value": 2}),
        (IDS | {"datatype": "BYTES", "data": ["a"] * 3}, {"value": 1}),
        (IDS | {"datatype": "FP32"}, {"value": 1e39}),
    ],
)
def test_what_cannot_be_padded_stays_as_it_is(asked: dict[str, Any], how: dict[str, Any]) -> None:
    assert padded({"inputs": [asked]}, padding(**how)) == {"inputs": [asked]}


def test_nothing_grows_beyond_bounds() -> None:
    whole = {"inputs": [IDS]}
    member = member_of(V2_REST, whole)
    grown = member.size * 4 // 3
    assert padded(whole, padding(), most=grown)["inputs"][0]["shape"] == [1, 4]
    assert padded(whole, padding(), most=grown - 1) == whole
    many = {"inputs": [IDS | {"shape": [MAX_BLOCKS + 1, 1], "data": [1] * (MAX_BLOCKS + 1)}]}
    assert padded(many, padding()) == many


def test_two_inputs_go_to_buckets_of_their_own() -> None:
    mask = IDS | {"name": "mask", "shape": [1, 5], "data": [1] * 5}
    ids, also = padded({"inputs": [IDS, mask]}, padding(), padding(input="mask", value=1))["inputs"]
    assert (ids["shape"], ids["data"]) == ([1, 4], [7, 8, 9, 0])
    assert (also["shape"], also["data"]) == ([1, 8], [1] * 8)


def test_rows_that_name_no_input_are_those_of_the_one_that_is_padded() -> None:
    asked = {"instances": [[1, 2, 3]]}
    assert padded(asked, padding(), call=TFS_REST) == {"instances": [[1, 2, 3, 0]]}
    assert padded(asked, padding(), padding(input="mask"), call=TFS_REST) == asked
    assert padded({"instances": [{"ids": [1]}]}, padding(), call=TFS_REST) == {"instances": [{"ids": [1, 0, 0, 0]}]}
    assert padded({"inputs": {"ids": [[1]]}}, padding(), call=TFS_REST) == {"inputs": {"ids": [[1, 0, 0, 0]]}}


@pytest.mark.parametrize(
    ("shape", "says"), [([2, 3], "no dimension 1 of 4"), ([2], "no dimension 1 of 4"), ([2, 3, 4], "no dimension 1")]
)
def test_an_output_that_is_not_as_large_as_its_input(shape: list[int], says: str) -> None:
    codec = CODECS[V2_REST.protocol].batches
    paddings = [padding(outputs=[{"name": "y"}])]
    members = [in_buckets(member_of(V2_REST, {"inputs": [IDS]}), paddings, MOST)] * 2
    other = {"name": "z", "datatype": "FP32", "shape": [2, 4], "data": list(range(8))}

    def cut(*outputs: Any) -> Any:
        return [json.loads(part.body) for part in codec.cut({}, json.dumps({"outputs": outputs}).encode(), members)]

    assert cut(other)[1]["outputs"] == [other | {"shape": [1, 4], "data": [4, 5, 6, 7]}]
    assert cut(other | {"name": "y"})[1]["outputs"] == [other | {"name": "y", "shape": [1, 3], "data": [4, 5, 6]}]
    with pytest.raises(ReplyMismatch, match=says):
        cut(other | {"name": "y", "shape": shape, "data": [0] * int(np.prod(shape))})


def test_half_floats_in_typed_fields() -> None:
    """They travel as varints of their bits."""
    assert {HALF, BY_V2["INT8"]} <= set(DTYPES)
    made = tfs.PredictRequest(model_spec={"name": "m"})
    made.inputs["ids"].CopyFrom(tf_tensors.encode(np.array([[1.5, 2]], np.float16)))
    member = read(CODECS[TFS_GRPC.protocol].batches, TFS_GRPC, ({}, made.SerializeToString()))
    body = CODECS[TFS_GRPC.protocol].batches.merge([in_buckets(member, [padding(value=-0.5)], MOST)]).body
    assert tf_tensors.decode(tfs.PredictRequest.FromString(body).inputs["ids"]).tolist() == [[1.5, 2, -0.5, -0.5]]
