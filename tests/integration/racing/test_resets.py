"""Losers of races are reset, and an Envoy closes a connection with too many resets on it: no other call fails of that.

Two Envoys stand in for the sidecars of a mesh, on which nobody has set any limit: that of the edge, and that of a node
which is asked for nothing but backups that lose. Both answer by themselves, after as long as a header says.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from ext_proc.envoy_config.parts.cluster_options import CALLS_A_CONNECTION
from ext_proc.http2 import reset_tally
from ext_proc.http2.aio.connection_pool import ConnectionPool
from ext_proc.upstream.client import Request, Response, Upstream, UpstreamError
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from tests.integration.conftest import need_envoy

pytestmark = pytest.mark.envoy

_TYPES = "type.googleapis.com/envoy.extensions"
AT_THE_EDGE, KEPT, LEFT_ALONE = "/here", "/kept", "/left-alone"
"""Answered by the edge's Envoy; sent on to the node over connections of few calls each; or over one for ever."""


@dataclass
class Sidecars:
    edge: str
    stats: str

    async def closed_by_node(self) -> int:
        """Connections that the edge's Envoy has lost with calls on them."""
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{self.stats}/stats?filter=destroy_remote_with_active_rq$")).text
        return sum(int(line.rpartition(": ")[2]) for line in text.splitlines() if line.startswith("cluster."))


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.36", "1.38", "1.40"])
async def sidecars(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sidecars]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp(f"resets-{request.param}")
    edge, edge_admin, node, node_admin = free_ports(4)
    to_node = [
        {"match": {"prefix": path}, "route": {"cluster": path[1:], "timeout": "0s"}} for path in (KEPT, LEFT_ALONE)
    ]
    clusters = [_cluster(KEPT[1:], node, CALLS_A_CONNECTION), _cluster(LEFT_ALONE[1:], node, None)]
    async with AsyncExitStack() as stack:
        for name, document, admin in (
            ("node", _document(node, node_admin, [_answer("/")], []), node_admin),
            ("edge", _document(edge, edge_admin, [_answer(AT_THE_EDGE), *to_node], clusters), edge_admin),
        ):
            await _start(stack, folder, name, document, request.param, admin)
        yield Sidecars(f"127.0.0.1:{edge}", f"http://127.0.0.1:{edge_admin}")


async def test_races_fail_no_other_call(sidecars: Sidecars) -> None:
    """A thousand races a second, as far as this machine has time for them: each with a loser, which is reset."""
    async with Upstream(sidecars.edge, lambda: 1 << 20) as ours, Upstream(sidecars.edge, lambda: 1 << 20) as clients:
        others = asyncio.create_task(_others(clients, KEPT, steps=25))
        kept = asyncio.create_task(_others(ours, AT_THE_EDGE, steps=25))
        races: list[asyncio.Task[Response]] = []
        for _ in range(120):
            races += [asyncio.create_task(_race(ours, KEPT)) for _ in range(10)]
            await asyncio.sleep(0.01)
        replies = await asyncio.gather(*races) + await others + await kept
    assert [reply.status for reply in replies if not isinstance(reply, Response) or reply.status != 200] == []
    assert await sidecars.closed_by_node() == 0


async def test_a_node_would_close_a_connection_of_losers(sidecars: Sidecars) -> None:
    """So this is what the limit of calls on a connection is for."""
    async with Upstream(sidecars.edge, lambda: 1 << 20) as ours, Upstream(sidecars.edge, lambda: 1 << 20) as clients:
        waiting = asyncio.create_task(clients.call(_request(LEFT_ALONE, 30_000)))
        await _lose(ours, LEFT_ALONE, waiting)
        assert (await waiting).status == 503
    assert await sidecars.closed_by_node() > 0


async def test_the_edge_would_close_ours(sidecars: Sidecars, monkeypatch: pytest.MonkeyPatch) -> None:
    """And this is what a connection of ours is left for."""
    monkeypatch.setattr(reset_tally, "ENVOY_STREAMS", 1 << 30)
    async with ConnectionPool(sidecars.edge) as pool, Upstream(sidecars.edge, lambda: 1 << 20) as ours:
        ours._pool = pool
        waiting = asyncio.create_task(ours.call(_request(AT_THE_EDGE, 30_000)))
        await _lose(ours, AT_THE_EDGE, waiting)
        with pytest.raises(UpstreamError):
            await waiting


async def _others(upstream: Upstream, path: str, steps: int) -> list[Response]:
    """Calls of others, which take long enough for something to befall them: failed ones are replies with status 0."""
    calls: list[asyncio.Task[Response]] = []
    for _ in range(steps):
        calls.append(asyncio.create_task(upstream.call(_request(path, 100))))
        await asyncio.sleep(0.05)
    replies = await asyncio.gather(*calls, return_exceptions=True)
    return [reply if isinstance(reply, Response) else Response(0, (), b"", None) for reply in replies]


async def _lose(upstream: Upstream, path: str, waiting: asyncio.Task[Response]) -> None:
    """Resets until another call has ended of it."""
    async with asyncio.timeout(60):
        while not waiting.done():
            losers = [asyncio.create_task(upstream.call(_request(path, 30_000))) for _ in range(10)]
            await asyncio.sleep(0.01)
            await _reset(losers)


async def _race(upstream: Upstream, losers_path: str) -> Response:
    """The primary answers, and the backup is reset."""
    loser = asyncio.create_task(upstream.call(_request(losers_path, 30_000)))
    reply = await upstream.call(_request(AT_THE_EDGE, 20))
    await _reset([loser])
    return reply


async def _reset(losers: list[asyncio.Task[Response]]) -> None:
    for loser in losers:
        loser.cancel()
    for loser in losers:
        with suppress(asyncio.CancelledError, UpstreamError):
            await loser


def _request(path: str, ms: int) -> Request:
    headers = (("x-envoy-fault-delay-request", b"%d" % ms),)
    return Request(path, "POST", "models", headers, (b"{}",), 60.0, False)


async def _start(
    stack: AsyncExitStack, folder: Path, name: str, document: dict[str, Any], version: str, admin: int
) -> None:
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(document))
    command: list[str | Path] = [envoy_binary(version), "--config-path", config, "--concurrency", "1"]
    process = Process(name, [*command, "--disable-hot-restart", "--log-level", "error"], folder / f"{name}.log")
    stack.push_async_callback(process.stop)
    await process.start(answers(f"http://127.0.0.1:{admin}/ready"))


def _document(port: int, admin: int, routes: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> dict[str, Any]:
    fault = {
        "@type": f"{_TYPES}.filters.http.fault.v3.HTTPFault",
        "delay": {"header_delay": {}, "percentage": {"numerator": 100}},
    }
    # Only whoever answers waits: at the edge what goes on to the node is let pass.
    off = {"typed_per_filter_config": {"fault": {"@type": f"{_TYPES}.filters.http.fault.v3.HTTPFault"}}}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "sidecar",
        "codec_type": "AUTO",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [each | off if "route" in each else each for each in routes],
                }
            ]
        },
        "http_filters": [
            {"name": "fault", "typed_config": fault},
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "sidecar", "address": _address(port), "filter_chains": [chain]}
    return {"admin": {"address": _address(admin)}, "static_resources": {"listeners": [listener], "clusters": clusters}}


def _cluster(name: str, port: int, most_calls: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    if most_calls is not None:
        options["common_http_protocol_options"] = {"max_requests_per_connection": most_calls}
    hosts = [{"endpoint": {"address": _address(port)}}]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _answer(prefix: str) -> dict[str, Any]:
    return {"match": {"prefix": prefix}, "direct_response": {"status": 200, "body": {"inline_string": "{}"}}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
