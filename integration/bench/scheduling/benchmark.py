"""`make bench NAME=scheduling`: loads by chance on shared devices, and how many calls each way of batching answers.

In virtual time, so that it says the same on every machine. The scheduler knows nothing of the costs before it has seen
them; the four simple batchers beside it know all, and the best of them is chosen for each load afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from rich.console import Console
from rich.table import Table

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.waiting import Waiting
from ext_proc.planning.simulation import Simulation
from integration.bench.scheduling.loads import SECONDS, Load, load
from integration.bench.scheduling.simple import RULES, answered_in_time

LOADS = 150


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls in time by the scheduler, and by each simple batcher."""

    load: Load
    ours: int
    theirs: dict[str, int]

    @property
    def vs_best(self) -> float:
        """Calls in time for each one of the best of the others."""
        return self.ours / max(1, *self.theirs.values())


def scheduled(load: Load) -> Simulation:
    """The load, run through the scheduler."""
    models = {kind.name: ModelBatching(max_rows=kind.max_rows) for kind in load.kinds.values()}
    system = Simulation(
        BatchingSettings(slots=load.slots, queue_calls=100_000, models=models),
        lambda model, rows: load.kinds[model].seconds(rows),
        lambda model: load.kinds[model].switch,
    )
    system.arrive(Waiting(call.model, "", call.rows, 1, call.at, call.deadline) for call in load.calls)
    system.run()
    return system


def outcome(load: Load) -> Outcome:
    """One load, each way."""
    return Outcome(
        load, scheduled(load).in_time(), {name: answered_in_time(load, rule) for name, rule in RULES.items()}
    )


async def measure() -> dict[str, float]:
    """Runs all loads, prints a table, and returns the figures."""
    outcomes = [outcome(load(seed)) for seed in range(LOADS)]
    _print(outcomes)
    by_load = sorted(one.vs_best for one in outcomes)
    return {
        "calls_vs_best": sum(one.ours for one in outcomes) / sum(max(one.theirs.values()) for one in outcomes),
        "load_vs_best_mean": mean(by_load),
        "load_vs_best_p05": by_load[len(by_load) // 20],
        "load_vs_best_least": by_load[0],
    }


def _print(outcomes: Sequence[Outcome]) -> None:
    table = Table(title=f"calls in time, {len(outcomes)} loads of {SECONDS:g} s by chance")
    for heading in ("demand", "loads", "calls", "scheduler", *RULES, "best for each load", "least vs. best"):
        table.add_column(heading, justify="right")
    for low, high in ((0.0, 0.7), (0.7, 1.0), (1.0, 9.9)):
        some = [one for one in outcomes if low <= one.load.demand < high]
        calls = sum(len(one.load.calls) for one in some)

        def share(counts: Sequence[int], calls: int = calls) -> str:
            return f"{sum(counts) / calls:.3f}"

        table.add_row(
            f"under {high:g}" if high < 9 else "more",
            f"{len(some)}",
            f"{calls}",
            share([one.ours for one in some]),
            *(share([one.theirs[name] for one in some]) for name in RULES),
            share([max(one.theirs.values()) for one in some]),
            f"{min(one.vs_best for one in some):.3f}",
        )
    Console(width=160).print(table)
