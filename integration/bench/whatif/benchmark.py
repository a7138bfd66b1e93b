"""`make bench NAME=whatif`: what a replay foretells of changed fleets, and what they then reach; how long it takes.

See integration/README.md.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ext_proc.planning.fleet.change import FleetChange
from integration.bench.whatif.fleets import CHANGED, RECORDED, Calls, Fleet, Reached, foretold, reached
from integration.bench.whatif.hour import Hour, Replayed, replayed_hour


@dataclass(frozen=True)
class Plan:
    """What is measured, and how large."""

    calls: Calls = field(default_factory=Calls)
    changed: Sequence[Fleet] = CHANGED


@dataclass(frozen=True)
class Pair:
    """One fleet: what was foretold of it, and what it reached."""

    fleet: Fleet
    told: Reached
    real: Reached


async def measure(plan: Plan | None = None) -> dict[str, float]:
    """Plays every part, prints what came out, and returns the ratios."""
    plan = Plan() if plan is None else plan
    with tempfile.TemporaryDirectory(prefix="tbms-whatif-") as name:
        folder = Path(name)
        pairs = await compared(plan, folder)
        print_pairs(plan.calls, pairs)
        took = await replayed_hour(folder)
    print_hour(took)
    return ratios(pairs, took)


async def compared(plan: Plan, folder: Path) -> list[Pair]:
    """One fleet recorded, all foretold from its recording, then the others started, one after the other."""
    shelf = plan.calls.shelf(folder / "shelf")
    base = folder / "recorded"
    first = await reached(RECORDED, plan.calls, shelf, base)
    told = foretold([FleetChange(), *(fleet.change for fleet in plan.changed)], plan.calls, base)
    real = [first]
    for number, fleet in enumerate(plan.changed):
        real.append(await reached(fleet, plan.calls, shelf, folder / f"changed-{number}"))
    return [Pair(*each) for each in zip([RECORDED, *plan.changed], told, real, strict=True)]


def ratios(pairs: Sequence[Pair], took: Replayed) -> dict[str, float]:
    """The figures of the benchmark: of the changed fleets the worst counts; errors are differences of shares."""
    changed = [pair for pair in pairs if pair.fleet is not RECORDED]
    return {
        "hit_share_error": max(abs(pair.told.hit_share - pair.real.hit_share) for pair in changed),
        "answered_share_error": max(abs(pair.told.answered_share - pair.real.answered_share) for pair in changed),
        "replay_speedup": Hour().seconds / took.wall,
    }


def print_pairs(calls: Calls, pairs: Sequence[Pair]) -> None:
    """One row a fleet."""
    title = (
        f"{calls.models} models, Zipf {calls.exponent:g}, {calls.rate:g} calls/s for {calls.seconds:g} s: hit share "
        f"and answered share, foretold from the recording of the first fleet and reached by real nodes"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("fleet", no_wrap=True)
    for heading in ("nodes x slots", "hits foretold", "reached", "answered foretold", "reached"):
        table.add_column(heading, justify="right")
    for pair in pairs:
        shares = (pair.told.hit_share, pair.real.hit_share, pair.told.answered_share, pair.real.answered_share)
        table.add_row(
            pair.fleet.name, f"{pair.fleet.nodes} x {pair.fleet.slots}", *(f"{share:.2%}" for share in shares)
        )
    Console(width=140).print(table)


def print_hour(took: Replayed) -> None:
    """What the replay of an hour took."""
    hour = Hour()
    print(
        f"An hour at {hour.rate:g} calls/s ({took.calls:,} calls, {took.size_bytes / took.calls:.1f} bytes each, "
        f"{hour.raced} % raced, hit share {took.hit_share:.1%}) replayed in {took.wall:.1f} s, {took.cpu:.1f} s of CPU"
    )
