import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ext_proc.wire.output_arrays import OutputError
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from tests.ext_proc.wire.arrays import LIMIT, NAMES, TFS_REST, Array, same

# JSON cannot tell the shape of nothing, so an empty array has one dimension.
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)
NUMBERS = hnp.arrays(np.float64, SHAPES | st.just((0,))) | hnp.arrays(np.int64, SHAPES)


def decode(reply: Any, **headers: str) -> dict[str, Array]:
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return decode_outputs(TFS_REST, {key.replace("_", "-"): value for key, value in headers.items()}, body, LIMIT)


def encode(reply: Any, outputs: dict[str, Array]) -> Any:
    rewritten = encode_outputs(TFS_REST, {}, json.dumps(reply).encode(), outputs, LIMIT)
    assert rewritten.headers == ()
    assert rewritten.removed == ("content-length", "content-encoding")
    return json.loads(rewritten.body)


@given(NUMBERS)
def test_one_output_has_the_name_of_its_format(array: Array) -> None:
    assert same(decode({"outputs": array.tolist()})["outputs"], array)
    if array.ndim and array.shape[0]:
        assert same(decode({"predictions": array.tolist()})["predictions"], array)


@given(st.dictionaries(NAMES, NUMBERS, min_size=2, max_size=3))
def test_columns(outputs: dict[str, Array]) -> None:
    decoded = decode({"outputs": {name: array.tolist() for name, array in outputs.items()}})
    assert list(decoded) == list(outputs)
    assert all(same(decoded[name], outputs[name]) for name in outputs)


def test_rows() -> None:
    decoded = decode({"predictions": [{"a": [1.0, 2.0], "b": 3}, {"a": [4.0, 5.5], "b": 6}]})
    assert same(decoded["a"], np.array([[1.0, 2.0], [4.0, 5.5]]))
    assert same(decoded["b"], np.array([3, 6]))


def test_numbers_as_tf_serving_writes_them() -> None:
    decoded = decode(b'{\n    "predictions": [NaN, -Infinity, 9e+06, 3e-05, 1.0\n    ]\n}')
    assert same(decoded["predictions"], np.array([np.nan, -np.inf, 9e6, 3e-5, 1.0]))
    assert same(decode({"outputs": [2**63]})["outputs"], np.array([2**63], np.uint64))


@given(NUMBERS, NUMBERS)
def test_a_replaced_output_is_read_back_and_all_else_is_kept(old: Array, new: Array) -> None:
    reply = {"model": "m", "outputs": old.tolist(), "more": [True, None, "é"]}
    rewritten = encode(reply, {"outputs": new})
    assert same(decode(rewritten)["outputs"], new)
    assert list(rewritten) == list(reply)
    assert {**rewritten, "outputs": 0} == {**reply, "outputs": 0}


def test_rows_stay_rows_and_columns_stay_columns() -> None:
    rows = {"predictions": [{"a": 1.5, "s": "x"}, {"a": 2.5, "s": "y"}]}
    assert encode(rows, {"a": np.array([3.5, 4.5])}) == {"predictions": [{"a": 3.5, "s": "x"}, {"a": 4.5, "s": "y"}]}
    columns = {"outputs": {"a": [1.5], "s": ["x"]}}
    assert encode(columns, {"a": np.array([3.5])}) == {"outputs": {"a": [3.5], "s": ["x"]}}
    assert encode({"predictions": [[1], [2]]}, {"predictions": np.array([[3], [4]])}) == {"predictions": [[3], [4]]}
    with pytest.raises(OutputError, match="batch size"):
        encode(rows, {"a": np.zeros(3)})
    with pytest.raises(OutputError, match="batch size"):
        encode(rows, {"a": np.zeros(())})
    with pytest.raises(OutputError, match="no output 'z'"):
        encode(rows, {"z": np.zeros(2)})


def test_rows_without_outputs_stay_rows() -> None:
    assert encode({"predictions": [{}, {}]}, {}) == {"predictions": [{}, {}]}


def test_a_packed_reply_is_unpacked() -> None:
    body = gzip.compress(b'{"outputs": [1.5]}')
    assert decode(body, content_encoding="gzip")["outputs"].tolist() == [1.5]
    for encoding, packed in (("br", body), ("gzip", body[:-3]), ("gzip", gzip.compress(bytes(2 * LIMIT)))):
        with pytest.raises(OutputError, match=f"unpacked from content-encoding '{encoding}'"):
            decode(packed, content_encoding=encoding)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"outputs": ' + b"1" * 5_000 + b"}", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        ({"error": "x"}, "neither 'predictions' nor 'outputs'"),
        ({"outputs": "x"}, "output 'outputs' holds strings, which is neither float nor integer"),
        ({"outputs": {"a": [1], "b": ["x"]}}, "output 'b' holds strings"),
        ({"outputs": {"a": [1], "b": [{"b64": "eA=="}]}}, "output 'b' holds strings"),
        ({"predictions": [{"a": True, "b": 1}]}, "output 'a' holds values of type bool"),
        ({"outputs": [[1, 2], [3]]}, "output 'outputs' holds lists of unequal lengths"),
        ({"outputs": [1, [2]]}, "output 'outputs' holds lists of unequal lengths"),
        ({"outputs": None}, "output 'outputs' holds values that are no numbers"),
        ({"outputs": [2**64]}, "output 'outputs' does not hold the numbers of uint64"),
        ({"outputs": [2**63, -1]}, "output 'outputs' does not hold the numbers of uint64"),
        ({"predictions": [{"a": 1}, {"b": 1}]}, "do not all have the same outputs"),
        ({"predictions": [{"a": 1}, 2]}, "do not all have the same outputs"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_output(reply: Any, says: str) -> None:
    with pytest.raises(OutputError, match=says):
        decode(reply)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.sampled_from(["outputs", "predictions"]), JSON)
def test_any_json_is_outputs_or_a_clear_error(key: str, value: Any) -> None:
    try:
        outputs = decode({key: value})
    except OutputError as error:
        assert str(error).endswith(".")  # noqa: PT017
        return
    assert all(array.dtype.kind in "fiu" for array in outputs.values())
