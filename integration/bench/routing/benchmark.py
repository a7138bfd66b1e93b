"""`make bench NAME=routing`: what the way through tbms costs, against the same Envoy without it.

One Envoy process with one worker has two listeners to the same upstream, a second Envoy that answers by itself:
one listener asks the server for every call, the other does not. Calls that are known go out on the first without the
server. Rounds alternate between the two, so that a noisy machine disturbs both; a ratio is the median of the rounds'
ratios. The `fleet_*` cases are the whole way, an edge's and a node's Envoy, against two such Envoys without tbms.
"""

import asyncio
import re
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from integration.bench.cpu import cpu_seconds
from integration.bench.routing.fleet import fleet
from integration.bench.routing.h2load import Load, LoadError, Request, h2load
from integration.peers.answerer import answerer
from integration.stack.ports import free_port
from integration.stack.process import Process
from integration.stack.sidecar import Section, Sidecar
from mesh.node import Node
from mesh.protos import tfs_pb2

_MODEL = "bench"
# The node declares this one, so that its calls become known; of the other nobody says that it holds it.
_KNOWN_MODEL = "known"
_ROUNDS = 5
_SECONDS = 2.0
_WARM_UP = 400
_GRPC = {"content-type": "application/grpc", "te": "trailers"}
# A raced call, and what keeps its backup from starting: it may not while the primary still runs.
_RACED = {"content-type": "application/json", "tloc": "60000", "backup": "other"}
_NO_HEDGES = {"hedge_share": 0}
# 64 in flight, over as many connections as a few client processes hold.
_BUSY = (8, 8)
_ALONE = (1, 1)


@dataclass(frozen=True)
class Round:
    """One run of the load generator, and the CPU seconds that Envoy and the server used for it."""

    load: Load
    envoy_cpu: float
    server_cpu: float


@dataclass(frozen=True)
class Pair:
    """The rounds of one case on both ways."""

    direct: Sequence[Round]
    tbms: Sequence[Round]

    @property
    def throughput(self) -> float:
        """Through tbms / direct."""
        return statistics.median(b.load.rate / a.load.rate for a, b in zip(self.direct, self.tbms, strict=True))

    @property
    def server_cpu(self) -> float:
        """CPU of the server for a call / CPU of Envoy for a direct call."""
        return statistics.median(
            (b.server_cpu / b.load.requests) / (a.envoy_cpu / a.load.requests)
            for a, b in zip(self.direct, self.tbms, strict=True)
        )

    def added(self, share: float) -> float:
        """Milliseconds that tbms adds to this quantile of the latency."""
        return statistics.median(
            b.load.quantile(share) - a.load.quantile(share) for a, b in zip(self.direct, self.tbms, strict=True)
        )


class Bench:
    """The two ways to the upstream, and what is sent on them.

    Calls go in at the first of the `sidecars` and through the others; `direct` is a listener past their servers. CPU is
    that of all of them, and of `others`.
    """

    def __init__(self, sidecars: Sequence[Sidecar], direct: str, others: Sequence[Process] = ()) -> None:
        self._sidecars = sidecars
        self._direct = direct
        self._envoys = [*(each.envoy for each in sidecars), *others]
        self._servers = [each.server for each in sidecars]

    async def compare(self, request: Request, in_flight: tuple[int, int], *, known: bool = False) -> Pair:
        """Sends the request on both ways, alternating; each round takes about `_SECONDS`.

        Of calls that are `known` the server hears nothing, of all others everything.
        """
        direct_count = await self._calibrate(self._direct, request, in_flight)
        through = self._sidecars[0].http
        tbms_count = await self._calibrate(through, request, in_flight)
        direct, tbms = [], []
        for _ in range(_ROUNDS):
            direct.append(await self._round(self._direct, request, direct_count, in_flight))
            before = await self._routed()
            tbms.append(await self._round(through, request, tbms_count, in_flight))
            # A call may pass Envoy without the server if that is slow: such a round would measure nothing.
            if await self._routed() - before != (0 if known else tbms_count):
                way = "heard of calls that are known" if known else f"did not route all of {tbms_count} calls"
                raise LoadError(f"The server {way}: {request.path}.")
        return Pair(direct, tbms)

    async def until_known(self, request: Request) -> None:
        """Returns once such calls no longer reach a server."""
        async with asyncio.timeout(30):
            while True:
                before = await self._routed()
                await h2load(self._sidecars[0].http, request, 10, 1, 1)
                if await self._routed() == before:
                    return
                await asyncio.sleep(0.1)

    async def _calibrate(self, base: str, request: Request, in_flight: tuple[int, int]) -> int:
        clients, streams = in_flight
        count = _WARM_UP if request.body is None or request.body.stat().st_size < 1 << 20 else 2 * clients * streams
        warm = await h2load(base, request, count, clients, streams)
        return max(clients * streams, int(warm.rate * _SECONDS))

    async def _round(self, base: str, request: Request, count: int, in_flight: tuple[int, int]) -> Round:
        envoys, servers = _cpu(self._envoys), _cpu(self._servers)
        load = await h2load(base, request, count, *in_flight)
        return Round(load, _cpu(self._envoys) - envoys, _cpu(self._servers) - servers)

    async def _routed(self) -> int:
        return sum([await _decided(each) for each in self._sidecars])


def _cpu(processes: Sequence[Process]) -> float:
    return sum(cpu_seconds(process.pid) for process in processes)


async def _decided(sidecar: Sidecar) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{sidecar.admin}/metrics") as reply:
        text = await reply.text()
    # A raced call is answered by the server. Its candidate is not among these: Envoy routes it without asking.
    decided = r'^tbms_calls_total\{[^}]*outcome="(?:routed|answered|passed)"[^}]*\} ([\d.e+]+)$'
    counts = re.findall(decided, text, re.MULTILINE)
    return int(sum(map(float, counts)))


async def measure() -> dict[str, float]:
    """Runs every case, prints the medians, and returns the ratios."""
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as name:
        folder = Path(name)
        requests = _requests(folder)
        async with answerer(folder) as upstream:
            node = Node("upstream", grpc=upstream, rest=upstream, models=frozenset({_KNOWN_MODEL}))
            direct = f"127.0.0.1:{free_port()}"
            sections: dict[str, Section] = {
                "envoy": {"direct_listen": direct, "egress": f"unix:{folder}/egress.sock"},
                "server": {"log": {"level": "warning"}},
                "broker": _NO_HEDGES,
            }
            async with Sidecar(folder, [node], sections=sections) as edge:
                bench = Bench([edge], f"http://{direct}")
                busy = {case: await bench.compare(request, _BUSY) for case, request in requests.items()}
                alone = {"rest_headers": await bench.compare(requests["rest_headers"], _ALONE)}
                raced = replace(requests["rest_headers"], headers=_RACED)
                busy["raced"] = await bench.compare(raced, _BUSY)
                alone["raced"] = await bench.compare(raced, _ALONE)
                for case, request in _known_requests(folder, requests).items():
                    await bench.until_known(request)
                    busy[case] = await bench.compare(request, _BUSY, known=True)
                    if case == "known_rest":
                        alone[case] = await bench.compare(request, _ALONE, known=True)
        async with fleet(folder, _KNOWN_MODEL) as whole:
            bench = Bench(whole.sidecars, whole.direct, [whole.edge_without.envoy])
            for case, request in _fleet_requests(folder, requests).items():
                await bench.until_known(request)
                busy[case] = await bench.compare(request, _BUSY, known=True)
                if case == "fleet_rest":
                    alone[case] = await bench.compare(request, _ALONE, known=True)
    _print(busy, alone)
    return {
        **{f"{case}_throughput": pair.throughput for case, pair in busy.items()},
        "known_rest_added_p50_ms": alone["known_rest"].added(0.5),
        "fleet_rest_added_p50_ms": alone["fleet_rest"].added(0.5),
        "rest_headers_added_p50_ms": alone["rest_headers"].added(0.5),
        "rest_headers_added_p99_ms": alone["rest_headers"].added(0.99),
        "rest_headers_server_cpu": busy["rest_headers"].server_cpu,
        "raced_server_cpu": busy["raced"].server_cpu,
        "raced_added_p50_ms": alone["raced"].added(0.5),
    }


def _requests(folder: Path) -> dict[str, Request]:
    rest = folder / "rest.json"
    rest.write_text('{"instances": [[' + ", ".join(["0.25"] * 64) + "]]}")
    requests = {"rest_headers": Request(f"/v1/models/{_MODEL}:predict", {"content-type": "application/json"}, rest)}
    for case, size in (("grpc_1k", 1 << 10), ("grpc_4m", 4 << 20)):
        body = folder / case
        body.write_bytes(framed_predict(size))
        requests[case] = Request("/tensorflow.serving.PredictionService/Predict", _GRPC, body)
    return requests


def _known_requests(folder: Path, requests: dict[str, Request]) -> dict[str, Request]:
    """The same calls for the model that is known."""
    known = {"known_rest": replace(requests["rest_headers"], path=f"/v1/models/{_KNOWN_MODEL}:predict")}
    for case, size in (("grpc_1k", 1 << 10), ("grpc_4m", 4 << 20)):
        body = folder / f"known_{case}"
        body.write_bytes(framed_predict(size, _KNOWN_MODEL))
        known[f"known_{case}"] = replace(requests[case], body=body)
    return known


def _fleet_requests(folder: Path, requests: dict[str, Request]) -> dict[str, Request]:
    """Of these calls those that are made to the whole fleet."""
    known = _known_requests(folder, requests)
    return {f"fleet_{case}": known[f"known_{case}"] for case in ("rest", "grpc_1k")}


def framed_predict(size: int, model: str = _MODEL) -> bytes:
    """A Predict call of `size` bytes of tensor, as one gRPC message: flag, length, protobuf."""
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["x"]
    tensor.dtype = tfs_pb2.DT_FLOAT
    tensor.tensor_shape.dim.add(size=size // 4)
    tensor.tensor_content = bytes(size)
    message = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def _print(busy: dict[str, Pair], alone: dict[str, Pair]) -> None:
    table = Table(title=f"Medians of {_ROUNDS} rounds, alternating; one Envoy worker", title_justify="left")
    for heading in (
        "case",
        "in flight",
        "way",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "Envoy CPU us/call",
        "server CPU us/call",
    ):
        table.add_column(heading, justify="left" if heading in ("case", "way") else "right")
    cases = [(name, 64, pair) for name, pair in busy.items()] + [(name, 1, pair) for name, pair in alone.items()]
    for name, in_flight, pair in cases:
        for way, rounds in (("direct", pair.direct), ("tbms", pair.tbms)):
            table.add_row(
                name,
                str(in_flight),
                way,
                f"{statistics.median(r.load.rate for r in rounds):,.0f}",
                f"{statistics.median(r.load.quantile(0.5) for r in rounds):.3f}",
                f"{statistics.median(r.load.quantile(0.99) for r in rounds):.3f}",
                f"{statistics.median(1e6 * r.envoy_cpu / r.load.requests for r in rounds):.1f}",
                f"{statistics.median(1e6 * r.server_cpu / r.load.requests for r in rounds):.1f}",
            )
    Console(width=120).print(table)
