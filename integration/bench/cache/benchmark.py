"""`make bench NAME=cache`: what a fleet of model caches reaches, and what it costs.

Hit shares and moves come from the real router and the real model caches in virtual time; what loads cost those who hit
comes from one real node with its Envoy; the cost of the cache map from a process of its own. See integration/README.md.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from integration.bench.cache import cold_loads
from integration.bench.cache.cold_loads import Pair, Schedule, slowdown
from integration.bench.cache.fleet import FleetRun, fleet_run, most_moved, moved
from integration.bench.cache.hit_shares import Shares, shares
from integration.bench.cache.map_cost import NEWS_EVERY, MapCost, map_cost
from integration.bench.cache.trace import Case
from integration.bench.open_loop import quantile

_QUANTILES = (0.5, 0.9, 0.99)


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


def print_fleet(runs: Mapping[Case, FleetRun], reached: Mapping[Case, Shares]) -> None:
    """One row a case."""
    first = next(iter(runs))
    title = (
        f"{first.models:,} models on {first.nodes} nodes x {first.slots} slots, {first.calls:,} calls, "
        f"{first.rate:g} a second, in virtual time: hit share, its ratio to that of four references, "
        "and models moved as a ratio to K/N"
    )
    table = _table(title, "Zipf", "call s", "hit share", "shared LRU", "own LRUs", "random", "round robin", "loads")
    for heading in ("copies", "no answer", "moved", "worst node", "needless"):
        table.add_column(heading, justify="right")
    for case, run in runs.items():
        each = reached[case]
        references = (each.shared_lru, each.own_lru, each.random, each.round_robin)
        table.add_row(
            f"{case.exponent:g}",
            f"{case.call_seconds:g}",
            f"{each.fleet:.2%}",
            *(f"{each.fleet / reference:.3f}" for reference in references),
            f"{run.loads:,}",
            f"{run.copies:.3f}",
            f"{run.unanswered}",
            f"{moved(run.moves, case.fair_share):.3f}",
            f"{most_moved(run.moves, case.fair_share):.2f}",
            f"{run.moves.needless}",
        )
    _print(table)


def print_hits(schedule: Schedule, pairs: Sequence[Pair]) -> None:
    """Hits without and with cold loads, and the ratio of the two."""
    title = (
        f"Hits on one real node, {schedule.rate:g} a second, {len(pairs)} rounds of {schedule.seconds:g} s each way: "
        "medians over the rounds, ms at the client"
    )
    table = _table(title, "beside the hits", *(f"p{100 * share:g}" for share in _QUANTILES), "cold calls", "their p50")
    cold = [ms for pair in pairs for ms in pair.cold]
    kinds: tuple[tuple[str, list[Sequence[float]], tuple[str, str]], ...] = (
        ("nothing", [pair.quiet for pair in pairs], ("", "")),
        ("cold loads", [pair.beside for pair in pairs], (str(len(cold)), f"{quantile(cold, 0.5):.0f}")),
    )
    for name, rounds, calls in kinds:
        middles = (statistics.median(quantile(hits, share) for hits in rounds) for share in _QUANTILES)
        table.add_row(name, *(f"{ms:.2f}" for ms in middles), *calls)
    table.add_row("ratio of neighbours", *(f"{slowdown(pairs, share):.3f}" for share in _QUANTILES), "", "")
    _print(table)


def print_map(nodes: int, models: int, cost: MapCost) -> None:
    """Prints the costs of router and cache map as a table of one row."""
    news = f"the same, a change every {NEWS_EVERY}"
    headings = ("MiB, models on 2 nodes", "MiB, all on all", "first look-ups/s", "look-ups/s, Zipf 1.1", news)
    table = _table(f"Router and cache map, {nodes} nodes x {models:,} models", *headings)
    mib = (f"{size:.1f}" for size in (cost.usual_mib, cost.full_mib))
    table.add_row(*mib, *(f"{rate:,.0f}" for rate in (cost.first, cost.steady, cost.news)))
    _print(table)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _print(table: Table) -> None:
    Console(width=140).print(table)
