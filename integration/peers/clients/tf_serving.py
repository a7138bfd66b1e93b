"""TF Serving's two protocols: REST as any program would write it, gRPC by its own client where that is set up."""

from contextlib import AsyncExitStack

import aiohttp
import grpc
import grpc.aio
import numpy as np

from integration.peers import tf_client
from integration.peers.clients.client import Answer, Client, ClientError, Endpoints, Images, Labels
from mesh.protos import tfs_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class TfServingRest:
    """POST /v1/models/NAME:predict, rows as JSON."""

    protocol = "TF Serving REST"
    library = "aiohttp"

    def __init__(self) -> None:
        self._http = aiohttp.ClientSession()

    async def predict(self, endpoints: Endpoints, model: str, images: Images) -> Answer:
        """Asks a model for the digits on images."""
        url = f"{endpoints.rest}/v1/models/{model}:predict"
        try:
            async with self._http.post(url, json={"instances": images.tolist()}) as reply:
                body = await reply.read()
                if reply.status != 200:
                    raise ClientError(f"{reply.status} {body.decode(errors='replace')}")
                rows = (await reply.json())["predictions"]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ClientError(str(error)) from error
        return Answer(np.array([row["label"] for row in rows], dtype=np.int64), body)

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.close()


class TensorFlowGrpc:
    """The stubs of tensorflow-serving-api, in a process of their own."""

    protocol = "TF Serving gRPC"
    library = "tensorflow-serving-api"

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._client: tf_client.TfClient | None = None

    async def predict(self, endpoints: Endpoints, model: str, images: Images) -> Answer:
        """Asks a model for the digits on images."""
        if self._client is None:
            self._client = await self._stack.enter_async_context(tf_client.tf_client())
        reply = await self._client.predict(endpoints.grpc, model, {"image": ("float32", images.tolist())})
        if reply.code:
            raise ClientError(f"gRPC status {reply.code}: {reply.details}")
        return Answer(np.array(reply.arrays["label"][1], dtype=np.int64), reply.response)

    async def close(self) -> None:
        """Ends the process."""
        await self._stack.aclose()


def predict_request(model: str, images: Images) -> tfs_pb2.PredictRequest:
    """The Predict call for the digits on images."""
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["image"]
    tensor.dtype = tfs_pb2.DT_FLOAT
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = images.tobytes()
    return request


def labels_of(reply: tfs_pb2.PredictResponse) -> Labels:
    """The digits that a reply names."""
    label = reply.outputs["label"]
    return np.frombuffer(label.tensor_content, np.int64) if label.tensor_content else np.array(label.int64_val)


class PlainGrpc:
    """The same call by grpcio alone, for where TensorFlow is not installed."""

    protocol = "TF Serving gRPC"
    library = "grpcio"

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def predict(self, endpoints: Endpoints, model: str, images: Images) -> Answer:
        """Asks a model for the digits on images."""
        if endpoints.grpc not in self._channels:
            self._channels[endpoints.grpc] = grpc.aio.insecure_channel(endpoints.grpc)
        call = self._channels[endpoints.grpc].unary_unary(
            PREDICT,
            request_serializer=tfs_pb2.PredictRequest.SerializeToString,
            response_deserializer=tfs_pb2.PredictResponse.FromString,
        )
        try:
            reply = await call(predict_request(model, images), timeout=30)
        except grpc.aio.AioRpcError as error:
            raise ClientError(f"gRPC status {error.code().name}: {error.details()}") from error
        return Answer(labels_of(reply), reply.SerializeToString(deterministic=True))

    async def close(self) -> None:
        """Closes its connections."""
        for channel in self._channels.values():
            await channel.close()


def tf_serving_grpc() -> Client:
    """TensorFlow's own client where it is set up, otherwise plain grpcio."""
    return TensorFlowGrpc() if tf_client.missing() is None else PlainGrpc()
