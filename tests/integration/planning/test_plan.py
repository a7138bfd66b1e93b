"""`tbms plan` against the embedded model server over all four protocols, and against a real Triton."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from onnx import ModelProto, TensorProto, checker, helper
from tritonclient.grpc import service_pb2
from typer.testing import CliRunner, Result

from ext_proc.cli.main import app
from ext_proc.cli.plan import command
from ext_proc.errors import TbmsError
from ext_proc.planning.configuration import read_batching
from ext_proc.planning.curve_files import read_curve
from ext_proc.planning.plan import make_plan
from integration.bench.batching.devices import BATCH_SECONDS, MAX_ROWS, write_on_device
from integration.peers.triton import DOUBLING, DOUBLING_CONFIG, Triton, missing, triton, write_model
from integration.stack import models
from integration.stack.embedded import EmbeddedNode, NodeSpec
from tests.integration import calls

RUN = CliRunner()
ROWS = 5
SIMULATED = 300
PROTOCOLS = ("v2-grpc", "v2-rest", "tfs-grpc", "tfs-rest")


def scaled() -> ModelProto:
    """Each image divided by the brightest pixel of the whole batch: a row's answer is its company's."""
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        helper.make_node("Div", ["image", "brightest"], ["share"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64])
    share = helper.make_tensor_value_info("share", TensorProto.FLOAT, ["N", 64])
    model = helper.make_model(
        helper.make_graph(nodes, "scaled", [image], [share]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    checker.check_model(model)
    return model


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is simulated than otherwise: what is measured is at stake here."""
    monkeypatch.setattr(command, "make_plan", partial(make_plan, calls=SIMULATED))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def node(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNode]:
    shelf = tmp_path_factory.mktemp("shelf")
    (shelf / "svm").symlink_to(repository / "acme-svm")
    (shelf / "scaled" / "1").mkdir(parents=True)
    (shelf / "scaled" / "1" / "model.onnx").write_bytes(scaled().SerializeToString())
    running = EmbeddedNode(NodeSpec("planned"), shelf, tmp_path_factory.mktemp("node"))
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def plan(node: EmbeddedNode, tmp_path: Path) -> Callable[..., Result]:
    """Runs the command for a protocol and a model, on requests of real images that are not equally bright."""
    images = models.digits()[1].images[:ROWS] * np.linspace(0.5, 1.5, ROWS, dtype=np.float32)[:, None]
    bodies = {
        "v2-grpc": calls.v2_grpc("any", images).message,
        "tfs-grpc": calls.tfs_grpc("any", images).message,
        "v2-rest": calls.v2_rest("any", images).body,
        "tfs-rest": calls.tfs_rest("any", images).body,
    }

    def run(api: str, model: str, *arguments: str) -> Result:
        file = tmp_path / api
        body = bodies[api]
        assert body is not None
        file.write_bytes(body)
        server = node.grpc if "grpc" in api else node.rest
        return asked(server, api, model, file, *arguments)

    return run


def asked(server: str, api: str, model: str, file: Path, *arguments: str) -> Result:
    target = ["--model", model, "--server", server, "--api", api, "--request", str(file)]
    return RUN.invoke(app, ["plan", *target, *arguments])


@pytest.mark.parametrize("api", PROTOCOLS)
def test_a_model_that_does_not_mind_company(plan: Callable[..., Result], api: str) -> None:
    result = plan(api, "svm", "--check-batching", "--max-rows", "8", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["verdict"], found["distinct_rows"], found["compared"]) == ("same", ROWS, ROWS * (2 + 3 + 4 + 7 + 8))
    assert {each["output"]: each["different"] for each in found["outputs"]} == {"label": 0, "probabilities": 0}


@pytest.mark.parametrize("api", PROTOCOLS)
def test_a_model_that_scales_by_the_whole_batch(plan: Callable[..., Result], api: str) -> None:
    result = plan(api, "scaled", "--check-batching", "--max-rows", "8", "--json")
    assert result.exit_code == 3, result.output
    (share,) = json.loads(result.output)["outputs"]
    assert share["output"] == ("predictions" if api == "tfs-rest" else "share"), "TF Serving's name for the only one"
    assert share["different"] > 0
    assert 0.01 < share["absolute"] <= 1
    assert (share["ulps"] is None) == (api == "tfs-rest"), "its JSON does not tell the type"
    told = plan(api, "scaled", "--check-batching", "--max-rows", "2")
    assert told.exit_code == 3
    assert "exact: true" in told.output


@pytest.mark.parametrize("api", PROTOCOLS)
def test_batches_are_timed_and_planned(plan: Callable[..., Result], api: str, tmp_path: Path) -> None:
    saved, written = tmp_path / "curve.csv", tmp_path / "batching.yaml"
    files = ["--save-curve", str(saved), "--write", str(written)]
    result = plan(api, "svm", "--max-rows", "6", "--repeats", "3", *files, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert [(each["rows"], each["repeats"]) for each in told["curve"]] == [(1, 3), (2, 3), (4, 3), (6, 3)]
    assert read_batching(written.read_text()).models["svm"].max_rows == told["max_rows"] in (1, 2, 4, 6)
    curve = read_curve(saved.read_text(), "saved")
    assert [point.seconds for point in curve.points] == pytest.approx(
        [each["seconds"] for each in told["curve"]], rel=1e-4
    )


def test_a_model_that_is_not_there(plan: Callable[..., Result]) -> None:
    for api in ("v2-grpc", "v2-rest"):
        error = plan(api, "scaler", "--max-rows", "4").exception
        assert isinstance(error, TbmsError)
        assert str(error).endswith("--model: did you mean scaled?")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def a_triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Triton]:
    if reason := missing():
        pytest.skip(reason)
    shelf = tmp_path_factory.mktemp("triton")
    write_on_device(shelf, "sleeper", shelf / "device", gathers=False)
    unsteady = DOUBLING.replace("tensor * 2", "tensor * numpy.random.rand()").replace(
        "import ", "import numpy\nimport ", 1
    )
    write_model(shelf, "unsteady", DOUBLING_CONFIG, unsteady)
    async with triton(shelf, load=["sleeper", "unsteady"]) as running:
        yield running


def request_of(columns: int, rows: int, file: Path) -> Path:
    request = service_pb2.ModelInferRequest(model_name="any")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, columns])
    request.raw_input_contents.append(np.arange(rows * columns, dtype=np.float32).tobytes())
    file.write_bytes(request.SerializeToString())
    return file


async def aside(server: str, api: str, model: str, file: Path, *arguments: str) -> Result:
    """As `asked`, while this event loop goes on: it looks after the Triton."""
    return await asyncio.to_thread(asked, server, api, model, file, *arguments)


@pytest.mark.triton
async def test_a_device_whose_batches_cost_the_same(a_triton: Triton, tmp_path: Path) -> None:
    file = request_of(4, 2, tmp_path / "request")
    sleeper = [a_triton.grpc, "v2-grpc", "sleeper", file]
    result = await aside(*sleeper, "--max-rows", str(MAX_ROWS), "--repeats", "3", "--json")  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert [each["rows"] for each in told["curve"]] == [1, 2, 4, 8, 10]
    assert all(each["seconds"] >= BATCH_SECONDS for each in told["curve"])
    assert told["capacity"] <= told["max_rows"] / BATCH_SECONDS
    same = await aside(*sleeper, "--check-batching", "--max-rows", str(MAX_ROWS), "--json")  # type: ignore[arg-type]
    assert (same.exit_code, json.loads(same.output)["verdict"]) == (0, "same")
    error = (await aside(*sleeper, "--max-rows", str(MAX_ROWS + 1), "--repeats", "1")).exception  # type: ignore[arg-type]
    assert isinstance(error, TbmsError)
    assert str(error).endswith(f"That was a batch of {MAX_ROWS + 1} rows; --max-rows bounds them.")


@pytest.mark.triton
async def test_a_model_that_is_unsteady_and_a_single_row(a_triton: Triton, tmp_path: Path) -> None:
    file = request_of(2, 2, tmp_path / "two")
    unsteady = await aside(a_triton.grpc, "v2-grpc", "unsteady", file, "--check-batching", "--max-rows", "4")
    assert unsteady.exit_code == 4, unsteady.output
    assert "Different when asked alone twice: y" in unsteady.output
    one = request_of(4, 1, tmp_path / "one")
    alone = await aside(a_triton.grpc, "v2-grpc", "sleeper", one, "--check-batching", "--max-rows", "2")
    assert alone.exit_code == 5, alone.output
