"""The tables that the cache benchmark prints."""

import statistics
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from integration.bench.cache.cold_schedule import Pair, Schedule, slowdown
from integration.bench.cache.figures import Shares, most_moved, moved
from integration.bench.cache.fleet import FleetRun
from integration.bench.cache.map_cost import NEWS_EVERY, MapCost
from integration.bench.cache.trace import Case
from integration.bench.deadline.figures import quantile

_QUANTILES = (0.5, 0.9, 0.99)


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
    """One row."""
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
