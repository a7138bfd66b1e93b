"""The few words that make a row short."""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from ext_proc.wire.v2.refusals import REPOSITORY
from mesh.protos import tfs_pb2 as tfs
from tests.integration.parity.row import EDGES, Difference, Grpc, Http, Place, Reply, differs

X: dict[str, Any] = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
Y: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2, 4]}
INFER = "/v2/models/double/infer"
PREDICT = "/v1/models/double:predict"

NO_BYTES_OUT = "ONNX Runtime's Python API cannot give out strings that are not UTF-8 (decision 040)."
NOT_UTF_8 = "output 'same_bytes' holds a string that is not UTF-8, which ONNX Runtime's Python API cannot give out"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def predict(body: bytes | str, model: str = "double", **headers: str) -> Http:
    """A :predict of TF Serving's, with this text for its body."""
    data = body if isinstance(body, bytes) else body.encode()
    return Http("POST", f"/v1/models/{model}:predict", data, headers)


def infer(*inputs: dict[str, Any], model: str = "double", **document: Any) -> Http:
    """An inference of V2's; without inputs that of `double`."""
    return Http("POST", f"/v2/models/{model}/infer", as_json({"inputs": list(inputs) or [X], **document}))


def text(*data: Any, **more: Any) -> dict[str, Any]:
    """The input of `text`."""
    return {"name": "s", "shape": [len(data)], "datatype": "BYTES", "data": list(data), **more}


def v2(method: str, request: Message, **more: Any) -> Grpc:
    """A call of Triton's gRPC service."""
    return Grpc(f"/inference.GRPCInferenceService/{method}", request, getattr(pb, f"{method}Response"), **more)


def tfs_predict(model: str, inputs: Mapping[str, tfs.TensorProto], *, signature: str = "", **more: Any) -> Grpc:
    """A Predict of TF Serving's gRPC service."""
    request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name=model, signature_name=signature), inputs=inputs)
    return Grpc("/tensorflow.serving.PredictionService/Predict", request, tfs.PredictResponse, **more)


def floats(*rows: tuple[float, ...]) -> tfs.TensorProto:
    """A float tensor of two dimensions."""
    shape = tfs.TensorShapeProto(dim=[{"size": len(rows)}, {"size": len(rows[0])}])
    return tfs.TensorProto(dtype="DT_FLOAT", tensor_shape=shape, float_val=[each for row in rows for each in row])


def by_edge(reason: str, reply: Reply) -> dict[Place, Difference]:
    """What both edges answer otherwise."""
    return differs(reason, reply, EDGES)


def is_control(request: Http | Grpc) -> bool:
    """Whether this is one of the calls that no edge lets through."""
    where = request.method if isinstance(request, Grpc) else request.path
    return "/Repository" in where or where.startswith("/v2/repository/")


def controlled(request: Http | Grpc) -> dict[Place, Difference]:
    """What edges answer to repository control, and to nothing else."""
    if not is_control(request):
        return {}
    status = "PERMISSION_DENIED" if isinstance(request, Grpc) else 403
    return by_edge("The model cache owns what each server holds (decision 021).", Reply(status, REPOSITORY))
