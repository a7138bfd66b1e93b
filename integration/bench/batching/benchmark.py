"""`make bench NAME=batching`: calls of many clients to models whose batches cost the same whatever is in them.

A real Triton whose models wait for one device, a node (Envoy and server) in front of it, and clients that call it.
A model that the node gathers for stands beside the same model behind Triton's own dynamic batcher, and beside one that
nobody gathers for; all three are called through the same Envoy and server. Rounds alternate, and ratios are medians.
"""

import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from integration.bench.batching.devices import MAX_ROWS, THEORY, write_on_device
from integration.bench.batching.network import Network
from integration.bench.cpu import cpu_seconds
from integration.bench.open_loop import Play, Sample, open_loop
from integration.bench.routing.h2load import Load, Request, h2load
from integration.peers.triton import triton
from integration.stack.cached_node import CachedNode, CachedSpec, Served

_OURS, _TRITONS, _NOBODYS = "gathered", "dynamic", "plain"
# One device that three models share, gathered for in the same way; but of the second three the node is told that going
# from one to another costs nothing, so that whoever has waited is served.
_SCHEDULED, _SERVED = ("s1", "s2", "s3"), ("t1", "t2", "t3")
_ROUNDS = 3
_SECONDS = 4.0
_BUSY = (8, 6)
_OVERLOAD_LIMIT_MS, _SHARED_LIMIT_MS = 200.0, 400.0
_SHARED_RATE = 300.0
_BODY = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1.0,2.0,3.0,4.0]}]}'


async def measure() -> dict[str, float]:
    """Runs every case, prints what was seen, and returns the ratios."""
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as name:
        folder = Path(name)
        network = Network()
        await network.run(folder)
        async with _node(folder) as node:
            return await _Bench(node, folder, network).run()


@asynccontextmanager
async def _node(folder: Path) -> AsyncIterator[CachedNode]:
    shelf, repository = folder / "shelf", folder / "node" / "cache" / "models"
    repository.mkdir(parents=True)
    for name, gathers in ((_OURS, False), (_NOBODYS, False), (_TRITONS, True)):
        write_on_device(shelf, name, folder / f"device-{name}", gathers=gathers)
    for names in (_SCHEDULED, _SERVED):
        for each in names:
            write_on_device(shelf, each, folder / f"device-{names[0]}", gathers=False)
    gathered = {"max_rows": MAX_ROWS, "cross_request": True}
    batching = {
        "models": {
            **dict.fromkeys((_OURS, *_SCHEDULED), gathered),
            **{each: {**gathered, "switch_ms": 0} for each in _SERVED},
        },
        "check_share": 0,
        # Two busy cores are a long way back for an answer (integration/README.md).
        "margin_ms": 10,
    }
    async with triton(repository) as server:
        spec = CachedSpec(
            "node", cache={"capacity": {"models": 20}, "poll_seconds": 2.0}, batching=batching, log="warning"
        )
        async with CachedNode(spec, shelf, folder / "node", Served(server.grpc, server.rest)) as node:
            yield node


class _Bench:
    def __init__(self, node: CachedNode, folder: Path, network: Network) -> None:
        self._network = network
        self._node = node
        self._folder = folder
        self._body = folder / "body.json"
        self._body.write_text(_BODY)

    async def run(self) -> dict[str, float]:
        for model in (_OURS, _TRITONS, _NOBODYS, *_SCHEDULED, *_SERVED):
            await self._closed(model, 20, (1, 1))  # loads it, and teaches its batch time
        ours, tritons, cpu_us = await self._saturated()
        nobodys = await self._closed(_NOBODYS, int(_SECONDS * 50), _BUSY)
        light = await self._light()
        even = await self._open([_OURS], 200.0, 8.0, {})
        overload = await self._open([_OURS], 2 * THEORY, 6.0, {"tloc": f"{_OVERLOAD_LIMIT_MS:g}"})
        shared = {
            names: await self._open(names, _SHARED_RATE, 8.0, {"tloc": f"{_SHARED_LIMIT_MS:g}"})
            for names in (_SCHEDULED, _SERVED)
        }
        mean_lag = statistics.mean(sample.ms for sample in even if sample.answered)
        sent_late = statistics.mean(sample.sent_late_ms for sample in even)
        in_time = _answered(overload, _OVERLOAD_LIMIT_MS)
        scheduled, served = (_answered(shared[names], _SHARED_LIMIT_MS) for names in (_SCHEDULED, _SERVED))
        rates = {name: statistics.median(load.rate for load in loads) for name, loads in (("o", ours), ("t", tritons))}
        _print(
            (
                "saturation, gathered here",
                f"{rates['o']:.0f}/s, p50 {_median(ours, 0.5):.1f}, p99 {_median(ours, 0.99):.1f} ms",
            ),
            (
                "saturation, Triton's batcher",
                f"{rates['t']:.0f}/s, p50 {_median(tritons, 0.5):.1f}, p99 {_median(tritons, 0.99):.1f} ms",
            ),
            ("saturation, nobody gathers", f"{nobodys.rate:.0f}/s, p50 {nobodys.quantile(0.5):.0f} ms"),
            ("theory", f"{THEORY:.0f}/s"),
            ("one call at a time, added p50", f"{light:.2f} ms"),
            ("200 calls/s, evenly: mean lag", f"{mean_lag:.1f} ms (theory 27.5), of which sent late {sent_late:.1f}"),
            (f"twice the capacity, within {_OVERLOAD_LIMIT_MS:g} ms", f"{in_time / 6.0:.0f}/s"),
            (
                f"three models, {_SHARED_RATE:g}/s, within {_SHARED_LIMIT_MS:g} ms",
                f"{scheduled / 8:.0f}/s scheduled, {served / 8:.0f}/s first come first served",
            ),
            ("CPU of the server a call", f"{cpu_us:.0f} us"),
            *(
                (
                    f"an ONNX network, {'gathered' if gathered else 'one by one'}",
                    f"{self._network.rate(gathered):.0f}/s, p99 {self._network.p99_ms(gathered):.0f} ms;"
                    f" alone {self._network.light_ms(gathered):.1f} ms",
                )
                for gathered in (True, False)
            ),
        )
        return {
            "saturation_vs_theory": rates["o"] / THEORY,
            "light_load_added_ms": light,
            "even_200qps_mean_lag_ms": mean_lag,
            "throughput_vs_triton": statistics.median(a.rate / b.rate for a, b in zip(ours, tritons, strict=True)),
            "p99_vs_triton": statistics.median(
                a.quantile(0.99) / b.quantile(0.99) for a, b in zip(ours, tritons, strict=True)
            ),
            "throughput_vs_unbatched": rates["o"] / nobodys.rate,
            "shared_gpu_vs_fcfs": scheduled / max(1, served),
            "overload_goodput_vs_capacity": in_time / (THEORY * 6.0),
            "batcher_cpu_us_per_call": cpu_us,
            **self._network.ratios(),
        }

    async def _saturated(self) -> tuple[list[Load], list[Load], float]:
        """Closed loop, more in flight than batches take: here and at Triton's batcher in turn; CPU (us) of a call."""
        ours, tritons, used = [], [], []
        calls = int(THEORY * _SECONDS)
        for _ in range(_ROUNDS):
            before = cpu_seconds(self._node.agent.server.pid)
            ours.append(await self._closed(_OURS, calls, _BUSY))
            used.append(cpu_seconds(self._node.agent.server.pid) - before)
            tritons.append(await self._closed(_TRITONS, calls, _BUSY))
        return ours, tritons, 1e6 * statistics.median(used) / calls

    async def _light(self) -> float:
        """Milliseconds that gathering adds to the median of a call that is alone."""
        added = []
        for _ in range(_ROUNDS):
            gathered = await self._closed(_OURS, 100, (1, 1))
            plain = await self._closed(_NOBODYS, 100, (1, 1))
            added.append(gathered.quantile(0.5) - plain.quantile(0.5))
        return statistics.median(added)

    async def _closed(self, model: str, calls: int, in_flight: tuple[int, int]) -> Load:
        request = Request(f"/v2/models/{model}/infer", {"content-type": "application/json"}, self._body)
        return await h2load(self._node.agent.http, request, calls, *in_flight)

    async def _open(
        self, models: Sequence[str], rate: float, seconds: float, headers: Mapping[str, str]
    ) -> list[Sample]:
        """Open loop, evenly spaced, the models in turn."""
        calls = [(number / rate, headers) for number in range(int(rate * seconds))]
        paths = [f"/v2/models/{model}/infer" for model in models]
        play = Play(self._node.agent.target, "", 5.0, calls, protocols=("rest",), paths=paths, body=_BODY)
        return await open_loop(play, self._folder)


def _answered(samples: Sequence[Sample], limit_ms: float) -> int:
    return sum(sample.answered and sample.ms <= limit_ms for sample in samples)


def _median(loads: Sequence[Load], share: float) -> float:
    return statistics.median(load.quantile(share) for load in loads)


def _print(*lines: tuple[str, str]) -> None:
    table = Table(title="Batches of up to 10 rows, 20 ms each")
    for column in ("case", "seen"):
        table.add_column(column)
    for line in lines:
        table.add_row(*line)
    Console(width=120).print(table)
