"""`make bench NAME=scheduling`: loads by chance on shared devices, and how many calls each way of batching answers.

In virtual time, so that it says the same on every machine. The scheduler knows nothing of the costs before it has seen
them; the four simple batchers beside it know all, and the best of them is chosen for each load afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean

from rich.console import Console
from rich.table import Table

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.waiting import Waiting
from ext_proc.planning.simulation import Simulation
from integration.bench.scheduling.loads import SECONDS, Load, load
from integration.bench.scheduling.simple import RULES, answered_in_time

LOADS = 150
_WAY = (0.0003, 0.0012)  # seconds to the device, or back
_SLOWER = (1.0, 1.0, 1.0, 1.0, 1.1)  # one batch in five takes a tenth longer


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls in time by the scheduler, by it where there is a way to the device, and by each simple batcher."""

    load: Load
    ours: int
    on_a_way: int
    theirs: dict[str, int]

    @property
    def best(self) -> int:
        """Of the simple ones."""
        return max(1, *self.theirs.values())

    @property
    def vs_best(self) -> float:
        """Calls in time for each one of the best of the others."""
        return self.ours / self.best

    @property
    def on_a_way_vs_best(self) -> float:
        """The same with a way, which the others have not."""
        return self.on_a_way / self.best


def scheduled(load: Load) -> int:
    """Calls in time by the scheduler, as the load is."""
    return _run(load, Random(0), way=(0.0, 0.0), slower=(1.0,))


def scheduled_on_a_way(load: Load) -> int:
    """The same where the way to the device and back, and the times of batches, vary. Limits are longer by that way."""
    return _run(load, Random(0), way=_WAY, slower=_SLOWER)


def outcome(load: Load) -> Outcome:
    """One load, each way."""
    theirs = {name: answered_in_time(load, rule) for name, rule in RULES.items()}
    return Outcome(load, scheduled(load), scheduled_on_a_way(load), theirs)


async def measure() -> dict[str, float]:
    """Runs all loads, prints a table, and returns the figures."""
    outcomes = [outcome(load(seed)) for seed in range(LOADS)]
    _print(outcomes)
    best = sum(one.best for one in outcomes)
    figures = {}
    for name, calls, by_load in (
        ("", sum(one.ours for one in outcomes), sorted(one.vs_best for one in outcomes)),
        ("on_a_way_", sum(one.on_a_way for one in outcomes), sorted(one.on_a_way_vs_best for one in outcomes)),
    ):
        figures[f"{name}calls_vs_best"] = calls / best
        figures[f"{name}load_vs_best_mean"] = mean(by_load)
        figures[f"{name}load_vs_best_p05"] = by_load[len(by_load) // 20]
        figures[f"{name}load_vs_best_least"] = by_load[0]
    return figures


def _run(load: Load, rng: Random, *, way: tuple[float, float], slower: tuple[float, ...]) -> int:
    models = {kind.name: ModelBatching(max_rows=kind.max_rows) for kind in load.kinds.values()}
    system = Simulation(
        BatchingSettings(slots=load.slots, queue_calls=100_000, models=models),
        lambda model, rows: load.kinds[model].seconds(rows) * rng.choice(slower),
        lambda model: load.kinds[model].switch,
        lambda: rng.uniform(*way),
    )
    longer = 2 * way[1]
    system.arrive(Waiting(call.model, "", call.rows, 1, call.at, call.deadline + longer) for call in load.calls)
    system.run()
    return system.in_time()


def _print(outcomes: Sequence[Outcome]) -> None:
    table = Table(title=f"calls in time, {len(outcomes)} loads of {SECONDS:g} s by chance")
    for heading in (
        "demand",
        "loads",
        "calls",
        "scheduler",
        "on a way",
        *RULES,
        "best for each load",
        "least vs. best",
    ):
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
            share([one.on_a_way for one in some]),
            *(share([one.theirs[name] for one in some]) for name in RULES),
            share([one.best for one in some]),
            f"{min(one.vs_best for one in some):.3f}",
        )
    Console(width=170).print(table)
