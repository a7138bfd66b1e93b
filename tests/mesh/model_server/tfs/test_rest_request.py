"""REST bodies of TF Serving into arrays, and its texts for those that are no tensors."""

import base64
import json
from typing import Any

import pytest

from mesh.model_server.errors import ServingError, StatusCode
from mesh.model_server.tfs import rest_request
from mesh.tensors.dtypes import BY_V2, FLOAT, HALF, STRING, TensorSpec

X = TensorSpec("x", FLOAT, (-1, 2))
A, B = TensorSpec("a", FLOAT, (-1,)), TensorSpec("b", BY_V2["INT32"], (-1,))
TEXT = TensorSpec("t_bytes", STRING, (-1,))


def decode(document: Any, *specs: TensorSpec) -> tuple[dict[str, Any], bool]:
    arrays, rows = rest_request.decode(rest_request.parse_object(json.dumps(document).encode()), specs)
    return {name: array.tolist() for name, array in arrays.items()}, rows


def refusal(document: Any, *specs: TensorSpec) -> str:
    with pytest.raises(ServingError) as caught:
        decode(document, *specs)
    return caught.value.message


def test_rows() -> None:
    assert decode({"instances": [[1, 2], [3, 4.5]]}, X) == ({"x": [[1, 2], [3, 4.5]]}, True)
    assert decode({"instances": [{"x": [1, 2]}]}, X) == ({"x": [[1, 2]]}, True)
    assert decode({"instances": [1, 2]}, A) == ({"a": [1, 2]}, True)
    both = [{"a": 1, "b": 2}, {"b": 4, "a": 3}]
    assert decode({"instances": both}, A, B) == ({"a": [1, 3], "b": [2, 4]}, True)


def test_columns() -> None:
    assert decode({"inputs": [[1, 2]]}, X) == ({"x": [[1, 2]]}, False)
    assert decode({"inputs": {"x": [[1, 2]]}}, X) == ({"x": [[1, 2]]}, False)
    assert decode({"inputs": {"a": [1], "b": [2], "c": 0}}, A, B) == ({"a": [1], "b": [2]}, False)


def test_strings_and_base64() -> None:
    coded = {"b64": base64.b64encode(b"\xff\x00").decode()}
    assert decode({"instances": ["é", coded]}, TEXT) == ({"t_bytes": ["é".encode(), b"\xff\x00"]}, True)
    assert decode({"instances": [{"t_bytes": coded}]}, TEXT) == ({"t_bytes": [b"\xff\x00"]}, True)
    assert decode({"inputs": [coded]}, TEXT) == ({"t_bytes": [b"\xff\x00"]}, False)
    for text in ("!", "A", "AAAAA", "_-8A", "/w=", "/w==A", "/w=.=", "/w==\n/w==", "=", "/é=="):
        assert refusal({"inputs": [{"b64": text}]}, TEXT) == "Unable to base64 decode", text
    # Line breaks as MIME writes them, no padding, padding of the other kind, bits that nobody needs.
    for text in ("/w==", "/w", "/\r\nw = =\t\n", "/w..", "/w=.", "/x=="):
        assert decode({"inputs": [{"b64": text}]}, TEXT) == ({"t_bytes": [b"\xff"]}, False), text
    assert "not formatted correctly for base64 data" in refusal({"inputs": [{"c64": "aa"}]}, TEXT)


ELEMENT = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"


@pytest.mark.parametrize(
    ("document", "specs", "message"),
    [
        ({}, [X], "Missing 'inputs' or 'instances' key"),
        ([], [X], "JSON Value: [] Is not object"),
        ({"instances": []}, [X], "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ({"instances": 1}, [X], "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        (
            {"instances": [1], "inputs": 1},
            [X],
            'JSON Value: {\n    "instances": [1],\n    "inputs": 1\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        (
            {"instances": [["a", 1]]},
            [X],
            ELEMENT.format(0, 'JSON Value: "a" Type: String is not of expected type: float'),
        ),
        (
            {"instances": [[True, 1]]},
            [X],
            ELEMENT.format(0, "JSON Value: true Type: True is not of expected type: float"),
        ),
        (
            {"instances": [[None, 1]]},
            [X],
            ELEMENT.format(0, "JSON Value: null Type: Null is not of expected type: float"),
        ),
        ({"instances": [[1, 2], [1]]}, [X], ELEMENT.format(1, "Expecting tensor size: 2 but got: 1")),
        ({"instances": [[[1, 2]], [[1], [2]]]}, [X], ELEMENT.format(1, "Expecting shape [1,2] but got: [2,1]")),
        (
            {"instances": [[[1], 2]]},
            [X],
            ELEMENT.format(0, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ),
        (
            {"instances": [[1, [2]]]},
            [X],
            ELEMENT.format(0, "Encountered list at unexpected level: 1 expected < 1"),
        ),
        (
            {"instances": [[[1], [1, 2]]]},
            [X],
            ELEMENT.format(0, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ),
        ({"instances": [1.5]}, [B], ELEMENT.format(0, "JSON Value: 1.5 Type: Number is not of expected type: int32")),
        (
            {"instances": [2**31]},
            [B],
            ELEMENT.format(0, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ),
        ({"instances": [{"a": 1}, [1]]}, [A], "Expecting object but got list at item 1 of input list"),
        ({"instances": [1, {"a": 1}]}, [A], "Expecting value/list but got object at item 1 of input list"),
        (
            {"instances": [{"a": 1}]},
            [A, B],
            "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} "
            "keys must be equal to: a,b",
        ),
        (
            {"instances": [{"c": 1}]},
            [A, B],
            "Failed to process element: 0 key: c of 'instances' list. Error: "
            "INVALID_ARGUMENT: JSON object: does not have named input: c",
        ),
        (
            {"instances": [1]},
            [A, B],
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            {"inputs": [1]},
            [A, B],
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        ({"inputs": {"a": 1}}, [A, B], "Missing named input: b in 'inputs' object."),
    ],
)
def test_refusals_are_tf_servings(document: Any, specs: list[TensorSpec], message: str) -> None:
    assert refusal(document, *specs) == message


def test_what_tf_serving_cannot_convert_is_unimplemented() -> None:
    with pytest.raises(ServingError, match="Conversion of JSON Value: 1 to type: half") as caught:
        rest_request.decode({"inputs": 1}, [TensorSpec("h", HALF, ())])
    assert caught.value.code is StatusCode.UNIMPLEMENTED


def test_numbers_too_large() -> None:
    assert decode({"inputs": [1e300]}, A) == ({"a": [float("inf")]}, False)
    assert "too big" in refusal({"inputs": [10**400]}, A)
    assert "nested 100 levels" in refusal({"inputs": json.loads("[" * 100 + "1" + "]" * 100)}, A)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b'{"a"', "JSON Parse error: Missing a colon after a name of object member. at offset: 4"),
    ],
)
def test_parse_errors(body: bytes, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        rest_request.parse_object(body)
    assert caught.value.message == message


def test_long_values_are_cut_in_messages() -> None:
    assert len(refusal({"instances": "x" * 1000})) < 400
