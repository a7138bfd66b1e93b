"""Merged calls get from real servers what they get alone, byte for byte: the embedded server, and a real Triton."""

import itertools
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2 as v2

from ext_proc.wire.batch import Member
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.codecs import batches_of
from ext_proc.wire.v2.across import Crossing, crossing, rest_reply
from ext_proc.wire.v2.rest_outputs import HEADER
from integration.peers.triton import Triton, missing, triton, write_model
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import BY_NUMPY, Array
from mesh.tensors.v2 import to_raw
from tests.integration.batching.asking import Request, ask, call_of, check
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running

V2_GRPC, V2_REST = InferenceProtocol.V2_GRPC, InferenceProtocol.V2_REST
TFS_GRPC, TFS_REST = InferenceProtocol.TFS_GRPC, InferenceProtocol.TFS_REST


def classifier(folder: Path) -> Path:
    """probabilities = softmax(relu(x W) V), float32 of [rows, 8] to [rows, 3]; and best, the greatest's place."""
    dice = np.random.default_rng(7)
    weights = [dice.normal(size=size).astype(np.float32) for size in ((8, 16), (16, 3))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["o"]),
            helper.make_node("Softmax", ["o"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["o"], ["best"], axis=1, keepdims=0),
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["rows"]),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in zip("wv", weights, strict=True)],
    )
    return graphs.save(graph, folder)


def strings(*values: str) -> Array:
    array = np.empty(len(values), object)
    array[:] = [value.encode() for value in values]
    return array


DICE = np.random.default_rng(3)
CALLS: dict[str, list[dict[str, Array]]] = {
    "classifier": [{"x": DICE.normal(size=(rows, 8)).astype(np.float32)} for rows in (1, 3, 2, 1)],
    "double": [{"x": np.array(rows, np.float32)} for rows in ([[1.5, -2]], [[3, 4], [5, np.nan]], [[1e30, 7]])],
    "two": [{"a": np.full(rows, 0.1, np.float32), "b": np.arange(rows, dtype=np.float32)} for rows in (2, 1, 3)],
    "text": [{"s": strings("one", "", "é")}, {"s": strings("x" * 300)}, {"s": strings("two")}],
    "tiny": [{"i": np.array(values, np.int8)} for values in ([-1, 127], [0], [5])],
    "flag": [{"i": np.array(values, np.bool_)} for values in ([True, False], [True], [False])],
    "half": [{"h": np.array(values, np.float16)} for values in ([0.5, 2], [1], [-3])],
}
"""By model: the arrays of the calls that are merged."""


def v2_grpc(model: str, calls: Sequence[dict[str, Array]], typed: bool) -> list[Request]:
    requests = []
    for number, arrays in enumerate(calls):
        made = v2.ModelInferRequest(model_name=model, id=f"call {number}" if number else "")
        for name, array in arrays.items():
            dtype = BY_NUMPY[array.dtype]
            tensor = made.inputs.add(name=name, datatype=dtype.v2, shape=array.shape)
            if typed and dtype.v2_field is not None:
                getattr(tensor.contents, dtype.v2_field).extend(array.ravel().tolist())
            else:
                made.raw_input_contents.append(to_raw(array))
        requests.append(Request(made.SerializeToString()))
    return requests


def v2_rest(model: str, calls: Sequence[dict[str, Array]], binary_in: bool, **asked: Any) -> list[Request]:
    requests = []
    for number, arrays in enumerate(calls):
        said: dict[str, Any] = {"id": f"é {number}"} if number else {}
        said |= {**asked, "inputs": []}
        blobs = []
        for name, array in arrays.items():
            tensor = {"name": name, "shape": list(array.shape), "datatype": BY_NUMPY[array.dtype].v2}
            if binary_in:
                blobs.append(to_raw(array))
                tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                text = array.dtype == object
                tensor["data"] = [each.decode() for each in array.ravel()] if text else array.tolist()
            said["inputs"].append(tensor)
        head = json.dumps(said).encode()
        requests.append(Request(b"".join([head, *blobs]), {HEADER: str(len(head))} if binary_in else {}))
    return requests


def tfs_grpc(model: str, calls: Sequence[dict[str, Array]], content: bool) -> list[Request]:
    requests = []
    for arrays in calls:
        made = tfs.PredictRequest(model_spec={"name": model})
        for name, array in arrays.items():
            tensor = tf_tensors.encode(array)
            if content and array.dtype != object:
                tensor = tfs.TensorProto(
                    dtype=tensor.dtype, tensor_shape=tensor.tensor_shape, tensor_content=array.tobytes()
                )
            made.inputs[name].CopyFrom(tensor)
        requests.append(Request(made.SerializeToString()))
    return requests


def tfs_rest(model: str, calls: Sequence[dict[str, Array]], rows: bool, named: bool) -> list[Request]:
    requests = []
    for arrays in calls:
        columns = {
            name: [each.decode() for each in array] if array.dtype == object else array.tolist()
            for name, array in arrays.items()
        }
        (first, *others) = columns.values()
        if rows and (named or others):
            said: Any = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        else:
            said = columns if named or others else first
        requests.append(Request(json.dumps({"instances" if rows else "inputs": said}).encode()))
    return requests


def forms(models: Iterable[str], half: str) -> list[tuple[str, bool, bool]]:
    """Models with data in and out as JSON or binary; there is no JSON of FP16."""
    every = itertools.product(models, (False, True), (False, True))
    return [(model, given, told) for model, given, told in every if model != half or (given and told)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def embedded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    repository = tmp_path_factory.mktemp("repository")
    classifier(repository / "classifier" / "1")
    graphs.scaling(repository / "double" / "1")
    graphs.two(repository / "two" / "1")
    for name, kind in (("text", "STRING"), ("tiny", "INT8"), ("flag", "BOOL"), ("half", "FLOAT16")):
        given = {"text": "s", "half": "h"}.get(name, "i")
        graphs.echo(repository / name / "1", getattr(TensorProto, kind), name=given, result="y")
    async with running(repository) as made:
        yield made


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("model", CALLS)
async def test_embedded_v2_grpc(embedded: Running, model: str, typed: bool) -> None:
    requests = v2_grpc(model, CALLS[model], typed)
    await check(embedded.grpc, embedded.rest, call_of(V2_GRPC, model), requests)


@pytest.mark.parametrize(("model", "binary_in", "binary_out"), forms(CALLS, "half"))
async def test_embedded_v2_rest(embedded: Running, model: str, binary_in: bool, binary_out: bool) -> None:
    requests = v2_rest(model, CALLS[model], binary_in, parameters={"binary_data_output": binary_out})
    await check(embedded.grpc, embedded.rest, call_of(V2_REST, model), requests)


async def test_embedded_v2_rest_of_both_kinds(embedded: Running) -> None:
    outputs = [{"name": "best"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    requests = v2_rest("classifier", CALLS["classifier"], True, outputs=outputs)
    await check(embedded.grpc, embedded.rest, call_of(V2_REST, "classifier"), requests)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("model", CALLS)
async def test_embedded_tfs_grpc(embedded: Running, model: str, content: bool) -> None:
    requests = tfs_grpc(model, CALLS[model], content)
    await check(embedded.grpc, embedded.rest, call_of(TFS_GRPC, model), requests)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("model", [model for model in CALLS if model != "half"])
async def test_embedded_tfs_rest(embedded: Running, model: str, rows: bool, named: bool) -> None:
    requests = tfs_rest(model, CALLS[model], rows, named)
    await check(embedded.grpc, embedded.rest, call_of(TFS_REST, model), requests)


async def check_across(grpc_target: str, rest_target: str, model: str, calls: Sequence[dict[str, Array]]) -> None:
    """Every call over REST and over gRPC, all in one batch: each gets what it gets alone, headers included."""
    asked = {"parameters": {"binary_data_output": True}}
    over = [(call_of(V2_REST, model), request) for request in v2_rest(model, calls, True, **asked)]
    over += [(call_of(V2_GRPC, model), request) for request in v2_grpc(model, calls, False)]
    codec = batches_of(call_of(V2_GRPC, model))
    found = []
    for call, request in over:
        member = batches_of(call).read(call, request.headers, request.body)
        assert isinstance(member, Member), member
        crossed = crossing(call, member)
        assert isinstance(crossed, Crossing), crossed
        found.append(crossed)
    members = [crossed.member for crossed in found]
    assert len({member.key for member in members}) == 1
    whole = await ask(grpc_target, rest_target, found[0].call, Request(codec.merge(members).body))
    for (call, request), part in zip(over, codec.cut({}, whole.body, members), strict=True):
        alone = await ask(grpc_target, rest_target, call, request)
        if call.protocol is V2_REST:
            part = rest_reply(part.body)
        assert part.body == alone.body
        assert dict(part.headers) == dict(alone.headers)


@pytest.mark.parametrize("model", CALLS)
async def test_embedded_across_protocols(embedded: Running, model: str) -> None:
    await check_across(embedded.grpc, embedded.rest, model, CALLS[model])


ECHO = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb.get_input_tensor_by_name(request, "{name}").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", tensor)]) for tensor in tensors]
"""
CONFIG = """
backend: "python"
max_batch_size: 16
input [{{ name: "{name}" data_type: {kind} dims: {dims} }}]
output [{{ name: "y" data_type: {kind} dims: {dims} }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""
# model -> (input, Triton's type)
ECHOES = {
    "pairs": ("x", "TYPE_FP32"),
    "doubles": ("x", "TYPE_FP64"),
    "longs": ("x", "TYPE_INT64"),
    "texts": ("x", "TYPE_STRING"),
    "flags": ("x", "TYPE_BOOL"),
    "halves": ("x", "TYPE_FP16"),
}


def of_triton(model: str) -> list[dict[str, Array]]:
    if model == "texts":
        return [{"x": strings(*row).reshape(-1, 2)} for row in (["a", "é" * 99], ["", "b", "c", "d"], ["e", "f"])]
    kinds = {"pairs": "<f4", "doubles": "<f8", "longs": "<i8", "flags": "?", "halves": "<f2"}
    dice = np.random.default_rng(5)
    return [{"x": (dice.normal(size=(rows, 2)) * 3).astype(kinds[model])} for rows in (1, 3, 2)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def a_triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Triton]:
    if reason := missing():
        pytest.skip(reason)
    repository = tmp_path_factory.mktemp("triton")
    for model, (name, kind) in ECHOES.items():
        config = CONFIG.format(name=name, kind=kind, dims="[ 2 ]")
        write_model(repository, model, config, ECHO.format(name=name))
    async with triton(repository, load=list(ECHOES)) as made:
        yield made


@pytest.mark.triton
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("model", ECHOES)
async def test_triton_grpc(a_triton: Triton, model: str, typed: bool) -> None:
    requests = v2_grpc(model, of_triton(model), typed)
    await check(a_triton.grpc, a_triton.rest, call_of(V2_GRPC, model), requests)


@pytest.mark.triton
@pytest.mark.parametrize(("model", "binary_in", "binary_out"), forms(ECHOES, "halves"))
async def test_triton_rest(a_triton: Triton, model: str, binary_in: bool, binary_out: bool) -> None:
    requests = v2_rest(model, of_triton(model), binary_in, parameters={"binary_data_output": binary_out})
    await check(a_triton.grpc, a_triton.rest, call_of(V2_REST, model), requests)


@pytest.mark.triton
@pytest.mark.parametrize("model", ECHOES)
async def test_triton_across_protocols(a_triton: Triton, model: str) -> None:
    await check_across(a_triton.grpc, a_triton.rest, model, of_triton(model))
