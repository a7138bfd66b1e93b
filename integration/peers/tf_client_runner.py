"""The unchanged TF Serving client: runs in build/tf-client, where TensorFlow and tensorflow-serving-api are installed.

Reads JSON lines from stdin, answers JSON lines on stdout, in the order in which the calls end:
  {"id", "method", "target", "request": base64, "metadata": [[k, v]...], "timeout"}     a request as bytes, or
  {"id", "method": "Predict", "target", "model", "version", "label", "signature", "arrays": {name: [dtype, values]}}
      a request that TensorFlow itself builds, or
  {"id", "method", "target", "model", "signature", "examples": [{feature: [kind, values]}], "context": {...} or null}
      one of Classify or Regress; `kind` is float, int64 or bytes, whose values are text
  -> {"id", "code", "details", "response": base64, "initial", "trailing", "arrays": {name: [dtype, values]}}
`arrays` of the answer are a PredictResponse's outputs as TensorFlow itself reads them.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

import base64
import json
import sys
import threading
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

_stubs: dict[str, tuple[Any, Any]] = {}
_output = threading.Lock()


def _stub(target: str, method: str) -> Any:
    if target not in _stubs:
        channel = grpc.insecure_channel(target, options=OPTIONS)
        _stubs[target] = (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )
    prediction, model = _stubs[target]
    return getattr(prediction, method, None) or getattr(model, method)


def _request(order: dict[str, Any]) -> Any:
    request = REQUESTS[order["method"]]()
    if "request" in order:
        request.ParseFromString(base64.b64decode(order["request"]))
        return request
    request.model_spec.name = order["model"]
    request.model_spec.signature_name = order.get("signature") or ""
    if order.get("version") is not None:
        request.model_spec.version.value = order["version"]
    if order.get("label") is not None:
        request.model_spec.version_label = order["label"]
    if "examples" in order:
        given = request.input.example_list
        if order["context"] is not None:
            given = request.input.example_list_with_context
            given.context.CopyFrom(_example(order["context"]))
        given.examples.extend(map(_example, order["examples"]))
        return request
    for name, (dtype, values) in order["arrays"].items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=tf.as_dtype(dtype)))
    return request


def _example(features: dict[str, Any]) -> Any:
    example = tf.train.Example()
    for name, (kind, values) in features.items():
        listed = getattr(example.features.feature[name], f"{kind}_list").value
        listed.extend([value.encode() for value in values] if kind == "bytes" else values)
    return example


def _arrays(response: Any) -> dict[str, Any]:
    arrays = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    return {
        name: [tf.as_dtype(array.dtype).name, array.tolist()]
        for name, array in arrays.items()
        if array.dtype.kind in "biuf"
    }


def _answer(order: dict[str, Any], call: Any) -> None:
    answer: dict[str, Any] = {"id": order["id"], "code": call.code().value[0], "details": call.details() or ""}
    answer["initial"] = [[key, str(value)] for key, value in call.initial_metadata() or ()]
    answer["trailing"] = [[key, str(value)] for key, value in call.trailing_metadata() or ()]
    if call.exception() is None:
        response = call.result()
        answer["response"] = base64.b64encode(response.SerializeToString()).decode()
        if isinstance(response, predict_pb2.PredictResponse):
            answer["arrays"] = _arrays(response)
    _write(answer)


def _write(answer: dict[str, Any]) -> None:
    with _output:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Serve stdin until it ends."""
    _write({"ready": tf.__version__})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            metadata = [tuple(pair) for pair in order.get("metadata", ())]
            method = _stub(order["target"], order["method"])
            call = method.future(_request(order), timeout=order.get("timeout", 30.0), metadata=metadata)
        except Exception as error:  # the caller's mistake: tell it, and live on
            _write({"id": order["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            call.add_done_callback(lambda call, order=order: _answer(order, call))


if __name__ == "__main__":
    main()
