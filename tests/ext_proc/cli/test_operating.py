"""The commands that ask running processes, against a real server of each role: its admin port, and no Envoy."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ext_proc.admin.server import Admin
from ext_proc.cli.exits import Exit, UnknownName, status_of
from ext_proc.cli.main import app
from ext_proc.errors import AwayError, TbmsError
from ext_proc.node import role
from ext_proc.process.app import App
from ext_proc.wire.framing import frame
from mesh.protos import tfs_pb2
from tests.ext_proc.admin.test_documents import EDGE, NODE
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore

RUN = CliRunner()


@contextmanager
def serving(folder: Path, name: str, text: str) -> Iterator[str]:
    """The admin port of a process with that configuration, on a loop of its own: commands have theirs."""
    path = folder / f"{name}.yaml"
    admin = f"unix:{folder}/{name}.sock"
    path.write_text(f"server: {{admin: '{admin}', listen: 'unix:{folder}/{name}.ext_proc'}}\n{text}")
    ready, over = threading.Event(), threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        process = App(path)
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        async with process._role.running():
            port = Admin(admin, lambda: True, process._exposition, process._status, process._role.routes())
            await port.start()
            ready.set()
            await done.wait()
            await port.stop()
        over.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield admin
    finally:
        for loop, done in stop:
            loop.call_soon_threadsafe(done.set)
        thread.join(30)
        assert over.is_set()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Nobody is there: no probe is to find it out meanwhile.
    models = (
        "probe: {interval: 60, failures: 10}\n"
        "models: {prod: {alias: bert}, raced: {alias: bert, limit_ms: 50, backups: [bert;est=5]}}"
    )
    with serving(tmp_path_factory.mktemp("edge"), "edge", f"{EDGE}\n{models}") as admin:
        yield admin


def tbms(*arguments: str) -> Result:
    return RUN.invoke(app, list(arguments))


def document(*arguments: str) -> Any:
    result = tbms(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_status_of_an_edge(edge: str) -> None:
    result = tbms("status", "--admin", edge)
    assert result.exit_code == 0, result.output
    assert f"edge {edge}: up for 0 s" in result.stdout
    assert "ways: known 0" in result.stdout
    assert "models held: 1" in result.stdout
    told = document("status", "--admin", edge)
    assert told[edge]["role"] == "edge"
    assert set(told[edge]["ways"]) == {"known", "known_share", "asked"}


def test_nodes_of_an_edge(edge: str) -> None:
    rows = {row["node"]: row for row in document("nodes", "--admin", edge)}
    assert (rows["a"]["models"], rows["a"]["seen_by"]) == (1, edge)
    assert rows["b"]["zone"] == "here"
    assert [row["node"] for row in document("nodes", "b", "--admin", edge)] == ["b"]
    assert tbms("nodes", "--admin", edge).stdout.startswith("node")


def test_models_of_an_edge(edge: str) -> None:
    assert [(row["model"], row["nodes"]) for row in document("models", "--admin", edge)] == [("bert", ["a"])]


def test_explain_at_an_edge(edge: str, tmp_path: Path) -> None:
    told = document("explain", "/v1/models/prod:predict", "--admin", edge)
    assert (told["way"], told["ground"], told["goes_to"]) == ("decided", "renamed", "bert")
    shown = tbms("explain", "/v1/models/raced:predict", "-H", "tloc: 40", "--admin", edge).stdout
    assert "way: raced (headers)" in shown
    assert "race: limit 40 ms, answer best" in shown
    assert "1: starts at 33 ms: bert on b, expected 5 ms" in shown
    grpc = document("explain", "Predict", "--model", "prod/versions/3", "--admin", edge)
    assert (grpc["call"]["protocol"], grpc["goes_to"]) == ("tfs-grpc", "bert;version=3")
    named = document("explain", "ModelInfer", "-H", "X-Tbms-Model: bert", "--admin", edge)
    assert (named["call"]["protocol"], named["way"]) == ("v2-grpc", "decided")
    asked = document("explain", "getmodelstatus", "--model", "bert", "--admin", edge)
    assert (asked["call"]["verb"], asked["ground"]) == ("status", "more")
    early = document("explain", "Predict", "--model", "raced", "--envoy-version", "v1.36.4", "--admin", edge)
    assert early["ground"] == "unbrokered"
    refused = tbms("explain", "/v1/models/bert:predict", "--header", "tloc: soon", "--admin", edge)
    assert (refused.exit_code, "way: refused" in refused.stdout, "answer: 400" in refused.stdout) == (0, True, True)
    file = tmp_path / "call"
    file.write_bytes(b"POST /v1/models/bert:predict HTTP/1.1\r\nHost: x\r\nTloc: 40\r\n\r\n{}")
    assert document("explain", "--request", str(file), "--admin", edge)["ground"] == "headers"
    typo = tbms("explain", "/v1/models/brt:predict", "--admin", edge).stdout
    assert "No node is known to hold brt. Did you mean 'bert'?" in typo


def test_a_recorded_grpc_call_is_named_by_its_message(edge: str, tmp_path: Path) -> None:
    request = tfs_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version.value = "bert", 7
    head = b"POST /tensorflow.serving.PredictionService/Predict HTTP/2\ncontent-type: application/grpc\n\n"
    file = tmp_path / "call"
    file.write_bytes(head + frame(request.SerializeToString()))
    told = document("explain", "--request", str(file), "--admin", edge)
    assert (told["call"]["model"], told["call"]["version"]) == ("bert", "7")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Say which call"),
        (["predct"], r"neither a path.* Did you mean 'Predict'"),
        (["GetModelStatus"], "say which one with --model"),
        (["inference.GRPCInferenceService/ModelInfer"], "^/inference.GRPCInferenceService/ModelInfer: .* with --model"),
        (["/v1/models/bert:predict", "--envoy-version", "9"], "Envoy version '9' is not supported"),
        (["Predict"], "say which one with --model"),
        (["Predict", "--model", "a/b"], "--model: 'a/b' is not MODEL"),
        (["/v1", "-H", "tloc"], "--header: 'name: value' was expected"),
        (["--request", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_a_call_that_says_too_little_is_told_what_is_missing(arguments: list[str], says: str) -> None:
    with pytest.raises(TbmsError, match=says):
        RUN.invoke(app, ["explain", *arguments, "--admin", "127.0.0.1:1"], catch_exceptions=False)


def test_top_shows_rates_between_two_looks(edge: str) -> None:
    (look,) = document("top", "--admin", edge, "--interval", "0.1", "--count", "1")
    assert (look["role"], look["rates"]) == ("edge", {})
    assert {row["node"] for row in look["nodes"]} == {"a", "b"}
    assert "process" in tbms("top", "--admin", edge, "--interval", "0.1", "--count", "1").stdout


def test_who_does_not_answer_hides_nobody_who_does(edge: str) -> None:
    asked = ["--admin", edge, "--admin", "127.0.0.1:1"]
    for command, shows in (("status", "models held: 1"), ("models", "bert"), ("nodes", "alive")):
        result = tbms(command, *asked)
        assert shows in result.stdout
        assert isinstance(result.exception, AwayError)
        assert "http://127.0.0.1:1: cannot be asked" in str(result.exception)
    assert list(json.loads(tbms("status", *asked, "--json").stdout)) == [edge]
    for command in ("models", "nodes"):
        assert isinstance(tbms(command, "nobody", *asked).exception, AwayError), "it may be there, who knows"
    here, away = document("top", *asked, "--interval", "0.1", "--count", "1")
    assert (here["rates"], here["away"], away["rates"]) == ({}, "", None)
    assert "cannot be asked" in away["away"]
    assert isinstance(tbms("top", "--admin", "127.0.0.1:1", "--count", "1").exception, AwayError)


def test_the_version_is_told() -> None:
    assert tbms("--version").stdout == f"tbms {version('tbms')}\n"


def test_unknown_names_and_silent_ports_have_a_status_of_their_own(edge: str) -> None:
    for arguments, status in (
        (["nodes", "c", "--admin", edge], Exit.UNKNOWN_NAME),
        (["models", "brt", "--admin", edge], Exit.UNKNOWN_NAME),
        (["status", "--admin", "127.0.0.1:1"], Exit.AWAY),
        (["load", "bert", "--admin", edge], Exit.FAILED),
        (["status", "--admin", "ftp://x"], Exit.FAILED),
    ):
        error = tbms(*arguments).exception
        assert isinstance(error, Exception)
        assert status_of(error) is status, arguments
    assert tbms("status", "--nonsense").exit_code == Exit.USAGE
    wrong = tbms("nods")
    assert (wrong.exit_code, "Did you mean 'nodes'" in wrong.output) == (Exit.USAGE, True)


def test_a_node_tells_residency_and_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, loader = MemoryStore(), MemoryServer()
    store.put("resnet")

    class Opened:
        async def __aenter__(self) -> MemoryServer:
            return loader

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(role, "open_loader", lambda cache: Opened())
    monkeypatch.setattr(role, "open_store", lambda settings: store)
    with ExitStack() as stack:
        text = NODE.replace("/var/lib/tbms", str(tmp_path / "cache"))
        node = stack.enter_context(serving(tmp_path, "node", text))
        cold = document("explain", "/v1/models/resnet:predict", "--admin", node)
        assert (cold["role"], cold["way"], cold["resident"], cold["versions"]) == ("node", "held", False, [])
        assert tbms("load", "resnet", "--admin", node).stdout == "resnet version 1: load done.\n"
        warm = document("explain", "/v1/models/resnet:predict", "--admin", node)
        assert (warm["way"], warm["resident"], warm["residency"], warm["load_seconds"]) == (
            "resident", True, "available", 0.0,
        )  # fmt: skip
        assert [(each["version"], each["in_flight"]) for each in warm["versions"]] == [(1, 0)]
        shown = tbms("explain", "/v1/models/resnet:predict", "--admin", node).stdout
        assert "version 1: available, 0 leases, 0 calls wait" in shown
        assert document("explain", "/v1/models/resnet", "--method", "GET", "--admin", node)["way"] == "passed"
        assert "model server: ok" in tbms("status", "--admin", node).stdout
        for command, name, says in (
            ("load", "resnt", "No store has a model 'resnt'. Did you mean 'resnet'?"),
            ("unload", "resnt", "Model 'resnt' is not loaded on this node. Did you mean 'resnet'?"),
            ("unpin", "resnt", "Model 'resnt' is neither pinned nor loaded on this node. Did you mean 'resnet'?"),
        ):
            error = tbms(command, name, "--admin", node).exception
            assert isinstance(error, UnknownName)
            assert str(error) == says
        assert [tbms(command, "resnet", "--admin", node).exit_code for command in ("pin", "unpin", "unpin")] == [0] * 3
        (row,) = document("nodes", "--admin", node)
        assert (row["seen_by"], row["state"], row["models"]) == ("itself", "alive", 1)


def test_a_configuration_file_names_the_port(edge: str) -> None:
    path = edge.removeprefix("unix:").removesuffix(".sock") + ".yaml"
    assert list(document("status", "-c", path)) == [edge]
    assert document("check", "-c", path) == {
        "config": path, "ok": True, "role": "edge", "admin": edge,
        "known_file": path.removesuffix(".yaml") + ".ext_proc.known.pb", "known_off": None,
    }  # fmt: skip
    assert tbms("check", "-c", path).stdout == f"{path}: ok\n"


def test_a_configuration_without_known_calls_says_why(tmp_path: Path) -> None:
    path = tmp_path / "tbms.yaml"
    path.write_text("known: {enabled: false}")
    assert tbms("check", "-c", str(path)).stdout == f"{path}: ok\nNo known calls: known.enabled is off.\n"
    told = document("check", "-c", str(path))
    assert (told["known_file"], told["known_off"]) == (None, "known.enabled is off")


def test_what_is_wrong_with_a_file_is_a_document_too(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("nodes: 3")
    result = tbms("check", "-c", str(path), "--json")
    assert result.exit_code == Exit.FAILED
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert "nodes" in told["errors"][0]


def test_a_bootstrap_is_json_if_asked_for(edge: str) -> None:
    path = edge.removeprefix("unix:").removesuffix(".sock") + ".yaml"
    assert "static_resources" in document("envoy-config", "-c", path)


def test_shells_complete_the_commands() -> None:
    told = RUN.invoke(
        app, [], prog_name="tbms", env={"_TBMS_COMPLETE": "complete_bash", "COMP_WORDS": "tbms expl", "COMP_CWORD": "1"}
    )
    assert "explain" in told.output
