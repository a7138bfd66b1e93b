import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferResult

from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.output_arrays import OutputError, check_names
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from mesh.tensors.dtypes import BY_NUMPY
from tests.ext_proc.wire.arrays import ARRAYS, LIMIT, NAMES, V2_REST, Array, same

HEADER = "inference-header-content-length"
Outputs = dict[str, tuple[Array, bool]]
OUTPUTS = st.dictionaries(NAMES, st.tuples(ARRAYS, st.booleans()), max_size=3)


def reply_of(outputs: Outputs) -> tuple[bytes, dict[str, str]]:
    """A reply as Triton writes it: with the header only if an output is binary."""
    items, raws = [], []
    for name, (array, binary) in outputs.items():
        item: dict[str, Any] = {"name": name, "datatype": BY_NUMPY[array.dtype].v2, "shape": list(array.shape)}
        if binary:
            item["parameters"] = {"binary_data_size": array.nbytes}
            raws.append(array.tobytes())
        else:
            item["data"] = array.ravel().tolist()
        items.append(item)
    reply = {"model_name": "m", "model_version": "3", "id": "i", "parameters": {"p": 1}, "outputs": items}
    text = json.dumps(reply, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b"".join(raws), {HEADER: str(len(text))} if raws else {}


def decode(body: bytes, headers: dict[str, str]) -> dict[str, Array]:
    return decode_outputs(V2_REST, headers, body, LIMIT)


@given(OUTPUTS)
def test_outputs_in_json_and_in_binary_are_read(outputs: Outputs) -> None:
    decoded = decode(*reply_of(outputs))
    assert list(decoded) == list(outputs)
    assert all(same(decoded[name], array) for name, (array, _) in outputs.items())


@given(OUTPUTS, ARRAYS, ARRAYS, st.booleans())
def test_a_replaced_output_keeps_its_form_and_all_else(outputs: Outputs, old: Array, new: Array, binary: bool) -> None:
    outputs.pop("x", None)
    body, headers = reply_of({"x": (old, binary), **outputs})
    rewritten = encode_outputs(V2_REST, headers, body, {"x": new}, LIMIT)
    wanted, wanted_headers = reply_of({"x": (new, binary), **outputs})
    assert rewritten.removed == ("content-length", "content-encoding")
    assert [key for key, _ in rewritten.headers] == list(wanted_headers)
    size = int(dict(rewritten.headers).get(HEADER, len(rewritten.body)))
    wanted_size = int(wanted_headers.get(HEADER, len(wanted)))
    assert json.dumps(json.loads(rewritten.body[:size])) == json.dumps(json.loads(wanted[:wanted_size]))
    assert rewritten.body[size:] == wanted[wanted_size:]


@given(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=3), ARRAYS)
def test_the_real_client_reads_what_is_replaced(outputs: dict[str, Array], new: Array) -> None:
    body, headers = reply_of({name: (array, True) for name, array in outputs.items()})
    first = next(iter(outputs))
    rewritten = encode_outputs(V2_REST, headers, body, {first: new}, LIMIT)
    client = InferResult.from_response_body(rewritten.body, header_length=int(dict(rewritten.headers)[HEADER]))
    for name, array in (outputs | {first: new}).items():
        assert same(client.as_numpy(name), array) or array.size == 0


def test_nested_data_is_read_in_order() -> None:
    output = {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2.5], [3, 4]]}
    decoded = decode(json.dumps({"outputs": [output]}).encode(), {})
    assert same(decoded["y"], np.array([[1, 2.5], [3, 4]], np.float32))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"datatype": "BYTES", "data": ["x"]}, "output 'y' is of type 'BYTES', which is neither float nor integer"),
        ({"datatype": "BOOL", "data": [True]}, "output 'y' is of type 'BOOL'"),
        ({"datatype": None}, "output 'y' is of type 'None'"),
        ({"data": ["x"]}, "output 'y' holds strings"),
        ({"data": [True]}, "output 'y' holds values of type bool"),
        ({"data": None}, "output 'y' holds values that are no numbers"),
        ({"data": [1, 2]}, r"output 'y' does not hold the numbers of float32 of shape \[1\]"),
        ({"datatype": "INT8", "data": [1.5]}, "output 'y' of type int8 holds a number that is no integer"),
        ({"datatype": "INT8", "data": [128]}, "output 'y' does not hold the numbers of int8"),
        ({"shape": None}, "output 'y' has no shape"),
        ({"shape": [-1]}, "output 'y' has no shape"),
        ({"shape": [True]}, "output 'y' has no shape"),
        ({"name": 5}, "an output without a name"),
        ({"parameters": {"binary_data_size": "4"}}, "output 'y' has an impossible binary_data_size"),
        ({"parameters": {"binary_data_size": -4}}, "output 'y' has an impossible binary_data_size"),
        ({"parameters": {"binary_data_size": 4}}, "asks for 4 bytes of 0"),
        ({"parameters": {"binary_data_size": 0}}, "output 'y' of type FP32 does not have the data"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_output(changes: dict[str, Any], says: str) -> None:
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.5]} | changes
    with pytest.raises(OutputError, match=says):
        decode(json.dumps({"outputs": [output]}).encode(), {})


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"{}", {}, "no list of 'outputs'"),
        (b'{"outputs":[1]}', {}, "an output without a name"),
        (b"{}", {HEADER: "3"}, "not the length of a part"),
        (b"{}", {HEADER: "-1"}, "not the length of a part"),
        (b"{}", {HEADER: "x"}, "not the length of a part"),
        (b"{}", {HEADER: "²"}, "not the length of a part"),
        (b"{}", {HEADER: "1"}, "not valid JSON"),
        (b'{"outputs":[]}x', {HEADER: "14"}, "asks for 0 bytes of 1"),
    ],
)
def test_what_is_no_reply(body: bytes, headers: dict[str, str], says: str) -> None:
    with pytest.raises(OutputError, match=says):
        decode(body, headers)


@given(st.dictionaries(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), st.recursive(
    st.sampled_from(["y", "FP32", "INT64", 0, 1, -1, 2.5, True, None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("binary_data_size"), inner),
)), st.binary(max_size=8))  # fmt: skip
def test_any_output_is_read_or_a_clear_error(output: dict[str, Any], raw: bytes) -> None:
    text = json.dumps({"outputs": [output]}).encode()
    try:
        decode(text + raw, {HEADER: str(len(text))})
    except OutputError as error:
        assert str(error).endswith(".")  # noqa: PT017


def test_only_predictions_have_outputs_to_mix() -> None:
    for protocol, verb in ((InferenceProtocol.TFS_GRPC, Verb.CLASSIFY), (InferenceProtocol.V2_REST, Verb.METADATA)):
        with pytest.raises(OutputError, match=f"reply to {verb} has no outputs"):
            decode_outputs(Call(protocol, verb, "m"), {}, b"", LIMIT)
        with pytest.raises(OutputError, match=f"reply to {verb} has no outputs"):
            encode_outputs(Call(protocol, verb, "m"), {}, b"", {}, LIMIT)


def test_half_a_surrogate_pair_is_no_reply() -> None:
    body = b'{"id":"\\ud800","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1.0]}]}'
    outputs = decode(body, {})
    with pytest.raises(OutputError, match="surrogate"):
        encode_outputs(V2_REST, {}, body, outputs, LIMIT)


@pytest.mark.parametrize("length", ["\u00b2", "\u0663", "-1", "1_0", ""])
def test_a_length_is_ascii_digits(length: str) -> None:
    with pytest.raises(OutputError, match=HEADER):
        decode(b'{"outputs":[]}', {HEADER: length})


def test_names_are_looked_up_and_not_searched_for() -> None:
    """20,000 outputs take 20,000 steps: a list of names that is searched would compare each with each."""

    class Counted(str):
        compared = 0
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Counted(number) for number in range(20_000)]
    check_names({str(number): np.zeros(1) for number in range(20_000)}, names)
    assert Counted.compared < 100_000
