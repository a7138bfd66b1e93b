"""An image in a string tensor goes through all four APIs byte by byte."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tritonclient.grpc import service_pb2 as v2
from tritonclient.grpc import service_pb2_grpc

from mesh.protos import tfs_pb2 as tfs
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running

IMAGE = b"\xff\xd8\xff\xe0\0\x10JFIF\0"  # how a JPEG begins
OTHER = IMAGE + b"\xff"
V2, V1 = "/v2/models/m/infer", "/v1/models/m:predict"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    graphs.labels(tmp_path / "m" / "1", [b"another", IMAGE])
    async with running(tmp_path) as made:
        yield made


async def post(server: Running, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    url = f"http://{server.rest}{path}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as reply:
        return reply.status, json.loads(await reply.read())


def b64(*images: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}).encode()


def raw(*images: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def binary(*images: bytes) -> tuple[bytes, dict[str, str]]:
    data = raw(*images)
    declared = {
        "name": "x",
        "shape": [len(images)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [declared]}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


async def test_over_rest(server: Running) -> None:
    assert await post(server, V1, b64(IMAGE)) == (200, {"predictions": [1]})
    body, headers = binary(IMAGE)
    status, reply = await post(server, V2, body, **headers)
    assert (status, reply["outputs"][0]["data"]) == (200, [1])


async def test_over_grpc(server: Running) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="m"))
        request.inputs["x"].dtype = tfs.DT_STRING
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].string_val.append(IMAGE)
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=tfs.PredictRequest.SerializeToString,
            response_deserializer=tfs.PredictResponse.FromString,
        )
        assert list((await predict(request)).outputs["y"].int64_val) == [1]
        infer = v2.ModelInferRequest(model_name="m", raw_input_contents=[raw(IMAGE)])
        infer.inputs.add(name="x", datatype="BYTES", shape=[1])
        reply = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer)
        assert list(reply.raw_output_contents) == [struct.pack("<q", 1)]


async def test_images_of_several_lengths_in_one_call_are_refused_by_the_name_of_the_input(server: Running) -> None:
    for path, (body, headers) in ((V1, (b64(IMAGE, OTHER), {})), (V2, binary(IMAGE, OTHER))):
        status, reply = await post(server, path, body, **headers)
        assert status == 400
        assert "input 'x' holds strings that are not UTF-8 and not of one length" in reply["error"]
