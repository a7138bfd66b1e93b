"""V2 over REST, as a real Triton answers it, and what people met there. The models are those of `tf_serving`."""

import gzip
import json
import struct

from tests.integration.parity.row import OURS, Has, Http, Like, Reply, Row, differs
from tests.integration.parity.rows.words import INFER, X, Y, as_json, infer, text

PAIR = struct.pack("<2f", 1, 2)
REPLY = Has({"outputs": [Y]})
BARE = {key: value for key, value in X.items() if key != "data"}
SPEC = "https://kserve.github.io/website/latest/modelserving/data_plane/v2_protocol/"
BINARY = "https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md"
SOURCE = "triton-inference-server/server: src/http_server.cc"
PLAIN = {"content-type": "text/plain"}
NO_ID = "[request id: <id_unknown>] "
NO_GENERATE = "The embedded server has no generate extension: its models make one reply of tensors."


def _binary(data: bytes, declared: dict[str, object], model: str = "double", length: int | None = None, **document: object) -> Http:  # fmt: skip
    head = as_json({"inputs": [declared], **document})
    size = str(len(head) if length is None else length)
    return Http("POST", f"/v2/models/{model}/infer", head + data, {"Inference-Header-Content-Length": size})


def _sized(given: dict[str, object], size: int) -> dict[str, object]:
    return {**given, "parameters": {"binary_data_size": size}}


def _strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


_HEAD = json.dumps({"model_name": "double", "model_version": "1", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]}, separators=(",", ":")).encode()  # fmt: skip
_DOUBLED = struct.pack("<2f", 2, 4)
_ONE_SOURCE = "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'. But "

INFERENCE = (
    Row("one row", SPEC, infer(), Reply(200, {"model_name": "double", "model_version": "1", "outputs": [Y]})),
    Row("sent as a form, as curl -d does", "triton-inference-server/server#2643", Http("POST", INFER, as_json({"inputs": [X]}), {"Content-Type": "application/x-www-form-urlencoded"}), Reply(200, REPLY)),
    Row("sent as a stream of octets", "triton-inference-server/server#2563", Http("POST", INFER, as_json({"inputs": [X]}), {"Content-Type": "application/octet-stream"}), Reply(200, REPLY, {"content-type": "application/json"})),
    Row("no outputs named", "triton-inference-server/server#4570", infer(outputs=[]), Reply(200, REPLY)),
    Row("a shape that the model does not take", "triton-inference-server/server#104", infer({**X, "shape": [1, 3], "data": [1, 2, 3]}), Reply(400, NO_ID + "unexpected shape for input 'x' for model 'double'. Expected [-1,2], got [1,3]. ")),
    Row("a shape of too many dimensions", "triton-inference-server/server#3158", infer({**X, "shape": [1, 1, 2]}), Reply(400, NO_ID + "unexpected shape for input 'x' for model 'double'. Expected [-1,2], got [1,1,2]. ")),
    Row("more data than the shape says", "triton-inference-server/server#3158", infer({**X, "data": [1, 2, 3]}), Reply(500, "Unable to parse 'data': Shape does not match true shape of 'data' field")),
    Row("less data than the shape says", "triton-inference-server/tensorrtllm_backend#502", infer({**X, "data": [1]}), Reply(500, "Unable to parse 'data': Shape does not match true shape of 'data' field")),
    Row("a negative size in a shape", "triton-inference-server/server#1649", infer({**X, "shape": [-1, 2]}), Reply(500, "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer")),
    Row("a shape that is text", "triton-inference-server/server#1649", infer({**X, "shape": "-1"}), Reply(500, "Unable to parse 'shape': attempt to access JSON non-array as array")),
    Row("an input twice", "triton-inference-server/server#5956", infer(X, X), Reply(400, NO_ID + "input 'x' already exists in request")),
    Row("an input that is missing", "triton-inference-server/server#2254", infer({"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}, model="two"), Reply(400, Like(".*expected 2 inputs but got 1 inputs for model 'two'.*"))),
    Row("an unknown model", "kserve/kserve#2755", infer(model="sklearn-iris-triton-onnx"), Reply(404, "Request for unknown model: 'sklearn-iris-triton-onnx' is not found", PLAIN)),
    Row("a base path in the client's URL", "kserve/kserve#3513", infer(model="v2"), Reply(404, "Request for unknown model: 'v2' is not found")),
    Row("a version that is not there", "clearml/clearml-serving#22", Http("POST", "/v2/models/double/versions/9/infer", as_json({"inputs": [X]})), Reply(404, "Request for unknown model: 'double' version 9 is not found")),
    Row("the generate extension", "triton-inference-server/tensorrtllm_backend#369", Http("POST", "/v2/models/double/generate", as_json({"x": [1, 2]})), Reply(200, {"model_name": "double", "model_version": "1", "y": [2, 4]}), differences=differs(NO_GENERATE, Reply(404, "Not Found"), OURS)),
    Row("the id comes back", SPEC, infer(id="42"), Reply(200, {"id": "42", "model_name": "double", "model_version": "1", "outputs": [Y]})),
    Row("the id of .NET: null", SOURCE, infer(id=None), Reply(500, "Unable to parse 'id': attempt to access JSON non-string as string")),
    Row("an unknown datatype", SPEC, infer({**X, "datatype": "FLOAT32"}), Reply(400, "invalid datatype for input x")),
    Row("another datatype than the model's", SPEC, infer({**X, "datatype": "INT32"}), Reply(400, NO_ID + "inference input 'x' data-type is 'INT32', but model 'double' expects 'FP32'")),
    Row("infinity in a reply", "openvinotoolkit/model_server#4337", Http("POST", INFER, b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[Infinity,1]}]}'), Reply(200, Like('.*"data":.Infinity,2.0.*'))),
    Row("no number in a reply", SOURCE, Http("POST", INFER, b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}'), Reply(200, Like('.*"data":.NaN,2.0.*'))),
    Row("nested data", SPEC, infer({**X, "data": [[1, 2]]}), Reply(200, REPLY)),
    Row("a model that fails", SOURCE, infer({**X, "shape": [3], "data": [1, 2, 3]}, model="failing"), Reply(500, None, PLAIN)),
    Row("a query", SOURCE, Http("POST", f"{INFER}?trace=1", as_json({"inputs": [X]})), Reply(200, REPLY)),
)  # fmt: skip

_RANGE = "inference header size should be in range (0, {}), got: {}"
_TOO_LONG = _binary(PAIR, _sized(BARE, 8), length=99999)
BINARY_DATA = (
    Row("tensors behind the JSON", BINARY, _binary(PAIR, _sized(BARE, 8)), Reply(200, REPLY)),
    Row("tensors behind the JSON of the reply", "SeldonIO/seldon-core#3969", infer(parameters={"binary_data_output": True}), Reply(200, _HEAD + _DOUBLED, {"content-type": "application/octet-stream", "inference-header-content-length": str(len(_HEAD))})),
    Row("half precision as JSON", "triton-inference-server/server#5960", infer({"name": "h", "shape": [1], "datatype": "FP16", "data": [1]}, model="half"), Reply(400, "receiving FP16 data via JSON is not supported. Please use the binary data format for input h")),
    Row("half precision as binary data", "kserve/kserve#3643", _binary(b"\x00\x3c", {"name": "h", "shape": [1], "datatype": "FP16", "parameters": {"binary_data_size": 2}}, "half", outputs=[{"name": "k", "parameters": {"binary_data": True}}]), Reply(200, Like(".*\x00\x3c"))),
    Row("half precision, and a reply in JSON", "kserve/kserve#3643", _binary(b"\x00\x3c", {"name": "h", "shape": [1], "datatype": "FP16", "parameters": {"binary_data_size": 2}}, "half"), Reply(400, "sending FP16 data via JSON is not supported. Please use the binary data format for output", PLAIN)),
    Row("data, and a size of binary data", "triton-inference-server/server#4244", infer({**X, "parameters": {"binary_data_size": 16}}), Reply(400, _ONE_SOURCE + "set 'data' 'binary_data_size'")),
    Row("a length of the JSON that is longer than the body", "triton-inference-server/server#5649", _TOO_LONG, Reply(400, _RANGE.format(len(_TOO_LONG.body), 99999))),
    Row("a length of the JSON that is less than nothing", "triton-inference-server/server#2915", _binary(PAIR, _sized(BARE, 8), length=-1), Reply(400, Like("inference header size should be in range .*, got: -1"))),
    Row("binary data, and nothing says where they begin", "triton-inference-server/server#1822", Http("POST", INFER, as_json({"inputs": [_sized(BARE, 8)]}) + b"...."), Reply(500, Like("failed to parse the request JSON buffer: The document root must not be followed by other values. at .*"))),
    Row("fewer bytes than declared", BINARY, _binary(PAIR[:4], _sized(BARE, 8)), Reply(400, "unexpected size for input 'x', expecting 4 additional bytes for model 'double'")),
    Row("more bytes than declared", BINARY, _binary(PAIR * 2, _sized(BARE, 8)), Reply(400, "unexpected additional input data for model 'double'")),
    Row("a body of 4 MiB", "triton-inference-server/server#5840", _binary(b"\0" * (4 << 20), _sized({**BARE, "shape": [1 << 19, 2]}, 4 << 20), parameters={"binary_data_output": True}), Reply(200), versions=("1.1", "2")),
)  # fmt: skip

_TEXT = {"name": "s", "shape": [1], "datatype": "BYTES"}
STRINGS = (
    Row("a string", "triton-inference-server/server#5610", infer(text("abc"), model="text", outputs=[{"name": "t"}]), Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["abc"]}]}))),
    Row("base64 stays as it is", "kserve/open-inference-protocol#12", infer(text("aGVsbG8="), model="text"), Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["aGVsbG8="]}]}))),
    Row("base64 as TF Serving has it", "triton-inference-server/server#2520", infer(text({"b64": "aGVsbG8="}), model="text"), Reply(500, "Unable to parse JSON bytes array: attempt to access JSON non-string as string")),
    Row("strings behind the JSON, each after its length", "triton-inference-server/server#3748", _binary(_strings(b"one", b"", b"\xc3\xa9"), _sized({**_TEXT, "shape": [3]}, 17), "text"), Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [3], "data": ["one", "", "é"]}]}))),
    Row("a string without its length", "triton-inference-server/server#999", _binary(b"123456", _sized(_TEXT, 6), "text"), Reply(400, Like(".*s.*"))),
    Row("zeros at the end of a string", "triton-inference-server/server#2551", _binary(_strings(b"a\0\0"), _sized(_TEXT, 7), "text", outputs=[{"name": "t", "parameters": {"binary_data": True}}]), Reply(200, Like(".*\x03\0\0\0a\0\0"))),
    Row("a zero inside a string of JSON", "triton-inference-server/server#1257", infer(text("a\0b"), model="text"), Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["a\0b"]}]}))),
    Row("text of more than one plane", SPEC, infer(text("é😀"), model="text"), Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["é😀"]}]}))),
)  # fmt: skip

_EMPTY = {"content-type": "text/plain"}
ABOUT = (
    Row("alive", "triton-inference-server/server#1948", Http("GET", "/v2/health/live"), Reply(200, b"", _EMPTY)),
    Row("ready", "triton-inference-server/server#7014", Http("GET", "/v2/health/ready"), Reply(200, b"", _EMPTY)),
    Row("a model's readiness has no body", "kserve/kserve#3820", Http("GET", "/v2/models/double/ready"), Reply(200, b"", _EMPTY)),
    Row("a version's readiness", "kserve/kserve#1760", Http("GET", "/v2/models/double/versions/1/ready"), Reply(200, b"", _EMPTY)),
    Row("a version that is not ready", "clearml/clearml-serving#22", Http("GET", "/v2/models/double/versions/9/ready"), Reply(400)),
    Row("the API before this one", "triton-inference-server/server#2127", Http("GET", "/api/status/resnet50_netdef"), Reply(404, "Not Found", PLAIN)),
    Row("the list of models, which there is not", "kserve/kserve#1283", Http("GET", "/v2/models"), Reply(404, "Not Found", PLAIN)),
    Row("the server's own metadata", "kserve/kserve#1283", Http("GET", "/v2"), Reply(200, Like('.*"extensions":.*'), {"content-type": "application/json"})),
    Row("metadata of a model", SPEC, Http("GET", "/v2/models/double"), Reply(200, Has({"name": "double", "versions": ["1"]}))),
    Row("metadata of an unknown model", "triton-inference-server/server#2254", Http("GET", "/v2/models/resnet50_netdef"), Reply(404, "Request for unknown model: 'resnet50_netdef' is not found")),
    Row("two slashes", "envoyproxy/envoy#7611", Http("GET", "/v2//health/live"), Reply(404, "Not Found")),
    Row("a slash that is escaped", "envoyproxy/gateway#7084", Http("GET", "/v2%2Fhealth/live"), Reply(404, "Not Found")),
    Row("dots in a path", "envoyproxy/envoy#6589", Http("GET", "/v2/x/../health/live"), Reply(404, "Not Found")),
    Row("an inference with GET", SOURCE, Http("GET", INFER), Reply(405, "Method Not Allowed", PLAIN)),
    Row("a head where a body would be", "envoyproxy/envoy#3775", Http("HEAD", "/v2/health/live"), Reply(405, b"")),
)  # fmt: skip

CODINGS = (
    Row("a packed body", "kserve/modelmesh-serving#111", Http("POST", INFER, gzip.compress(as_json({"inputs": [X]})), {"Content-Encoding": "gzip"}), Reply(200, REPLY)),
    Row("a packed reply says so", "triton-inference-server/server#5185", Http("POST", INFER, as_json({"inputs": [X]}), {"Accept-Encoding": "gzip"}), Reply(200, REPLY, {"content-encoding": "gzip"})),
    Row("a coding that is not known", "triton-inference-server/server#2736", Http("POST", INFER, as_json({"inputs": [X]}), {"Content-Encoding": "br"}), Reply(501, "Unsupported compression type", {"accept-encoding": "gzip, deflate"})),
    Row("a packed reply to a refusal", SOURCE, Http("POST", INFER, b"{", {"Accept-Encoding": "gzip"}), Reply(500, Like("failed to parse .*"), {"content-encoding": None})),
)  # fmt: skip

ROWS = INFERENCE + BINARY_DATA + STRINGS + ABOUT + CODINGS
