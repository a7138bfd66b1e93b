"""Arrays into TF Serving's REST answers: layout, digits, strings."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_server.errors import ServingError
from mesh.model_server.tfs import rest_reply, rest_request
from mesh.tensors.dtypes import DOUBLE, FLOAT, TensorSpec

X = TensorSpec("x", FLOAT, (-1, 2))


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=n, max_size=n), min_size=1)
    )
)
def test_rows_go_there_and_back(rows: list[list[float]]) -> None:
    arrays, _ = rest_request.decode({"instances": rows}, [X])
    text = rest_reply.encode({"y": arrays["x"]}, rows=True)
    np.testing.assert_array_equal(np.array(json.loads(text)["predictions"], np.float32), np.array(rows, np.float32))


def test_reply_layout() -> None:
    y = np.array([[0.1, 2.0], [3.0, 4.0]], np.float32)
    one = {"y": y}
    assert rest_reply.encode(one, rows=True) == '{\n    "predictions": [[0.1, 2.0], [3.0, 4.0]\n    ]\n}'
    assert rest_reply.encode({"y": y[:, 0]}, rows=True) == '{\n    "predictions": [0.1, 3.0\n    ]\n}'
    two = {"a": y[:, 0], "b": np.array([1, 2])}
    assert rest_reply.encode(two, rows=True) == (
        '{\n    "predictions": [\n        {\n            "a": 0.1,\n            "b": 1\n        },\n'
        '        {\n            "a": 3.0,\n            "b": 2\n        }\n    ]\n}'
    )
    assert (
        rest_reply.encode({"b": np.array([1, 2])}, rows=False) == '{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    )
    assert json.loads(rest_reply.encode(two, rows=False)) == {"outputs": {"a": [0.1, 3.0], "b": [1, 2]}}
    assert rest_reply.encode({"y": y[:0]}, rows=True) == '{\n    "predictions": []\n}'


def test_reply_of_strings() -> None:
    texts = np.array([b"a", "é".encode()], object)
    assert json.loads(rest_reply.encode({"t": texts}, rows=True)) == {"predictions": ["a", "é"]}
    coded = json.loads(rest_reply.encode({"t_bytes": texts}, rows=True))["predictions"]
    assert [base64.b64decode(item["b64"]) for item in coded] == texts.tolist()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.array(1.0)}, "Tensor name: y has no shape information "),
        ({"y": np.ones(2), "z": np.ones(3)}, "Tensor name: z has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.ones(2, np.float16)}, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_replies_that_cannot_be_printed(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ServingError) as caught:
        rest_reply.encode(outputs, rows=True)
    assert caught.value.message == message


def test_doubles_keep_their_digits() -> None:
    arrays, _ = rest_request.decode({"inputs": [0.1, 1 / 3]}, [TensorSpec("d", DOUBLE, (-1,))])
    assert json.loads(rest_reply.encode(arrays, rows=True))["predictions"] == [0.1, 1 / 3]
