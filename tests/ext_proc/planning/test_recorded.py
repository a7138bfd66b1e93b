"""Recorded requests: read in every form that clients send, in rows, and put together again."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from ext_proc.errors import TbmsError
from ext_proc.planning.recorded import Recorded, read_recorded
from ext_proc.wire.call import InferenceProtocol
from mesh.protos import tfs_pb2

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
TFS_GRPC, TFS_REST = InferenceProtocol.TFS_GRPC, InferenceProtocol.TFS_REST
V2_GRPC, V2_REST = InferenceProtocol.V2_GRPC, InferenceProtocol.V2_REST


def v2_grpc(rows: np.ndarray = ROWS, model: str = "other") -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    request.raw_input_contents.append(rows.tobytes())
    return request.SerializeToString()


def tfs_grpc() -> bytes:
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = "other"
    tensor = request.inputs["x"]
    tensor.dtype = tfs_pb2.DT_FLOAT
    for size in ROWS.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = ROWS.tobytes()
    return request.SerializeToString()


def v2_json(binary: bool = False) -> bytes:
    tensor: dict[str, object] = {"name": "x", "shape": [3, 2], "datatype": "FP32"}
    if binary:
        tensor["parameters"] = {"binary_data_size": ROWS.nbytes}
        return json.dumps({"inputs": [tensor]}).encode() + ROWS.tobytes()
    return json.dumps({"inputs": [tensor | {"data": ROWS.tolist()}]}).encode() + b"\n"


GRPC_JSON = json.dumps(
    {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [3, 2], "contents": {"fp32Contents": ROWS.ravel().tolist()}}
        ]
    }
).encode()
TFS_GRPC_JSON = json.dumps(
    {
        "modelSpec": {"name": "other", "signatureName": "serving_default"},
        "inputs": {
            "x": {
                "dtype": "DT_FLOAT",
                "tensorShape": {"dim": [{"size": 3}, {"size": 2}]},
                "floatVal": ROWS.ravel().tolist(),
            }
        },
    }
).encode()
BODIES = {
    "v2-grpc": (V2_GRPC, v2_grpc()),
    "v2-grpc as JSON": (V2_GRPC, GRPC_JSON),
    "tfs-grpc": (TFS_GRPC, tfs_grpc()),
    "tfs-grpc as JSON": (TFS_GRPC, TFS_GRPC_JSON),
    "v2-rest": (V2_REST, v2_json()),
    "v2-rest binary": (V2_REST, v2_json(binary=True)),
    "tfs-rest rows": (TFS_REST, json.dumps({"instances": ROWS.tolist()}).encode()),
    "tfs-rest columns": (TFS_REST, json.dumps({"inputs": {"x": ROWS.tolist()}}).encode()),
}


def read(protocol: InferenceProtocol, files: Mapping[str, bytes], most: int = 100) -> Recorded:
    return read_recorded(protocol, "bert", None, files, most)


@pytest.mark.parametrize("form", BODIES)
def test_rows_of_every_form_are_asked_for_again_in_any_number(form: str) -> None:
    protocol, body = BODIES[form]
    recorded = read(protocol, {"f": body})
    assert (len(recorded.rows), recorded.distinct) == (3, 3)
    five = recorded.request(recorded.members(5, first=2))
    again = read(protocol, {"f": five.body})
    assert len(again.rows) == 5
    assert again.distinct == 3
    one = recorded.request(recorded.members(1))
    assert len(read(protocol, {"f": one.body}).rows) == 1


def test_the_values_and_their_order_are_kept() -> None:
    recorded = read(V2_GRPC, {"f": v2_grpc()})
    written = service_pb2.ModelInferRequest.FromString(recorded.request(recorded.members(4, first=1)).body)
    assert written.model_name == "bert", "whatever the recorded one asks for"
    values = np.frombuffer(written.raw_input_contents[0], np.float32).reshape(4, 2)
    np.testing.assert_array_equal(values, ROWS[[1, 2, 0, 1]])


def test_the_binary_extension_says_where_the_bytes_begin() -> None:
    recorded = read(V2_REST, {"f": v2_json(binary=True)})
    headers = dict(recorded.request(recorded.members(2)).headers)
    assert headers["content-type"] == "application/octet-stream"
    assert int(headers["inference-header-content-length"]) > 0
    plain = read(V2_REST, {"f": v2_json()})
    assert dict(plain.request(plain.members(2)).headers) == {"content-type": "application/json"}


def test_rows_of_several_files_are_one_stock_up_to_a_bound() -> None:
    files = {"a": v2_grpc(ROWS), "b": v2_grpc(ROWS + 10), "c": v2_grpc(ROWS[:1])}
    recorded = read(V2_GRPC, files)
    assert (len(recorded.rows), recorded.distinct) == (7, 6)
    assert len(read(V2_GRPC, files, 4).rows) == 4


@pytest.mark.parametrize(
    ("protocol", "version", "path"),
    [
        (V2_GRPC, "3", "/inference.GRPCInferenceService/ModelInfer"),
        (TFS_GRPC, None, "/tensorflow.serving.PredictionService/Predict"),
        (V2_REST, "3", "/v2/models/a%3Ab/versions/3/infer"),
        (TFS_REST, None, "/v1/models/a%3Ab:predict"),
    ],
)
def test_paths(protocol: InferenceProtocol, version: str | None, path: str) -> None:
    body = next(body for known, body in BODIES.values() if known is protocol)
    assert read_recorded(protocol, "a:b", version, {"f": body}, 9).path == path


def test_a_version_of_grpc_stands_in_the_message() -> None:
    recorded = read_recorded(V2_GRPC, "bert", "3", {"f": v2_grpc()}, 9)
    message = service_pb2.ModelInferRequest.FromString(recorded.request(recorded.members(1)).body)
    assert (message.model_name, message.model_version) == ("bert", "3")


@pytest.mark.parametrize(
    ("protocol", "files", "says"),
    [
        (V2_GRPC, {"f": b"\xff\xff"}, "^f: "),
        (V2_GRPC, {"f": b"{}"}, r"^f: its rows cannot be told apart \(no-tensors|^f: its rows cannot be told apart"),
        (V2_GRPC, {"f": b'{"input": []}'}, "^f: the JSON is no request of v2-grpc: .*input"),
        (V2_GRPC, {"f": b"{\xff"}, "^f: the JSON is no request of v2-grpc"),
        (V2_REST, {"f": b"not JSON"}, r"^f: its rows cannot be told apart \(not-understood\), as a v2-rest request"),
        (TFS_REST, {"f": b'{"instances": []}'}, r"^f: its rows cannot be told apart"),
        (V2_GRPC, {"a": v2_grpc(), "b": v2_grpc(np.zeros((1, 3), np.float32))}, "^b: its tensors have other .* of a$"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    protocol: InferenceProtocol, files: Mapping[str, bytes], says: str
) -> None:
    with pytest.raises(TbmsError, match=says):
        read(protocol, files)


def test_answers_are_those_of_the_rows_as_numbers_or_else_as_bytes() -> None:
    recorded = read(V2_GRPC, {"f": v2_grpc()})
    members = recorded.members(2)

    def reply(datatype: str, raw: bytes) -> bytes:
        message = service_pb2.ModelInferResponse(model_name="bert", model_version="1")
        message.outputs.add(name="y", datatype=datatype, shape=[2, 1])
        message.raw_output_contents.append(raw)
        return message.SerializeToString()

    first, second = recorded.answers({}, reply("FP32", np.array([1, 2], np.float32).tobytes()), members)
    assert first.outputs is not None
    assert second.outputs is not None
    assert (first.outputs["y"].tolist(), second.outputs["y"].tolist()) == ([[1.0]], [[2.0]])
    words = recorded.answers({}, reply("BYTES", b"\x01\x00\x00\x00a\x01\x00\x00\x00b"), members)
    assert [each.outputs for each in words] == [None, None]
    assert words[0].body != words[1].body
