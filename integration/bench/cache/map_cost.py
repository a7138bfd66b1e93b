"""What the router and its cache map cost: `python -m integration.bench.cache.map_cost NODES MODELS`.

In a process of its own, so that nothing else is in its memory. A look-up is `Router.pick` without a lease: what the
edge does for a plain call, whose end it does not see.
"""

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from integration.bench.cache.trace import MIB, zipf
from integration.stack.process import output_of
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

NEWS_EVERY = 100
"""Look-ups from one change of a model on a node to the next."""
_ROUNDS = 5
_RATE = 10_000.0
_SEED = 7


@dataclass(frozen=True)
class MapCost:
    """MiB that a server grows by, and look-ups a second (medians of rounds) in three cases.

    `usual_mib`: every model on as many nodes as it has replicas, every model looked up. `full_mib`: every model on
    every node. `first`: no model asked for before. `steady`: Zipf 1.1, all of them known. `news`: the same while
    residency changes.
    """

    usual_mib: float
    full_mib: float
    first: float
    steady: float
    news: float


def measure(nodes: int, models: int, lookups: int = 40_000) -> MapCost:
    """Builds, fills and asks: `lookups` in each round."""
    names = [f"tenant-{number % 97:02d}-model-{number:05d}" for number in range(models)]
    trace = [names[number] for number in zipf(1.1, models, lookups, _RATE, _SEED).models]
    population = [Node(f"node-{n:03d}", grpc=f"10.0.{n}.1:8500", rest=f"10.0.{n}.1:8501") for n in range(nodes)]
    before = _resident_bytes()
    router = Router(RoutingSettings(), CacheMap(), LoadWaits())
    router.update(population)
    held: dict[str, dict[str, Residency]] = {node.id: {} for node in population}
    for model in names:
        for node_id in router.order(model)[: router.settings.replicas]:
            held[node_id][model] = Residency.AVAILABLE
    for node_id, resident in held.items():
        router.cache_map.snapshot(node_id, resident)
    first = _rate(router, names)
    usual = _resident_bytes() - before
    steady = statistics.median([_rate(router, trace) for _ in range(_ROUNDS)])
    news = statistics.median([_rate(router, trace, _news(router, population, names)) for _ in range(_ROUNDS)])
    for node in population:
        router.cache_map.snapshot(node.id, dict.fromkeys(names, Residency.AVAILABLE))
    _rate(router, names)
    full = _resident_bytes() - before
    return MapCost(usual / MIB, full / MIB, first, steady, news)


def _rate(router: Router, models: Sequence[str], news: Callable[[int], None] | None = None) -> float:
    """Look-ups a second."""
    began = time.perf_counter()
    for number, model in enumerate(models):
        if news is not None and number % NEWS_EVERY == 0:
            news(number)
        router.pick(model, number / _RATE, "grpc")
    return len(models) / (time.perf_counter() - began)


def _news(router: Router, nodes: Sequence[Node], names: Sequence[str]) -> Callable[[int], None]:
    """Each time another model of another node is loaded or gone."""

    def change(number: int) -> None:
        node, model = nodes[number // NEWS_EVERY % len(nodes)].id, names[7919 * number % len(names)]
        known = router.cache_map.state(node, model)
        router.cache_map.change(node, model, Residency.ABSENT if known else Residency.AVAILABLE)

    return change


def _resident_bytes() -> int:
    """Of this process, from /proc (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def map_cost(nodes: int, models: int, folder: Path) -> MapCost:
    """The same in a process of its own, with its log in `folder`. Raises ProcessError if that fails."""
    command = [sys.executable, "-m", "integration.bench.cache.map_cost", str(nodes), str(models)]
    return MapCost(**json.loads(await output_of("map", command, folder / "map.log")))


if __name__ == "__main__":
    print(json.dumps(asdict(measure(*map(int, sys.argv[1:])))))
