"""Good and bad V2 calls, to be made to a real Triton and to the embedded server alike."""

import gzip
import struct
from typing import Any

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from tests.integration.parity.row import TRITON, VERSIONS, AsTriton, Difference, Grpc, Http, Place, Reply, Row
from tests.integration.parity.rows.words import X, as_json, by_edge, controlled, is_control, v2

PAIR = struct.pack("<2f", 1, 2)
TEXTS = b"".join(struct.pack("<I", len(text)) + text for text in (b"one", b"", b"\xc3\xa9"))


def tensor(
    name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), **contents: Any
) -> pb.ModelInferRequest.InferInputTensor:
    made = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for key, values in contents.items():
        getattr(made.contents, f"{key}_contents").extend(values)
    return made


def infer(model: str = "double", *inputs: pb.ModelInferRequest.InferInputTensor, **fields: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name=model, inputs=inputs, **fields)


def raw(data: bytes = PAIR, model: str = "double", **declared: Any) -> pb.ModelInferRequest:
    return infer(model, tensor(**declared), raw_input_contents=[data])


def output(name: str) -> pb.ModelInferRequest.InferRequestedOutputTensor:
    return pb.ModelInferRequest.InferRequestedOutputTensor(name=name)


GOOD = tensor(fp32=[1, 2])

# name -> (method, request), in the order in which they are made: some load and unload.
GRPC: dict[str, tuple[str, Message]] = {
    "live": ("ServerLive", pb.ServerLiveRequest()),
    "ready": ("ServerReady", pb.ServerReadyRequest()),
    "model ready": ("ModelReady", pb.ModelReadyRequest(name="double")),
    "version ready": ("ModelReady", pb.ModelReadyRequest(name="double", version="1")),
    "version not ready": ("ModelReady", pb.ModelReadyRequest(name="double", version="9")),
    "version no number": ("ModelReady", pb.ModelReadyRequest(name="double", version="abc")),
    "no model ready": ("ModelReady", pb.ModelReadyRequest()),
    "cold not ready": ("ModelReady", pb.ModelReadyRequest(name="cold")),
    "metadata of version": ("ModelMetadata", pb.ModelMetadataRequest(name="double", version="9")),
    "metadata of no number": ("ModelMetadata", pb.ModelMetadataRequest(name="double", version="abc")),
    "metadata unknown": ("ModelMetadata", pb.ModelMetadataRequest(name="nope")),
    "metadata cold": ("ModelMetadata", pb.ModelMetadataRequest(name="cold")),
    "metadata empty": ("ModelMetadata", pb.ModelMetadataRequest()),
    "config unknown": ("ModelConfig", pb.ModelConfigRequest(name="nope")),
    "statistics": ("ModelStatistics", pb.ModelStatisticsRequest(name="double")),
    "statistics unknown": ("ModelStatistics", pb.ModelStatisticsRequest(name="nope")),
    "statistics of version": ("ModelStatistics", pb.ModelStatisticsRequest(name="double", version="9")),
    "raw": ("ModelInfer", raw()),
    "typed": ("ModelInfer", infer("double", GOOD)),
    "id": ("ModelInfer", infer("double", GOOD, id="q1")),
    "version": ("ModelInfer", infer("double", GOOD, model_version="1")),
    "latest version": ("ModelInfer", infer("double", GOOD, model_version="-1")),
    "three rows": ("ModelInfer", infer("double", tensor(shape=(3, 2), fp32=range(6)))),
    "no rows": ("ModelInfer", raw(b"", shape=(0, 2))),
    "output": ("ModelInfer", infer("double", GOOD, outputs=[output("y")])),
    "output twice": ("ModelInfer", infer("double", GOOD, outputs=[output("y"), output("y")])),
    "output unknown": ("ModelInfer", infer("double", GOOD, outputs=[output("z")])),
    "no inputs": ("ModelInfer", infer()),
    "input unknown": ("ModelInfer", infer("double", tensor("w", fp32=[1, 2]))),
    "input too many": ("ModelInfer", infer("double", GOOD, tensor("w", fp32=[1, 2]))),
    "input twice": ("ModelInfer", infer("double", GOOD, GOOD)),
    "type wrong": ("ModelInfer", raw(datatype="INT32")),
    "type unknown": ("ModelInfer", raw(datatype="FLOAT")),
    "type of typed wrong": ("ModelInfer", infer("double", tensor(datatype="INT32", int=[1, 2]))),
    "shape wrong": ("ModelInfer", raw(PAIR + PAIR[:4], shape=(1, 3))),
    "rank wrong": ("ModelInfer", raw(shape=(2,))),
    "shape negative": ("ModelInfer", raw(shape=(-1, 2))),
    "raw short": ("ModelInfer", raw(PAIR[:4])),
    "raw long": ("ModelInfer", raw(PAIR * 2)),
    "raw too many": ("ModelInfer", infer("double", tensor(), raw_input_contents=[PAIR, PAIR])),
    "typed short": ("ModelInfer", infer("double", tensor(fp32=[1]))),
    "typed missing": ("ModelInfer", infer("double", tensor())),
    "raw and typed": ("ModelInfer", infer("double", GOOD, raw_input_contents=[PAIR])),
    "model unknown": ("ModelInfer", infer("nope", GOOD)),
    "model cold": ("ModelInfer", infer("cold", GOOD)),
    "model empty": ("ModelInfer", infer("", GOOD)),
    "model of no safe name": ("ModelInfer", infer("../double", GOOD)),
    "version unknown": ("ModelInfer", infer("double", GOOD, model_version="9")),
    "version of letters": ("ModelInfer", infer("double", GOOD, model_version="abc")),
    "strings raw": ("ModelInfer", raw(TEXTS, "text", name="s", datatype="BYTES", shape=(3,))),
    "strings typed": ("ModelInfer", infer("text", tensor("s", "BYTES", (2,), bytes=[b"a", b"bc"]))),
    "strings short": ("ModelInfer", raw(TEXTS, "text", name="s", datatype="BYTES", shape=(4,))),
    "strings long": ("ModelInfer", raw(TEXTS, "text", name="s", datatype="BYTES", shape=(2,))),
    "strings cut": ("ModelInfer", raw(TEXTS[:-1], "text", name="s", datatype="BYTES", shape=(3,))),
    "strings cut in a length": ("ModelInfer", raw(TEXTS[:9], "text", name="s", datatype="BYTES", shape=(3,))),
    "strings typed short": ("ModelInfer", infer("text", tensor("s", "BYTES", (2,), bytes=[b"a"]))),
    "strings typed long": ("ModelInfer", infer("text", tensor("s", "BYTES", (1,), bytes=[b"a", b"b"]))),
    "typed as another type": ("ModelInfer", infer("double", tensor(int=[1, 2]))),
    "typed as two types": ("ModelInfer", infer("double", tensor(fp32=[1, 2], int64=[1, 2]))),
    "typed as an unknown type": ("ModelInfer", infer("double", tensor(datatype="FLOAT", fp32=[1, 2]))),
    "version zero": ("ModelInfer", infer("double", GOOD, model_version="0")),
    "version of spaces": ("ModelInfer", infer("double", GOOD, model_version=" 1")),
    "version with letters after": ("ModelInfer", infer("double", GOOD, model_version="1x")),
    "version too large": ("ModelInfer", infer("double", GOOD, model_version="9223372036854775808")),
    "half raw": ("ModelInfer", raw(b"\x00\x3c\x00\xc0", "half", name="h", datatype="FP16", shape=(2,))),
    "half typed": ("ModelInfer", infer("half", tensor("h", "FP16", (2,), fp32=[1, 2]))),
    "bytes wrap": ("ModelInfer", infer("tiny", tensor("i", "INT8", (3,), int=[1, -1, 300]))),
    "index": ("RepositoryIndex", pb.RepositoryIndexRequest()),
    "index ready": ("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)),
    "index of a repository": ("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="other")),
    "load": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="cold")),
    "infer loaded": ("ModelInfer", infer("cold", GOOD)),
    "load again": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="cold")),
    "unload": ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="cold")),
    "infer unloaded": ("ModelInfer", infer("cold", GOOD)),
    "infer unloaded version": ("ModelInfer", infer("cold", GOOD, model_version="1")),
    "unloaded not ready": ("ModelReady", pb.ModelReadyRequest(name="cold")),
    "metadata unloaded": ("ModelMetadata", pb.ModelMetadataRequest(name="cold")),
    "statistics unloaded": ("ModelStatistics", pb.ModelStatisticsRequest(name="cold")),
    "unload again": ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="cold")),
    "unload unknown": ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="nope")),
    "load unknown": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="nope")),
    "load empty": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="")),
    "load traversal": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="../models/double")),
    "load of a repository": (
        "RepositoryModelLoad",
        pb.RepositoryModelLoadRequest(repository_name="other", model_name="cold"),
    ),
}


URL = "/v2/models/double/infer"


def post(*inputs: dict[str, Any], path: str = URL, **document: Any) -> Http:
    return Http("POST", path, as_json({"inputs": list(inputs) or [X], **document}))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in X.items() if name != key}


def binary(data: bytes, length: str | None = None, **document: Any) -> Http:
    declared = {**without("data"), "parameters": {"binary_data_size": 8}}
    head = as_json({"inputs": [declared], **document})
    return Http("POST", URL, head + data, {"Inference-Header-Content-Length": length or str(len(head))})


S: dict[str, Any] = {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "é"]}
I: dict[str, Any] = {"name": "i", "shape": [2], "datatype": "INT8", "data": [1, -1]}  # noqa: E741
TEXT, TINY, HALF = "/v2/models/text/infer", "/v2/models/tiny/infer", "/v2/models/half/infer"

REST: dict[str, Http] = {
    "live": Http("GET", "/v2/health/live"),
    "ready": Http("GET", "/v2/health/ready"),
    "slash": Http("GET", "/v2/"),
    "posted": Http("POST", "/v2"),
    "model ready": Http("GET", "/v2/models/double/ready"),
    "version ready": Http("GET", "/v2/models/double/versions/1/ready"),
    "version not ready": Http("GET", "/v2/models/double/versions/9/ready"),
    "unknown not ready": Http("GET", "/v2/models/nope/ready"),
    "metadata unknown": Http("GET", "/v2/models/nope"),
    "metadata of version": Http("GET", "/v2/models/double/versions/9"),
    "metadata of no number": Http("GET", "/v2/models/double/versions/abc"),
    "config unknown": Http("GET", "/v2/models/nope/config"),
    "statistics unknown": Http("GET", "/v2/models/nope/stats"),
    "infer with GET": Http("GET", URL),
    "infer with PUT": Http("PUT", URL, as_json({"inputs": [X]})),
    "model with POST": Http("POST", "/v2/models/double"),
    "model with DELETE": Http("DELETE", "/v2/models/double"),
    "ready with POST": Http("POST", "/v2/models/double/ready"),
    "no such page": Http("GET", "/v2/nothing"),
    "no such verb": Http("POST", "/v2/models/double/nothing"),
    "root": Http("GET", "/"),
    "slash after model": Http("GET", "/v2/models/double/"),
    "slash after infer": post(path=f"{URL}/"),
    "infer": post(),
    "id": post(id="q1"),
    "version": post(path="/v2/models/double/versions/1/infer"),
    "version unknown": post(path="/v2/models/double/versions/9/infer"),
    "version of letters": post(path="/v2/models/double/versions/abc/infer"),
    "model unknown": post(path="/v2/models/nope/infer"),
    "model escaped": post(path="/v2/models/..%2Fdouble/infer"),
    "empty body is raw": Http("POST", URL),
    "raw request": Http("POST", URL, PAIR * 2, {"Inference-Header-Content-Length": "0"}),
    "raw request of odd size": Http("POST", URL, PAIR + b"x", {"Inference-Header-Content-Length": "0"}),
    "json cut": Http("POST", URL, b"{"),
    "json without comma": Http("POST", URL, b'{"inputs": [1 2]}'),
    "json without colon": Http("POST", URL, b'{"inputs" [1]}'),
    "json of words": Http("POST", URL, b"hello"),
    "json object without comma": Http("POST", URL, b'{"a": 1 "b": 2}'),
    "json comma too many": Http("POST", URL, b'{"inputs": [1,]}'),
    "json object comma too many": Http("POST", URL, b'{"inputs": 1,}'),
    "json bad escape": Http("POST", URL, b'{"inputs": "\\x"}'),
    "json bad unicode": Http("POST", URL, b'{"inputs": "\\u12"}'),
    "json control character": Http("POST", URL, b'{"inputs": "a\nb"}'),
    "json not utf-8": Http("POST", URL, b'{"inputs": "\xff"}'),
    "json cut word": Http("POST", URL, b'{"inputs": tru}'),
    "json bad number": Http("POST", URL, b'{"inputs": -}'),
    "json number cut": Http("POST", URL, b'{"inputs": 1.}'),
    "json exponent cut": Http("POST", URL, b'{"inputs": 1e}'),
    "json number too big": Http("POST", URL, b'{"inputs": 1e999}'),
    "json blank": Http("POST", URL, b"  "),
    "json followed": Http("POST", URL, as_json({"inputs": [X]}) + b" and more"),
    "json cut in array": Http("POST", URL, b'{"inputs": [1'),
    "json cut after colon": Http("POST", URL, b'{"inputs":'),
    "json open string": Http("POST", URL, b'{"inputs'),
    "json array": Http("POST", URL, b"[]"),
    "json empty": Http("POST", URL, b"{}"),
    "no inputs": Http("POST", URL, as_json({"inputs": []})),
    "inputs no array": Http("POST", URL, as_json({"inputs": {}})),
    "input no object": Http("POST", URL, as_json({"inputs": [1]})),
    **{f"no {key}": post(without(key)) for key in X},
    "nested": post({**X, "data": [[1, 2]]}),
    "data short": post({**X, "data": [1]}),
    "data long": post({**X, "data": [1, 2, 3]}),
    "data strings": post({**X, "data": ["a", "b"]}),
    "data scalar": post({**X, "data": 1}),
    "data null": post({**X, "data": [1, None]}),
    "data bool": post({**X, "data": [True, 1]}),
    "type wrong": post({**X, "datatype": "INT32"}),
    "type unknown": post({**X, "datatype": "FLOAT"}),
    "shape wrong": post({**X, "shape": [1, 3], "data": [1, 2, 3]}),
    "rank wrong": post({**X, "shape": [2]}),
    "shape text": post({**X, "shape": "a"}),
    "shape negative": post({**X, "shape": [-1, 2]}),
    "shape fraction": post({**X, "shape": [1.5, 2]}),
    "name number": post({**X, "name": 1}),
    "input unknown": post({**X, "name": "w"}),
    "input too many": post(X, {**X, "name": "w"}),
    "input twice": post(X, X),
    "output": post(outputs=[{"name": "y"}]),
    "output unknown": post(outputs=[{"name": "z"}]),
    "output without name": post(outputs=[{}]),
    "outputs empty": post(outputs=[]),
    "output binary": post(outputs=[{"name": "y", "parameters": {"binary_data": True}}]),
    "outputs all binary": post(parameters={"binary_data_output": True}),
    "binary": binary(PAIR),
    "binary both ways": binary(PAIR, outputs=[{"name": "y", "parameters": {"binary_data": True}}]),
    "binary short": binary(PAIR[:4]),
    "binary long": binary(PAIR * 2),
    "header too long": binary(PAIR, "99999"),
    "header negative": binary(PAIR, "-1"),
    "header no number": binary(PAIR, "abc"),
    "compressed": Http("POST", URL, gzip.compress(as_json({"inputs": [X]})), {"Content-Encoding": "gzip"}),
    "compressed unknown": Http("POST", URL, as_json({"inputs": [X]}), {"Content-Encoding": "br"}),
    "answer compressed": Http("POST", URL, as_json({"inputs": [X]}), {"Accept-Encoding": "gzip"}),
    "answer plain": Http("POST", URL, as_json({"inputs": [X]}), {"Accept-Encoding": "identity"}),
    "strings": post(S, path=TEXT),
    "strings binary": post(S, path=TEXT, outputs=[{"name": "t", "parameters": {"binary_data": True}}]),
    "strings as numbers": post({**S, "data": [1, 2]}, path=TEXT),
    "strings short": post({**S, "data": ["a"]}, path=TEXT),
    "strings long": post({**S, "data": ["a", "b", "c"]}, path=TEXT),
    "strings nested": post({**S, "data": [["a"], ["b"]]}, path=TEXT),
    "integers": post(I, path=TINY),
    "integers of fractions": post({**I, "data": [1.5, 1]}, path=TINY),
    "integers of strings": post({**I, "data": ["1", "2"]}, path=TINY),
    "integers wrap": post({**I, "data": [300, 1]}, path=TINY),
    "half as json": post({"name": "h", "shape": [1], "datatype": "FP16", "data": [1]}, path=HALF),
    "index": Http("POST", "/v2/repository/index"),
    "index ready": Http("POST", "/v2/repository/index", b'{"ready": true}'),
    "index broken": Http("POST", "/v2/repository/index", b"{"),
    "index with GET": Http("GET", "/v2/repository/index"),
    "load": Http("POST", "/v2/repository/models/spare/load"),
    "infer loaded": post(path="/v2/models/spare/infer"),
    "unload": Http("POST", "/v2/repository/models/spare/unload"),
    "infer unloaded": post(path="/v2/models/spare/infer"),
    "unloaded not ready": Http("GET", "/v2/models/spare/ready"),
    "metadata unloaded": Http("GET", "/v2/models/spare"),
    "load unknown": Http("POST", "/v2/repository/models/nope/load"),
    "load escaped": Http("POST", "/v2/repository/models/..%2Fdouble/load"),
    "unload unknown": Http("POST", "/v2/repository/models/nope/unload"),
    "load with GET": Http("GET", "/v2/repository/models/spare/load"),
    "control unknown": Http("POST", "/v2/repository/models/spare/nothing"),
}


# What both edges say by themselves: about -> the reply, and why it is not Triton's.
_NUMBER = "The edge reads the version, for a version of a model is a folder's name: decimal digits only."
_NAME = "Without a name there is no node to go to."
_PART = "A name is a folder's, so the edge takes none with a slash, however it is written."


def _no_number(status: int | str, version: str) -> dict[Place, Difference]:
    return by_edge(_NUMBER, Reply(status, f"The model version '{version}' is not a decimal number of 64 bits."))


_BAD = "INVALID_ARGUMENT"
_NAMELESS = by_edge(_NAME, Reply(_BAD, "Request for unknown model: '' is not found"))
_SLASH = "The model name '../double' holds a '/'."
BY_EDGE: dict[str, dict[Place, Difference]] = {
    "gRPC: version no number": _no_number(_BAD, "abc"),
    "gRPC: metadata of no number": _no_number(_BAD, "abc"),
    "gRPC: latest version": _no_number(_BAD, "-1"),
    "gRPC: version of letters": _no_number(_BAD, "abc"),
    "gRPC: version of spaces": _no_number(_BAD, " 1"),
    "gRPC: version with letters after": _no_number(_BAD, "1x"),
    "gRPC: version too large": _no_number(_BAD, "9223372036854775808"),
    "gRPC: no model ready": _NAMELESS,
    "gRPC: metadata empty": _NAMELESS,
    "gRPC: model empty": _NAMELESS,
    "gRPC: model of no safe name": by_edge(_PART, Reply(_BAD, _SLASH)),
    "REST: metadata of no number": _no_number(400, "abc"),
    "REST: version of letters": _no_number(400, "abc"),
    "REST: model escaped": by_edge(_PART, Reply(400, _SLASH)),
}


def as_triton(about: str, request: Http | Grpc, versions: tuple[str, ...] = VERSIONS) -> Row:
    """A row that the real Triton decides."""
    if is_control(request):
        # Over HTTP/1.0 the reply to a load ends where the connection does, and the process that Triton starts for the
        # model holds the connection, too.
        versions = versions[-2:]
    differences = controlled(request) or BY_EDGE.get(about, {})
    return Row(about, TRITON, request, AsTriton(), versions=versions, differences=differences)


ROWS = (
    *(as_triton(f"gRPC: {about}", v2(*call)) for about, call in GRPC.items()),
    *(as_triton(f"REST: {about}", call) for about, call in REST.items()),
)
