"""`python -m integration.bench NAME`: measures, prints a table, and as its last line JSON."""

import importlib
import json
import sys
from collections.abc import Awaitable, Callable

from integration.stack.interrupt import run

# What each name measures; a module is imported when its benchmark runs.
BENCHMARKS = {
    "batching": "integration.bench.batching.benchmark",
    "cache": "integration.bench.cache.benchmark",
    "deadline": "integration.bench.deadline.benchmark",
    "discovery": "integration.bench.discovery.benchmark",
    "hostile": "integration.bench.hostile.benchmark",
    "known-map": "integration.bench.known_map.benchmark",
    "mesh": "integration.bench.mesh.benchmark",
    "routing": "integration.bench.routing.benchmark",
    "scheduling": "integration.bench.scheduling.benchmark",
    "whatif": "integration.bench.whatif.benchmark",
}


async def _play(name: str) -> int:
    measure: Callable[[], Awaitable[dict[str, float]]] = importlib.import_module(BENCHMARKS[name]).measure
    ratios = await measure()
    print(json.dumps({"bench": name, "ratios": {key: float(f"{value:.4g}") for key, value in ratios.items()}}))
    return 0


def main(arguments: list[str]) -> int:
    """Runs one benchmark; returns the exit status."""
    if len(arguments) != 1 or arguments[0] not in BENCHMARKS:
        print(f"One name is expected: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    return run(_play(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
