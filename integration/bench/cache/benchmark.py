"""`make bench NAME=cache`: what a fleet of model caches reaches, and what it costs.

Hit shares and moves come from the real router and the real model caches in virtual time; what loads cost those who hit
comes from one real node with its Envoy; the cost of the cache map from a process of its own. docs/decisions/096 to 098.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from integration.bench.cache import cold_loads
from integration.bench.cache.cold_schedule import Pair, Schedule, slowdown
from integration.bench.cache.figures import Shares, moved, shares
from integration.bench.cache.fleet import FleetRun, fleet_run
from integration.bench.cache.map_cost import MapCost, map_cost
from integration.bench.cache.tables import print_fleet, print_hits, print_map
from integration.bench.cache.trace import Case


@dataclass(frozen=True)
class Plan:
    """What is measured, and how large.

    Where calls take a second, a hundred are in flight, and load bounds matter.
    """

    cases: Sequence[Case] = (Case(0.9, 0.05), Case(1.1, 0.05), Case(0.9, 1.0), Case(1.1, 1.0))
    schedule: Schedule = field(default_factory=Schedule)
    map_nodes: int = 100
    map_models: int = 10_000


async def measure(plan: Plan | None = None) -> dict[str, float]:
    """Plays every part, prints what came out, and returns the ratios."""
    plan = Plan() if plan is None else plan
    runs: dict[Case, FleetRun] = {}
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as name:
        for start in range(0, len(plan.cases), 2):  # as many at once as there are cores
            two = plan.cases[start : start + 2]
            runs |= zip(two, await asyncio.gather(*(fleet_run(case, Path(name)) for case in two)), strict=True)
        cost = await map_cost(plan.map_nodes, plan.map_models, Path(name))
    pairs = await cold_loads.rounds(plan.schedule)
    reached = {case: shares(case, run, case.trace().models) for case, run in runs.items()}
    print_fleet(runs, reached)
    print_hits(plan.schedule, pairs)
    print_map(plan.map_nodes, plan.map_models, cost)
    return ratios(runs, reached, pairs, cost)


def ratios(
    runs: Mapping[Case, FleetRun], reached: Mapping[Case, Shares], pairs: Sequence[Pair], cost: MapCost
) -> dict[str, float]:
    """The figures of the benchmark; of several cases the worst counts."""
    return {
        "hit_p99_with_cold_loads": slowdown(pairs, 0.99),
        "hit_share_vs_shared_lru": min(each.fleet / each.shared_lru for each in reached.values()),
        "hit_share_vs_random_placement": min(each.fleet / each.random for each in reached.values()),
        "moved_vs_k_over_n": max(moved(run.moves, case.fair_share) for case, run in runs.items()),
        "map_mib": max(cost.usual_mib, cost.full_mib),
        "lookups_per_s": min(cost.steady, cost.news),
    }
