"""TF Serving's gRPC API: PredictionService and ModelService."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from mesh.model_server import grpc_service
from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.grpc_service import UnaryMethod
from mesh.model_server.models import Models
from mesh.model_server.runner import Runner
from mesh.model_server.tfs import descriptions, lookup, signatures
from mesh.model_server.tfs.reload import reload
from mesh.protos import tfs_pb2 as pb
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import Array

_ERROR_LIMIT = 1024  # TF Serving's own, for gRPC messages


class TfServing:
    """The methods, each from a parsed request to its answer."""

    def __init__(self, models: Models, runner: Runner) -> None:
        self._models = models
        self._runner = runner

    def services(self) -> list[grpc.GenericRpcHandler]:
        """The gRPC services to add to a server."""
        prediction: dict[str, tuple[type[Message], Callable[[Any], Awaitable[Message]]]] = {
            "Predict": (pb.PredictRequest, self.predict),
            "Classify": (pb.ClassificationRequest, self.classify),
            "Regress": (pb.RegressionRequest, self.regress),
            "MultiInference": (pb.MultiInferenceRequest, self.multi_inference),
            "GetModelMetadata": (pb.GetModelMetadataRequest, self.metadata),
        }
        model: dict[str, tuple[type[Message], Callable[[Any], Awaitable[Message]]]] = {
            "GetModelStatus": (pb.GetModelStatusRequest, self.status),
            "HandleReloadConfigRequest": (pb.ReloadConfigRequest, self.reload),
        }
        return [
            grpc_service.service(
                f"tensorflow.serving.{name}",
                {method: UnaryMethod(request, _truncating(answer)) for method, (request, answer) in methods.items()},
            )
            for name, methods in (("PredictionService", prediction), ("ModelService", model))
        ]

    async def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Predict. Checks in TF Serving's order: servable, signature, inputs, outputs."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        version = lookup.find(self._models, request.model_spec)
        response = pb.PredictResponse()
        with version.lease() as model:
            signature = signatures.check_signature(request.model_spec.signature_name)
            signatures.check_names(model, request.inputs)
            size = request.ByteSize()
            inputs = await self._runner.offload(size, lambda: _decode(request))
            outputs = signatures.choose_outputs(model, request.output_filter)
            signatures.check_inputs(model, inputs)
            results = await self._runner.infer(version, inputs, outputs)
            await self._runner.offload(
                sum(array.nbytes for array in results.values()), lambda: _encode(results, response)
            )
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        response.model_spec.signature_name = signature
        return response

    async def classify(self, request: pb.ClassificationRequest) -> pb.ClassificationResponse:
        """Refused: no model here has a classification signature."""
        self._refuse(request, "classification")
        raise AssertionError("not refused")

    async def regress(self, request: pb.RegressionRequest) -> pb.RegressionResponse:
        """Refused: no model here has a regression signature."""
        self._refuse(request, "regression")
        raise AssertionError("not refused")

    def _refuse(self, request: pb.ClassificationRequest | pb.RegressionRequest, kind: str) -> None:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        signatures.refuse_examples(self._models, request.model_spec, kind)

    async def multi_inference(self, request: pb.MultiInferenceRequest) -> pb.MultiInferenceResponse:
        """Refused: no model here has a signature that takes examples."""
        spec = request.tasks[0].model_spec if request.tasks else pb.ModelSpec()
        lookup.find(self._models, spec)
        if spec.signature_name not in ("", signatures.DEFAULT_SIGNATURE):
            raise invalid(f"Requested signature not found in model graph: {spec.signature_name}")
        kinds = {"tensorflow/serving/classify": "classification", "tensorflow/serving/regress": "regression"}
        method = request.tasks[0].method_name
        if method not in kinds:
            raise ServingError(StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
        signatures.check_example_signature(spec, kinds[method])
        raise AssertionError("not refused")

    async def metadata(self, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
        """GetModelMetadata: the signatures."""
        return descriptions.metadata(self._models, request)

    async def status(self, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
        """GetModelStatus: the states of the versions."""
        return descriptions.status(self._models, request)

    async def reload(self, request: pb.ReloadConfigRequest) -> pb.ReloadConfigResponse:
        """HandleReloadConfigRequest: the full list of what is to be served."""
        await reload(self._models, request)
        response = pb.ReloadConfigResponse(status=pb.StatusProto())
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=0)
        return response


def _truncating(answer: Callable[[Any], Awaitable[Message]]) -> Callable[[Any], Awaitable[Message]]:
    async def truncated(request: Any) -> Message:
        try:
            return await answer(request)
        except ServingError as error:
            raise _truncate(error) from error

    return truncated


def _truncate(error: ServingError) -> ServingError:
    """The error as TF Serving sends it over gRPC: messages are cut after 1024 bytes."""
    if len(error.message) <= _ERROR_LIMIT:
        return error
    return ServingError(error.code, f"{error.message[:_ERROR_LIMIT]}...TRUNCATED")


def _decode(request: pb.PredictRequest) -> dict[str, Array]:
    arrays = {}
    for name, proto in request.inputs.items():
        try:
            arrays[name] = tf_tensors.decode(proto)
        except tf_tensors.TensorError as error:
            raise invalid(f"tensor parsing error: {name}") from error
    return arrays


def _encode(results: dict[str, Array], response: pb.PredictResponse) -> None:
    for name, array in results.items():
        response.outputs[name].CopyFrom(tf_tensors.encode(array))
