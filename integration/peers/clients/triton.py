"""The V2 (KServe, Triton) protocols, by Triton's own client library."""

from typing import Any

import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest
from tritonclient.utils import InferenceServerException

from integration.peers.clients.client import Answer, ClientError, Endpoints, Images


class TritonRest:
    """POST /v2/models/NAME/infer with binary tensors."""

    protocol = "V2 REST"
    library = "tritonclient.http"

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}

    async def predict(self, endpoints: Endpoints, model: str, images: Images) -> Answer:
        """Asks a model for the digits on images."""
        if endpoints.rest not in self._clients:
            self._clients[endpoints.rest] = v2_rest.InferenceServerClient(endpoints.rest.removeprefix("http://"))
        return await _infer(v2_rest, self._clients[endpoints.rest], model, images)

    async def close(self) -> None:
        """Closes its connections."""
        for client in self._clients.values():
            await client.close()


class TritonGrpc:
    """inference.GRPCInferenceService/ModelInfer."""

    protocol = "V2 gRPC"
    library = "tritonclient.grpc"

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}

    async def predict(self, endpoints: Endpoints, model: str, images: Images) -> Answer:
        """Asks a model for the digits on images."""
        if endpoints.grpc not in self._clients:
            self._clients[endpoints.grpc] = v2_grpc.InferenceServerClient(endpoints.grpc)
        return await _infer(v2_grpc, self._clients[endpoints.grpc], model, images)

    async def close(self) -> None:
        """Closes its connections."""
        for client in self._clients.values():
            await client.close()


async def _infer(library: Any, client: Any, model: str, images: Images) -> Answer:
    tensor = library.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    try:
        result = await client.infer(model, [tensor])
    except InferenceServerException as error:
        raise ClientError(str(error)) from error
    labels, probabilities = result.as_numpy("label"), result.as_numpy("probabilities")
    return Answer(labels, (str(result.get_response()), labels.tobytes(), probabilities.tobytes()))
