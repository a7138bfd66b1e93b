"""Operators' commands and clients' helpers on a running edge and node: what is explained is what then happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.client import CallHeaders, Mix, Model, TbmsAnswer, read_answer, tbms_mix_try, tbms_try
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.sidecar import TBMS
from integration.stack.stack import Stack
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY
from tests.integration.known.asked import asked, until_known
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import rest_client

pytestmark = pytest.mark.envoy

SECTIONS: dict[str, Any] = {
    "routing": {"replicas": 1, "load_floor": 1e6},
    "models": {"prod": {"alias": "one;version=1"}},
    "broker": {"estimate_window_s": 0.1},
    "envoy": {"server_wait_seconds": 30.0},
}
X = np.array([[1.0, 2.0]], np.float32)


@dataclass
class Scene:
    """An edge before a node with a model cache, and the addresses of their admin ports."""

    stack: Stack[CachedNode]
    http: httpx.AsyncClient

    @property
    def edge(self) -> str:
        return self.stack.edge.admin

    @property
    def node(self) -> str:
        return self.stack.nodes["a"].agent.admin

    async def document(self, *arguments: str) -> Any:
        """What a command prints for programs. It has an event loop of its own, hence the thread."""
        result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    async def explain(self, *arguments: str, admin: str | None = None) -> Any:
        return await self.document("explain", *arguments, "--admin", admin or self.edge)

    async def call(self, path: str, headers: dict[str, str] | None = None) -> tuple[bool, httpx.Headers]:
        """Makes the call: whether its Envoy has asked the server, and the headers of the reply."""
        before = await asked(self.stack.edge)
        reply = await self.http.post(path, content=BODY, headers=headers)
        assert reply.status_code == 200, reply.text
        return await asked(self.stack.edge) > before, reply.headers


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    need_envoy("1.40")
    shelf = tmp_path_factory.mktemp("shelf")
    for name, factor in (("one", 2.0), ("two", 3.0)):
        write_onnx(shelf, name, factor=factor)
    async with Stack(shelf, [CachedSpec("a")], sections=SECTIONS) as stack, rest_client(stack.edge.http) as http:
        running = Scene(stack, http)
        await until(lambda: heard(running))
        yield running


async def heard(scene: Scene) -> bool:
    (node,) = (await scene.stack.edge.status())["nodes"]
    return bool(node["residency"]["heard"])


async def test_what_is_explained_is_what_then_happens(scene: Scene) -> None:
    path, address = "/v2/models/one/infer", scene.stack.nodes["a"].node.rest
    # Nobody holds the model yet.
    told = await scene.explain(path)
    assert (told["way"], told["ground"], told["map"]["absence"]) == ("decided", "unmapped", "not-held")
    (node,) = told["nodes"]
    assert (node["place"], node["state"], node["why"]) == (0, "absent", "does not hold the model; home of the model")
    at_node = await scene.explain(path, admin=scene.node)
    assert (at_node["way"], at_node["resident"]) == ("held", False)
    by_server, headers = await scene.call(path)
    assert (by_server, headers["x-tbms-upstream"]) == (True, address)

    # Loaded, and called: the map has it.
    await until_known(scene.stack.edge, path, BODY)
    told = await scene.explain(path)
    assert (told["way"], told["map"]["absence"], told["map"]["shares"][0]["nodes"]) == ("known", None, [address])
    by_server, headers = await scene.call(path)
    assert (by_server, headers["x-tbms-upstream"]) == (False, address)
    at_node = await scene.explain(path, admin=scene.node)
    assert (at_node["way"], [each["state"] for each in at_node["versions"]]) == ("resident", ["available"])

    # Other ways of the same model.
    for path, headers_sent, way, ground in [
        ("/v2/models/one/versions/1/infer", {}, "decided", "more"),
        ("/v2/models/prod/infer", {}, "decided", "renamed"),
        ("/v2/models/one/infer", {"tbms-session": "s1"}, "decided", "session"),
        ("/v2/models/one/infer", {"tloc": "5000", "backup": "two;est=10"}, "raced", "headers"),
    ]:
        told = await scene.explain(path, *(f"--header={name}: {value}" for name, value in headers_sent.items()))
        assert (told["way"], told["ground"]) == (way, ground), path
        by_server, headers = await scene.call(path, headers_sent)
        assert by_server
        answer = read_answer(headers)
        assert (answer is not None) is (way == "raced")
        if answer is not None:
            (first,) = told["ranks"][0]["candidates"]
            assert (first["model"], first["node"], answer.model, answer.node) == ("one", "a", "one", address)
    refused = await scene.explain("/v2/models/one/infer", "-H", "tloc: soon")
    reply = await scene.http.post("/v2/models/one/infer", content=BODY, headers={"tloc": "soon"})
    assert (refused["way"], refused["refusal"]["http"]) == ("refused", reply.status_code)
    assert refused["refusal"]["message"] in reply.json()["error"]


async def test_status_nodes_and_models_of_both(scene: Scene) -> None:
    await scene.call("/v2/models/two/infer")
    await until_known(scene.stack.edge, "/v2/models/two/infer", BODY)
    both = ["--admin", scene.edge, "--admin", scene.node]
    edge_name = scene.edge.removeprefix("http://")

    async def counted() -> bool:
        ways = (await scene.document("status", *both))[edge_name]["ways"]
        return bool(ways["known"]) and "decided" in ways["asked"]

    await until(counted)  # the log tells of known calls a moment after they have ended
    known = (await scene.document("status", "--admin", scene.edge))[edge_name]["known"]
    assert (known["taken"], known["envoys_version"], known["envoys_models"]) == (
        True,
        known["version"],
        known["models"],
    )
    rows = await scene.document("nodes", *both)
    assert [(row["node"], row["seen_by"], row["state"]) for row in rows] == [
        ("a", edge_name, "alive"),
        ("a", "itself", "alive"),
    ]
    models = {(row["model"], row["version"]): row["nodes"] for row in await scene.document("models", "two", *both)}
    assert models == {("two", "1"): ["a"]}

    # As it is typed, in a process of its own.
    child = await asyncio.create_subprocess_exec(
        TBMS, "status", "-c", scene.stack.edge.config, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    lines = output.decode().splitlines()
    assert (child.returncode, lines[0].split(":")[0]) == (0, f"edge {edge_name.split(':')[0]}")
    assert any(line.startswith("  ways: known ") for line in lines)
    assert any("in force in Envoy" in line for line in lines)


CALL = tbms_try({"one": 500, "two": 10}, tloc=5000)
MIXED = tbms_mix_try(["one", "two"], [Model("one")], how="max", tloc=5000)


def answered(answer: TbmsAnswer | None, call: CallHeaders) -> bool:
    assert answer is not None
    return answer.rank == 0 and answer.model == call.model == "one" and answer.left_ms > 0


async def test_every_client_sends_what_the_helpers_write(scene: Scene) -> None:
    url, target = f"{scene.stack.edge.http}/v2/models/{CALL.model}/infer", scene.stack.edge.target

    def over_requests() -> None:
        with requests.Session() as session:
            session.trust_env = False
            reply = session.post(url, data=BODY, headers=CALL.headers, timeout=30)
        assert reply.json()["outputs"][0]["data"] == [2.0, 4.0]
        assert answered(read_answer(reply.headers), CALL)

    # Triton's clients show no headers of a reply: that their own were heeded is seen by what a mix gives.
    def over_triton_http() -> None:
        tensor = triton_http.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(X)
        with triton_http.InferenceServerClient(target) as client:
            result = client.infer(MIXED.model, [tensor], headers=MIXED.headers)
        assert result.as_numpy("y").tolist() == [[3.0, 6.0]]

    def over_triton_grpc() -> None:
        tensor = triton_grpc.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(X)
        with triton_grpc.InferenceServerClient(target) as client:
            result = client.infer(MIXED.model, [tensor], headers=MIXED.headers)
        assert result.as_numpy("y").tolist() == [[3.0, 6.0]]

    reply = await scene.http.post(url, content=BODY, headers=CALL.headers)
    assert answered(read_answer(reply.headers), CALL)
    mixed = tbms_try([Mix([Model("one", weight=3.0), Model("two")])], tloc=5000, answer="first")
    reply = await scene.http.post(url, content=BODY, headers=mixed.headers)
    assert reply.json()["outputs"][0]["data"] == [2.25, 4.5]
    answer = read_answer(reply.headers)
    assert answer is not None
    assert (answer.mix, [model.name for model in answer.models], answer.partial) == ("avg", ["one", "two"], False)
    for call in (over_requests, over_triton_http, over_triton_grpc):
        await asyncio.to_thread(call)
