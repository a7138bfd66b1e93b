"""Binary data behind V2's JSON, and strings."""

import json
import struct

from tests.integration.parity.row import Has, Http, Like, Reply, Row
from tests.integration.parity.rows.v2_words import BARE, BINARY, PAIR, PLAIN, REPLY, SPEC, binary, sized, strings
from tests.integration.parity.rows.words import INFER, X, as_json, infer, text

_HEAD = json.dumps(
    {
        "model_name": "double",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}],
    },
    separators=(",", ":"),
).encode()
_DOUBLED = struct.pack("<2f", 2, 4)

_RANGE = "inference header size should be in range (0, {}), got: {}"
_TOO_LONG = binary(PAIR, sized(BARE, 8), length=99999)
_DATA = (
    Row("tensors behind the JSON", BINARY, binary(PAIR, sized(BARE, 8)), Reply(200, REPLY)),
    Row(
        "tensors behind the JSON of the reply",
        "SeldonIO/seldon-core#3969",
        infer(parameters={"binary_data_output": True}),
        Reply(
            200,
            _HEAD + _DOUBLED,
            {"content-type": "application/octet-stream", "inference-header-content-length": str(len(_HEAD))},
        ),
    ),
    Row(
        "half precision as JSON",
        "triton-inference-server/server#5960",
        infer({"name": "h", "shape": [1], "datatype": "FP16", "data": [1]}, model="half"),
        Reply(400, "receiving FP16 data via JSON is not supported. Please use the binary data format for input h"),
    ),
    Row(
        "half precision as binary data",
        "kserve/kserve#3643",
        binary(
            b"\x00\x3c",
            {"name": "h", "shape": [1], "datatype": "FP16", "parameters": {"binary_data_size": 2}},
            "half",
            outputs=[{"name": "k", "parameters": {"binary_data": True}}],
        ),
        Reply(200, Like(".*\x00\x3c")),
    ),
    Row(
        "half precision, and a reply in JSON",
        "kserve/kserve#3643",
        binary(
            b"\x00\x3c", {"name": "h", "shape": [1], "datatype": "FP16", "parameters": {"binary_data_size": 2}}, "half"
        ),
        Reply(400, "sending FP16 data via JSON is not supported. Please use the binary data format for output", PLAIN),
    ),
    Row(
        "data, and a size of binary data",
        "triton-inference-server/server#4244",
        infer({**X, "parameters": {"binary_data_size": 16}}),
        Reply(400, Like("Input must set only one of the following fields: .* But set 'data' 'binary_data_size'")),
    ),
    Row(
        "a length of the JSON that is longer than the body",
        "triton-inference-server/server#5649",
        _TOO_LONG,
        Reply(400, _RANGE.format(len(_TOO_LONG.body), 99999)),
    ),
    Row(
        "a length of the JSON that is less than nothing",
        "triton-inference-server/server#2915",
        binary(PAIR, sized(BARE, 8), length=-1),
        Reply(400, Like("inference header size should be in range .*, got: -1")),
    ),
    Row(
        "binary data, and nothing says where they begin",
        "triton-inference-server/server#1822",
        Http("POST", INFER, as_json({"inputs": [sized(BARE, 8)]}) + b"...."),
        Reply(
            500,
            Like(
                "failed to parse the request JSON buffer: The document root must not be followed by other values. at .*"
            ),
        ),
    ),
    Row(
        "fewer bytes than declared",
        BINARY,
        binary(PAIR[:4], sized(BARE, 8)),
        Reply(400, "unexpected size for input 'x', expecting 4 additional bytes for model 'double'"),
    ),
    Row(
        "more bytes than declared",
        BINARY,
        binary(PAIR * 2, sized(BARE, 8)),
        Reply(400, "unexpected additional input data for model 'double'"),
    ),
    Row(
        "a body of 4 MiB",
        "triton-inference-server/server#5840",
        binary(
            b"\0" * (4 << 20), sized({**BARE, "shape": [1 << 19, 2]}, 4 << 20), parameters={"binary_data_output": True}
        ),
        Reply(200),
        versions=("1.1", "2"),
    ),
)

_TEXT = {"name": "s", "shape": [1], "datatype": "BYTES"}
_STRINGS = (
    Row(
        "a string",
        "triton-inference-server/server#5610",
        infer(text("abc"), model="text", outputs=[{"name": "t"}]),
        Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["abc"]}]})),
    ),
    Row(
        "base64 stays as it is",
        "kserve/open-inference-protocol#12",
        infer(text("aGVsbG8="), model="text"),
        Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["aGVsbG8="]}]})),
    ),
    Row(
        "base64 as TF Serving has it",
        "triton-inference-server/server#2520",
        infer(text({"b64": "aGVsbG8="}), model="text"),
        Reply(500, "Unable to parse JSON bytes array: attempt to access JSON non-string as string"),
    ),
    Row(
        "strings behind the JSON, each after its length",
        "triton-inference-server/server#3748",
        binary(strings(b"one", b"", b"\xc3\xa9"), sized({**_TEXT, "shape": [3]}, 17), "text"),
        Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [3], "data": ["one", "", "é"]}]})),
    ),
    Row(
        "a string without its length",
        "triton-inference-server/server#999",
        binary(b"123456", sized(_TEXT, 6), "text"),
        Reply(400, Like(".*s.*")),
    ),
    Row(
        "zeros at the end of a string",
        "triton-inference-server/server#2551",
        binary(
            strings(b"a\0\0"), sized(_TEXT, 7), "text", outputs=[{"name": "t", "parameters": {"binary_data": True}}]
        ),
        Reply(200, Like(".*\x03\0\0\0a\0\0")),
    ),
    Row(
        "a zero inside a string of JSON",
        "triton-inference-server/server#1257",
        infer(text("a\0b"), model="text"),
        Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["a\0b"]}]})),
    ),
    Row(
        "text of more than one plane",
        SPEC,
        infer(text("é😀"), model="text"),
        Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["é😀"]}]})),
    ),
)


ROWS = _DATA + _STRINGS
