"""One call of each protocol for a model of digits, written down as bytes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2

from integration.peers.clients.client import Images
from mesh.protos import tfs_pb2

TFS_PREDICT = "/tensorflow.serving.PredictionService/Predict"
TFS_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
TFS_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
TFS_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
V2_INFER = "/inference.GRPCInferenceService/ModelInfer"
V2_READY = "/inference.GRPCInferenceService/ModelReady"
V2_METADATA = "/inference.GRPCInferenceService/ModelMetadata"
V2_CONFIG = "/inference.GRPCInferenceService/ModelConfig"
V2_STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"
V2_SERVER_LIVE = "/inference.GRPCInferenceService/ServerLive"


@dataclass(frozen=True)
class Rest:
    path: str
    body: bytes | None
    headers: dict[str, str]


@dataclass(frozen=True)
class Grpc:
    method: str
    message: bytes


def tfs_rest(model: str, images: Images, version: str = "") -> Rest:
    body = json.dumps({"instances": images.tolist()}).encode()
    return Rest(f"/v1/models/{model}{version}:predict", body, {"content-type": "application/json"})


def v2_rest(model: str, images: Images, version: str = "") -> Rest:
    """With the binary tensor extension: a JSON head, then the tensor's bytes."""
    tensor = {
        "name": "image",
        "shape": images.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return Rest(f"/v2/models/{model}{version}/infer", head + images.tobytes(), headers)


def tfs_grpc(model: str, images: Images) -> Grpc:
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = model
    _fill(request.inputs["image"], images)
    return Grpc(TFS_PREDICT, request.SerializeToString())


def v2_grpc(model: str, images: Images) -> Grpc:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="FP32", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    return Grpc(V2_INFER, request.SerializeToString())


def images(rows: int, source: Images) -> Images:
    """`rows` images: the source again and again."""
    return np.resize(source, (rows, source.shape[1]))


def rows_of(size: int) -> int:
    """How many images make about `size` bytes as float32."""
    return max(1, size // 256)


def _fill(tensor: tfs_pb2.TensorProto, values: Images) -> None:
    tensor.dtype = tfs_pb2.DT_FLOAT
    _shape(tensor, values.shape)
    tensor.tensor_content = values.tobytes()


def _shape(tensor: tfs_pb2.TensorProto, sizes: Sequence[int]) -> None:
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
