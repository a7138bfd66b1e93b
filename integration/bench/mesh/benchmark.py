"""`make bench NAME=mesh`: what tbms costs in a mesh, against the same sidecars without it.

A client's sidecar, mTLS, a node's sidecar, and an Envoy that answers by itself in place of the model server: once
patched, with a tbms server beside each sidecar, and once as Kuma made them. The maps of known calls are on, the edge's
and the node's, so that neither server is asked about a call. Rounds alternate between the two pairs.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from integration.bench.cpu import cpu_seconds
from integration.bench.routing.benchmark import Pair, Round, framed_predict
from integration.bench.routing.h2load import LoadError, Request, h2load
from integration.kuma.decided import decided
from integration.kuma.servers import MeshServers
from integration.kuma.sidecars import Behind, Mesh, node_places
from integration.peers.answerer import answerer
from integration.stack import models
from integration.stack.ports import free_ports

_SAMPLE = "2.14/kri-mtls"
_TENANT, _KIND = "acme", "bayes"
_ROUNDS = 5
_SECONDS = 2.0
_WARM_UP = 400
_PATIENCE = 30.0  # seconds until calls are known at both ends
_BUSY, _ALONE = (8, 8), (1, 1)


@dataclass(frozen=True)
class MeshRound(Round):
    """A round, and what of Envoy's CPU seconds the node's sidecar used."""

    node_cpu: float


@dataclass(frozen=True)
class MeshPair(Pair):
    """The rounds of one case through both pairs of sidecars."""

    direct: Sequence[MeshRound]
    tbms: Sequence[MeshRound]


class Bench:
    """Two pairs of sidecars with one upstream: patched ones with their servers, and bare ones."""

    def __init__(self, servers: MeshServers, patched: Mesh, bare: Mesh) -> None:
        self._servers = servers
        self._patched = patched
        self._bare = bare

    async def compare(self, request: Request, in_flight: tuple[int, int], *, grpc: bool = False) -> MeshPair:
        """Sends the request through both, alternating; each round takes about `_SECONDS`. Raises LoadError."""
        ways = [(mesh, f"http://{mesh.grpc}" if grpc else mesh.rest) for mesh in (self._bare, self._patched)]
        await self._until_known(request, ways[1][1])
        counts = [await self._calibrate(base, request, in_flight) for _, base in ways]
        rounds: tuple[list[MeshRound], list[MeshRound]] = ([], [])
        for _ in range(_ROUNDS):
            for (mesh, base), count, done in zip(ways, counts, rounds, strict=True):
                before = await self._decided()
                done.append(await self._round(mesh, base, request, count, in_flight))
                heard = [now - then for now, then in zip(await self._decided(), before, strict=True)]
                # A call that passes because a server is slow would flatter the result.
                if heard != [0, 0]:
                    raise LoadError(f"Of {count} calls of {request.path} the servers of edge and node heard {heard}.")
        return MeshPair(*rounds)

    async def _until_known(self, request: Request, base: str) -> None:
        # A server that began before its Envoy asks for that every five seconds.
        end = asyncio.get_running_loop().time() + _PATIENCE
        while asyncio.get_running_loop().time() < end:
            before = await self._decided()
            await h2load(base, request, 20, 1, 1)
            if await self._decided() == before:
                return
            await asyncio.sleep(0.1)
        raise LoadError(f"Calls of {request.path} do not become known.")

    async def _calibrate(self, base: str, request: Request, in_flight: tuple[int, int]) -> int:
        warm = await h2load(base, request, _WARM_UP, *in_flight)
        return max(in_flight[0] * in_flight[1], int(warm.rate * _SECONDS))

    async def _round(
        self, mesh: Mesh, base: str, request: Request, count: int, in_flight: tuple[int, int]
    ) -> MeshRound:
        servers = [self._servers.edge.pid, self._servers.node.pid]
        before = [_cpu([mesh.client.pid]), _cpu([mesh.node.pid]), _cpu(servers)]
        load = await h2load(base, request, count, *in_flight)
        now = [_cpu([mesh.client.pid]), _cpu([mesh.node.pid]), _cpu(servers)]
        client, node, server = (after - then for after, then in zip(now, before, strict=True))
        return MeshRound(load, client + node, server, node)

    async def _decided(self) -> list[float]:
        return [await decided(admin) for admin in (self._servers.edge_admin, self._servers.node_admin)]


async def measure() -> dict[str, float]:
    """Runs every case, prints a table, and returns the ratios."""
    model = models.model_name(_TENANT, _KIND)
    shelf = models.repository((_TENANT,), (_KIND,))
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as name:
        folder = Path(name)
        ports = free_ports(9)
        async with answerer(folder) as upstream:
            port = int(upstream.rpartition(":")[2])
            servers = MeshServers(folder, shelf, *node_places(ports), models=frozenset({model}), calls=(port, port))
            patched = Mesh(_SAMPLE, folder / "patched", servers.behind, ports=ports)
            bare = Mesh(_SAMPLE, folder / "bare", Behind(port, port), patched=False)
            async with servers, patched, bare:
                bench = Bench(servers, patched, bare)
                rest, grpc = _requests(folder, model)
                busy = {"rest": await bench.compare(rest, _BUSY)}
                busy["grpc_1k"] = await bench.compare(grpc, _BUSY, grpc=True)
                alone = await bench.compare(rest, _ALONE)
    _print([("rest", 64, busy["rest"]), ("grpc_1k", 64, busy["grpc_1k"]), ("rest", 1, alone)])
    return {
        **{f"sidecars_{case}_throughput": pair.throughput for case, pair in busy.items()},
        "sidecars_rest_added_p50_ms": alone.added(0.5),
        "sidecars_rest_added_p99_ms": alone.added(0.99),
        "sidecars_rest_server_cpu": busy["rest"].server_cpu,
    }


def _requests(folder: Path, model: str) -> tuple[Request, Request]:
    rest, grpc = folder / "rest.json", folder / "grpc"
    rest.write_text('{"instances": [[' + ", ".join(["0.25"] * 64) + "]]}")
    grpc.write_bytes(framed_predict(1 << 10, model))
    called = Request(f"/v1/models/{model}:predict", {"content-type": "application/json"}, rest)
    headers = {"content-type": "application/grpc", "te": "trailers"}
    path = "/tensorflow.serving.PredictionService/Predict"
    return called, replace(called, path=path, headers=headers, body=grpc)


def _cpu(pids: Sequence[int]) -> float:
    return sum(map(cpu_seconds, pids))


def _print(cases: Sequence[tuple[str, int, MeshPair]]) -> None:
    title = f"Two sidecars with mTLS; medians of {_ROUNDS} rounds, alternating; one worker each; CPU in us a call"
    table = Table(title=title, title_justify="left")
    for heading in (
        "case",
        "in flight",
        "way",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "client's Envoy",
        "node's Envoy",
        "servers",
    ):
        table.add_column(heading, justify="left" if heading in ("case", "way") else "right")
    for name, in_flight, pair in cases:
        for way, rounds in (("sidecars", pair.direct), ("with tbms", pair.tbms)):
            figures = (
                f"{statistics.median(each.load.rate for each in rounds):,.0f}",
                f"{statistics.median(each.load.quantile(0.5) for each in rounds):.3f}",
                f"{statistics.median(each.load.quantile(0.99) for each in rounds):.3f}",
                *(f"{1e6 * statistics.median(used):.1f}" for used in zip(*map(_used, rounds), strict=True)),
            )
            table.add_row(name, str(in_flight), way, *figures)
    Console(width=120).print(table)


def _used(each: MeshRound) -> tuple[float, float, float]:
    """CPU seconds a call of the client's Envoy, the node's, and both servers."""
    calls = each.load.requests
    return (each.envoy_cpu - each.node_cpu) / calls, each.node_cpu / calls, each.server_cpu / calls
