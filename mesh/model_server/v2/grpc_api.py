"""The V2 (KServe, Triton) gRPC API: inference.GRPCInferenceService."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import grpc
from tritonclient.grpc import service_pb2 as pb

from mesh.model_server import grpc_service
from mesh.model_server.errors import ServingError, invalid
from mesh.model_server.grpc_service import StreamMethod, UnaryMethod
from mesh.model_server.models import Models
from mesh.model_server.runner import Runner
from mesh.model_server.v2 import descriptions, grpc_parameters, inference, lookup, repository
from mesh.tensors.dtypes import BY_V2, Array, DType
from mesh.tensors.v2 import DataError, from_raw, from_values, to_raw

#: The typed contents, with the datatypes that travel in each; the last one is what Triton calls the others.
_CONTENTS = {
    "bool_contents": ("BOOL",),
    "int_contents": ("INT8", "INT16", "INT32"),
    "int64_contents": ("INT64",),
    "uint_contents": ("UINT8", "UINT16", "UINT32"),
    "uint64_contents": ("UINT64",),
    "fp32_contents": ("FP32",),
    "fp64_contents": ("FP64",),
    "bytes_contents": ("BYTES",),
}


class V2Grpc:
    """The methods, each from a parsed request to its answer. `is_ready` tells whether the server has started up."""

    def __init__(self, models: Models, runner: Runner, is_ready: Callable[[], bool]) -> None:
        self._models = models
        self._runner = runner
        self._is_ready = is_ready

    def services(self) -> list[grpc.GenericRpcHandler]:
        """The gRPC service to add to a server."""
        unary = {
            "ServerLive": UnaryMethod(pb.ServerLiveRequest, self.server_live),
            "ServerReady": UnaryMethod(pb.ServerReadyRequest, self.server_ready),
            "ServerMetadata": UnaryMethod(pb.ServerMetadataRequest, self.server_metadata),
            "ModelReady": UnaryMethod(pb.ModelReadyRequest, self.model_ready),
            "ModelMetadata": UnaryMethod(pb.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": UnaryMethod(pb.ModelConfigRequest, self.model_config),
            "ModelStatistics": UnaryMethod(pb.ModelStatisticsRequest, self.model_statistics),
            "ModelInfer": UnaryMethod(pb.ModelInferRequest, self.infer),
            "RepositoryIndex": UnaryMethod(pb.RepositoryIndexRequest, self.repository_index),
            "RepositoryModelLoad": UnaryMethod(pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": UnaryMethod(pb.RepositoryModelUnloadRequest, self.unload),
        }
        stream = StreamMethod(pb.ModelInferRequest, self.stream_infer)
        return [grpc_service.service("inference.GRPCInferenceService", {**unary, "ModelStreamInfer": stream})]

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the server runs."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether the models of the start are loaded."""
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name, version and extensions."""
        return descriptions.server_metadata()

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether one model answers."""
        return pb.ModelReadyResponse(ready=lookup.is_ready(self._models, request.name, request.version))

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Inputs and outputs."""
        return descriptions.model_metadata(self._models, request.name, request.version)

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The configuration."""
        return pb.ModelConfigResponse(config=descriptions.model_config(self._models, request.name, request.version))

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Counts and times."""
        return descriptions.statistics(self._models, request.name, request.version)

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """What there is, and in which state."""
        return repository.repository_index(self._models, request.repository_name, request.ready)

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load, or load again."""
        parameters = grpc_parameters.load(request.parameters)
        await repository.load(self._models, request.repository_name, request.model_name, parameters)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Unload."""
        grpc_parameters.check_unload(request.parameters)
        await repository.unload(self._models, request.repository_name, request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """One inference."""
        model_name = request.model_name
        version = lookup.find(self._models, model_name, request.model_version)
        with version.lease() as model:
            grpc_parameters.check_request(request.parameters)
            inference.check_names(request.id, [each.name for each in request.inputs])
            readers = _readers(request)
            for output in request.outputs:
                grpc_parameters.check_output(output.name, output.parameters)
            outputs = inference.choose_outputs(model_name, model, [output.name for output in request.outputs])
            tensors = [
                inference.Tensor(each.name, inference.datatype(each.datatype), tuple(each.shape))
                for each in request.inputs
            ]
            inference.check_inputs(model_name, request.id, model, tensors)
            inputs = await self._runner.offload(request.ByteSize(), partial(_read, request, readers))
            results = await inference.infer(self._runner, version, inputs, outputs)
        response = pb.ModelInferResponse(model_name=model_name, model_version=str(version.number), id=request.id)
        for name, array in results.items():
            datatype = next(spec.dtype.v2 for spec in model.outputs if spec.name == name)
            response.outputs.add(name=name, datatype=datatype, shape=array.shape)
            response.raw_output_contents.append(to_raw(array))
        return response

    async def stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest]
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Inferences one after the other; a refusal is an answer and does not end the stream."""
        async for request in requests:
            try:
                response = await self.infer(request)
            except ServingError as error:
                refused = pb.ModelInferResponse(id=request.id)
                yield pb.ModelStreamInferResponse(error_message=error.message, infer_response=refused)
            else:
                response.parameters["triton_final_response"].bool_param = True
                yield pb.ModelStreamInferResponse(infer_response=response)


Reader = Callable[[DType], Array]


def _readers(request: pb.ModelInferRequest) -> list[Reader]:
    """How to read each input: from the raw contents, in order, or from its typed contents. Raises ServingError."""
    readers: list[Reader] = []
    raw = iter(request.raw_input_contents)
    for each in request.inputs:
        shape = tuple(each.shape)
        region = grpc_parameters.shared_memory(each.name, each.parameters)
        if region is not None:
            if each.HasField("contents"):
                raise invalid(
                    f"unexpected 'content' provided when using shared memory for input tensor '{each.name}' "
                    f"for model '{request.model_name}'"
                )
            raise inference.no_region(region)
        if request.raw_input_contents:
            if each.HasField("contents"):
                raise invalid(
                    "contents field must not be specified when using raw_input_contents "
                    f"for '{each.name}' for model '{request.model_name}'"
                )
            data = next(raw, None)
            if data is None:
                raise invalid(
                    f"unable to find data for input tensor '{each.name}' for model '{request.model_name}' in request."
                )
            readers.append(partial(_from_raw, data, shape))
            continue
        readers.append(partial(_from_values, _typed(request.model_name, each), shape))
    return readers


def _typed(model_name: str, each: pb.ModelInferRequest.InferInputTensor) -> list[object]:
    """The values in an input's typed contents, which must be those of its datatype. Raises ServingError."""
    values: list[object] | None = None
    datatype = inference.datatype(each.datatype)
    for field, datatypes in _CONTENTS.items():
        given = getattr(each.contents, field)
        if not given:
            continue
        if datatype not in datatypes:
            raise invalid(
                f"unexpected explicit tensor data for input tensor '{each.name}' for model '{model_name}' "
                f"of type '{datatypes[-1]}', expected datatype '{datatype}'"
            )
        values = given
    if values is None:
        raise invalid(f"unable to find data for input tensor '{each.name}' for model '{model_name}' in request.")
    return values


def _from_raw(data: bytes, shape: tuple[int, ...], dtype: DType) -> Array:
    return from_raw(data, dtype, shape)


def _from_values(values: list[object], shape: tuple[int, ...], dtype: DType) -> Array:
    return from_values(values, dtype, shape)


def _read(request: pb.ModelInferRequest, readers: list[Reader]) -> dict[str, Array]:
    arrays = {}
    for each, reader in zip(request.inputs, readers, strict=True):
        dtype = BY_V2[each.datatype]
        try:
            arrays[each.name] = reader(dtype)
        except DataError as error:
            raise inference.bad_data(request.model_name, request.id, each.name, error) from error
    return arrays
