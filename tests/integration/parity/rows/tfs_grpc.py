"""TF Serving's gRPC service. It cannot be run here: a reply is what the report or the source says."""

from typing import Any

import grpc

from mesh.protos import tfs_pb2 as tfs
from tests.integration.parity.row import OURS, Grpc, Has, Like, Reply, Row
from tests.integration.parity.rows.words import floats, tfs_predict

PREDICTOR = "tensorflow/serving: servables/tensorflow/predict_util.cc"
CORE = "tensorflow/serving: model_servers/server_core.cc"
LARGE = 5 << 20
PREDICTED = Has({"model_spec": {"name": "double", "version": "1", "signature_name": "serving_default"}})
STRING = tfs.TensorProto(dtype="DT_STRING", tensor_shape={"dim": [{"size": 1}]}, string_val=[b"a"])


def _tfs(about: str, source: str, request: Grpc, status: str, body: Any = None) -> Row:
    return Row(about, source, request, Reply(status, body), OURS)


ROWS = (
    _tfs(
        "predict",
        PREDICTOR,
        tfs_predict("double", {"x": floats((1, 2))}),
        "OK",
        PREDICTED,
    ),
    _tfs(
        "strings for floats",
        "tensorflow/serving#1495",
        tfs_predict("double", {"x": STRING}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but string is provided",
    ),
    _tfs(
        "an unknown model",
        "tensorflow/serving#441",
        tfs_predict("model", {"x": floats((1, 2))}),
        "NOT_FOUND",
        "Servable not found for request: Latest(model)",
    ),
    _tfs(
        "a signature that there is not",
        "GoogleCloudPlatform/training-data-analyst#380",
        tfs_predict("double", {"x": floats((1, 2))}, signature="predict"),
        "FAILED_PRECONDITION",
        'Serving signature key "predict" not found.',
    ),
    _tfs(
        "no inputs",
        PREDICTOR,
        tfs_predict("double", {}),
        "INVALID_ARGUMENT",
        Like("input size does not match signature: 0!=1 .*"),
    ),
    _tfs(
        "an input of another name",
        PREDICTOR,
        tfs_predict("double", {"input": floats((1, 2))}),
        "INVALID_ARGUMENT",
        Like(".*input.*"),
    ),
    _tfs(
        "no name", CORE, tfs_predict("", {"x": floats((1, 2))}), "INVALID_ARGUMENT", "ModelSpec has no name specified."
    ),
    _tfs(
        "a packed message",
        "tensorflow/serving#516",
        tfs_predict("double", {"x": floats((1, 2))}, compression=grpc.Compression.Gzip),
        "OK",
        PREDICTED,
    ),
    _tfs(
        "a message of 5 MiB is read",
        "grpc/grpc.io#1254",
        tfs_predict(
            "large",
            {
                "x": tfs.TensorProto(
                    dtype="DT_FLOAT",
                    tensor_shape={"dim": [{"size": LARGE // 8}, {"size": 2}]},
                    tensor_content=b"\0" * LARGE,
                )
            },
        ),
        "NOT_FOUND",
        "Servable not found for request: Latest(large)",
    ),
    _tfs(
        "a message that is none",
        "tensorflow/serving: apis/prediction_service.proto",
        Grpc("/tensorflow.serving.PredictionService/Predict", b"\xff\xff\xff", tfs.PredictResponse),
        "INVALID_ARGUMENT",
    ),
)
