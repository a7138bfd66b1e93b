"""Retries as kuma-policies have them, in a real Envoy: routes without a policy, our virtual host and filters.

One of two nodes dies under each call, or says that another one should be asked.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process
from tests.integration.conftest import need_envoy

POLICIES = Path(__file__).resolve().parents[3] / "kuma-policies/universal"
CALLS = 8
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
JSON, GRPC = "application/json", "application/grpc"


def listener(document: Path, tag: str, port: int) -> dict[str, Any]:
    """An outbound as Kuma leaves it once MeshRetry has said `numRetries: 0`, with what our patch adds about retries."""
    host: dict[str, Any] = {
        "name": "models",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "models", "timeout": "0s"}}],
    }
    filters: list[Any] = []
    for modification in yaml.safe_load(document.read_text())["spec"]["default"]["appendModifications"]:
        ((kind, content),) = modification.items()
        if tag in str(content.get("match")):
            value = yaml.safe_load(content["value"])
            if kind == "virtualHost":
                host |= value
            elif kind == "httpFilter" and value["name"] in ("tbms-repeat-lost", "tbms-retries"):
                filters.append(value)
    filters.append({"name": "router", "typed_config": {"@type": f"type.googleapis.com/{ROUTER}"}})
    manager = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "stat_prefix": "out",
        "route_config": {"name": tag, "virtual_hosts": [host]},
        "http_filters": filters,
    }
    return {
        "name": tag,
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


async def _unwell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A node that dies under a call, or asks for another node."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"x-how: elsewhere" in head:
        writer.write(b"HTTP/1.1 503 Busy\r\nx-tbms-elsewhere: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def _well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nx-well: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=[("2.13", "1.36"), ("2.14", "1.38")])
async def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, int]]:
    """The ports of an Envoy: of REST calls, of gRPC calls, and of a gateway."""
    kuma, version = request.param
    need_envoy(version)
    rest, grpc, gateway, bad, good = free_ports(5)
    edge, gate = (POLICIES / kuma / f"mesh-proxy-patch-{role}.yaml" for role in ("edge", "gateway"))
    endpoints = [{"endpoint": {"address": _address(port)}} for port in (bad, good)]
    bootstrap = {
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {
            "listeners": [
                listener(edge, "models_8501", rest),
                listener(edge, "models_8500", grpc),
                listener(gate, "gateway", gateway),
            ],
            "clusters": [
                {
                    "name": "models",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "models", "endpoints": [{"lb_endpoints": endpoints}]},
                }
            ],
        },
    }
    folder: Path = tmp_path_factory.mktemp("mesh")
    (folder / "envoy.json").write_text(json.dumps(bootstrap))
    command = [envoy_binary(version), "-c", folder / "envoy.json", "--concurrency", "1", "--use-dynamic-base-id"]
    async with AsyncExitStack() as stack:
        for port, answer in ((bad, _unwell), (good, _well)):
            await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", port))
        envoy = Process("envoy", [*command, "--log-level", "warning"], folder / "envoy.log")

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", gateway)
            except OSError:
                return False
            writer.close()
            return True

        await envoy.start(listens)
        stack.push_async_callback(envoy.stop)
        yield {"rest": rest, "grpc": grpc, "gateway": gateway}


async def answered(port: int, path: str, content_type: str, how: str) -> int:
    """How many of the calls the other node has answered."""
    done = 0
    headers = {"content-type": content_type, "x-how": how}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(CALLS):
            async with session.post(f"http://127.0.0.1:{port}{path}") as reply:
                done += "x-well" in reply.headers
    return done


@pytest.mark.parametrize(
    ("where", "path", "content_type"),
    [
        ("rest", "/v1/models/m:predict", JSON),
        ("rest", "/v2/models/m/infer", JSON),
        ("grpc", "/inference.GRPCInferenceService/ModelInfer", GRPC),
        ("gateway", "/v2/models/m/infer", JSON),
        ("gateway", "/tensorflow.serving.PredictionService/Predict", GRPC),
    ],
)
async def test_a_call_that_only_reads_is_asked_at_another_node(
    mesh: dict[str, int], where: str, path: str, content_type: str
) -> None:
    assert await answered(mesh[where], path, content_type, "dies") == CALLS
    assert await answered(mesh[where], path, content_type, "elsewhere") == CALLS


@pytest.mark.parametrize("where", ["grpc", "gateway"])
async def test_a_stream_is_asked_again_only_where_the_node_says_so(mesh: dict[str, int], where: str) -> None:
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    assert await answered(mesh[where], path, GRPC, "elsewhere") == CALLS
    assert await answered(mesh[where], path, GRPC, "dies") < CALLS


async def test_of_rest_calls_that_may_change_something_none_is_asked_twice(mesh: dict[str, int]) -> None:
    assert await answered(mesh["rest"], "/v2/repository/models/m/load", JSON, "dies") < CALLS
