"""The servers that rows are sent to: the embedded one and a real Triton with equal models, each behind two edges.

At one edge every call asks its server; at the other Envoy knows the models, and sends plain calls by itself.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import onnx
from tritonclient.grpc import service_pb2 as pb

from integration.peers.triton import triton, write_model
from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from tests.integration.calls import V2_INFER
from tests.integration.known.asked import until_map
from tests.integration.parity.callers import Caller, caller
from tests.integration.parity.row import Place
from tests.integration.raw import channel, rest_client, unary
from tests.mesh.model_server import graphs

_CODE = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        replies = []
        for request in requests:
            {names} = [pb.get_input_tensor_by_name(request, name).as_numpy() for name in {names_of}]
            replies.append(pb.InferenceResponse([pb.Tensor(name, value) for name, value in {results}]))
        return replies
"""
_CONFIG = """
backend: "python"
input [{inputs}]
output [{outputs}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""
# y = 2 * x, FP32 of [-1, 2]. Of these two one is loaded and unloaded by gRPC calls, the other by REST calls.
DOUBLES = ("double", "cold", "spare")
# model -> (input, output, Triton's type, ONNX's type), all of [-1]
ECHOES = {
    "text": ("s", "t", "TYPE_STRING", onnx.TensorProto.STRING),
    "picture": ("image_bytes", "same_bytes", "TYPE_STRING", onnx.TensorProto.STRING),
    "half": ("h", "k", "TYPE_FP16", onnx.TensorProto.FLOAT16),
    "wide": ("w", "v", "TYPE_FP64", onnx.TensorProto.DOUBLE),
    "long": ("n", "m", "TYPE_INT64", onnx.TensorProto.INT64),
    "tiny": ("i", "j", "TYPE_INT8", onnx.TensorProto.INT8),
    "byte": ("i", "j", "TYPE_UINT8", onnx.TensorProto.UINT8),
    "flag": ("i", "j", "TYPE_BOOL", onnx.TensorProto.BOOL),
}
_FORMS = ("/v2/models/{}/infer", "/v1/models/{}:predict", "/v1/models/{}:classify", "/v1/models/{}:regress")
LOADED = ("double", *ECHOES, "two", "failing")


def _tensors(names: tuple[str, ...], kind: str, dims: str) -> str:
    return ", ".join(f'{{ name: "{name}" data_type: {kind} dims: {dims} }}' for name in names)


def _write(folder: Path, model: str, inputs: tuple[str, ...], outputs: Mapping[str, str], kind: str, dims: str) -> None:
    """A model for Triton's Python backend; `outputs`: name -> expression of the inputs."""
    results = "[" + ", ".join(f"({name!r}, {value})" for name, value in outputs.items()) + "]"
    code = _CODE.format(names=", ".join(inputs) + ",", names_of=list(inputs), results=results)
    config = _CONFIG.format(inputs=_tensors(inputs, kind, dims), outputs=_tensors(tuple(outputs), kind, dims))
    write_model(folder, model, config, code)


def write_triton(folder: Path) -> None:
    for name in DOUBLES:
        _write(folder, name, ("x",), {"y": "x * 2"}, "TYPE_FP32", "[ -1, 2 ]")
    for name, (given, result, kind, _) in ECHOES.items():
        _write(folder, name, (given,), {result: given}, kind, "[ -1 ]")
    _write(folder, "failing", ("x",), {"y": "x.reshape(2, 2)"}, "TYPE_FP32", "[ -1 ]")
    _write(folder, "two", ("a", "b"), {"sum": "a + b", "difference": "a - b"}, "TYPE_FP32", "[ -1 ]")


def write_ours(folder: Path) -> None:
    for name in DOUBLES:
        graphs.scaling(folder / name / "1")
    for name, (given, result, _, kind) in ECHOES.items():
        graphs.echo(folder / name / "1", kind, name=given, result=result)
    graphs.two(folder / "two" / "1")
    graphs.failing(folder / "failing" / "1")


async def make_known(edge: Sidecar) -> None:
    """Calls each of LOADED in every form, well or not: from then on Envoy knows them."""
    async with rest_client(edge.http) as http, channel(edge.target) as through:
        for model in LOADED:
            for form in _FORMS:
                await http.post(form.format(model), content=b"{}")
            await unary(through, V2_INFER, pb.ModelInferRequest(model_name=model).SerializeToString())
    await until_map(edge, lambda known: known["models"] == len(LOADED) and bool(known["taken"]))


@asynccontextmanager
async def places(folder: Path) -> AsyncIterator[dict[Place, dict[str, Caller]]]:
    """All of them, running, with LOADED loaded. Of each place the callers, by a word; edges have two."""
    write_triton(folder / "triton")
    write_ours(folder / "ours")
    # Strict readiness means that one failed load makes the whole of Triton not ready, which is not copied.
    options = ["--strict-readiness=false"]
    embedded = EmbeddedNode(NodeSpec("ours", models=frozenset(LOADED)), folder / "ours", folder)
    async with AsyncExitStack() as stack:
        real = await stack.enter_async_context(triton(folder / "triton", load=LOADED, options=options))
        stack.push_async_callback(embedded.stop)
        await embedded.start()
        nodes = {
            Place.OURS_BY_EDGE: Node("ours", grpc=embedded.node.grpc, rest=embedded.node.rest),
            Place.TRITON_BY_EDGE: Node("triton", grpc=real.grpc, rest=real.rest),
        }
        addresses = {
            Place.OURS: {"direct": (embedded.node.rest, embedded.node.grpc)},
            Place.TRITON: {"direct": (real.rest, real.grpc)},
        }
        for place, node in nodes.items():
            addresses[place] = {}
            for way, models in (("asked", frozenset[str]()), ("known", frozenset(LOADED))):
                own = folder / f"edge-{node.id}-{way}"
                own.mkdir()
                edge = Sidecar(own, [replace(node, models=models)], sections={"routing": {"replicas": 1}})
                await stack.enter_async_context(edge)
                addresses[place][way] = edge.target, edge.target
                if models:
                    await make_known(edge)
        yield {
            place: {
                way: await stack.enter_async_context(caller(str(rest), str(grpc))) for way, (rest, grpc) in ways.items()
            }
            for place, ways in addresses.items()
        }
