"""TF Serving's gRPC API: PredictionService and ModelService."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from mesh.model_server import grpc_service, tfs
from mesh.model_server.errors import Code, ServingError, invalid
from mesh.model_server.grpc_service import UnaryMethod
from mesh.model_server.models import Models
from mesh.model_server.runner import Runner
from mesh.protos import tfs_pb2 as pb
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import Array


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
        version = tfs.find(self._models, request.model_spec)
        response = pb.PredictResponse()
        with version.lease() as model:
            signature = tfs.check_signature(request.model_spec.signature_name)
            tfs.check_names(model, request.inputs)
            size = request.ByteSize()
            inputs = await self._runner.offload(size, lambda: _decode(request))
            outputs = tfs.choose_outputs(model, request.output_filter)
            tfs.check_inputs(model, inputs)
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
        tfs.refuse_examples(self._models, request.model_spec, kind)

    async def multi_inference(self, request: pb.MultiInferenceRequest) -> pb.MultiInferenceResponse:
        """Refused: no model here has a signature that takes examples."""
        spec = request.tasks[0].model_spec if request.tasks else pb.ModelSpec()
        tfs.find(self._models, spec)
        if spec.signature_name not in ("", tfs.DEFAULT_SIGNATURE):
            raise invalid(f"Requested signature not found in model graph: {spec.signature_name}")
        kinds = {"tensorflow/serving/classify": "classification", "tensorflow/serving/regress": "regression"}
        method = request.tasks[0].method_name
        if method not in kinds:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
        tfs.check_example_signature(spec, kinds[method])
        raise AssertionError("not refused")

    async def metadata(self, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
        """GetModelMetadata: the signatures."""
        return tfs.metadata(self._models, request)

    async def status(self, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
        """GetModelStatus: the states of the versions."""
        return tfs.status(self._models, request)

    async def reload(self, request: pb.ReloadConfigRequest) -> pb.ReloadConfigResponse:
        """HandleReloadConfigRequest: the full list of what is to be served."""
        await tfs.reload(self._models, request)
        response = pb.ReloadConfigResponse(status=pb.StatusProto())
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=0)
        return response


def _truncating(answer: Callable[[Any], Awaitable[Message]]) -> Callable[[Any], Awaitable[Message]]:
    async def truncated(request: Any) -> Message:
        try:
            return await answer(request)
        except ServingError as error:
            raise tfs.truncate(error) from error

    return truncated


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
