"""`python -m integration.bench NAME`: measures, prints a table, and as its last line JSON."""

import importlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from integration.interrupt import run


def names() -> list[str]:
    """The benchmarks that there are: the modules bench_NAME beside this one."""
    return sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


async def _play(name: str) -> int:
    measure: Callable[[], Awaitable[dict[str, float]]] = importlib.import_module(f"integration.bench_{name}").measure
    ratios = await measure()
    print(json.dumps({"bench": name, "ratios": {key: float(f"{value:.4g}") for key, value in ratios.items()}}))
    return 0


def main(arguments: list[str]) -> int:
    """Runs one benchmark; returns the exit status."""
    if len(arguments) != 1 or arguments[0] not in names():
        print(f"One name is expected: {', '.join(names())}.", file=sys.stderr)
        return 2
    return run(_play(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
