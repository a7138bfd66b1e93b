"""Loads by chance: models with their costs, the device that they share, and the calls that come."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from random import Random

from ext_proc.planning.simulation import evenly, poisson

SECONDS = 6.0  # of calls
_TIGHTEST, _LOOSEST = 2.0, 25.0  # a limit, in switches and full batches of its model


@dataclass(frozen=True, slots=True)
class Kind:
    """A model: its batches take `base` seconds and `slope` for each row, a switch to it `switch` seconds."""

    name: str
    base: float
    slope: float
    max_rows: int
    switch: float

    def seconds(self, rows: int) -> float:
        """Of a batch of so many rows, on a device that ran this model before."""
        return self.base + self.slope * rows


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call of `rows` rows that comes `at` a time, and whose answer is of use until `deadline`."""

    at: float
    deadline: float
    model: str
    rows: int


@dataclass(frozen=True, slots=True)
class Load:
    """`demand`: what its calls take of the device in full batches without any switch, 1 being all of it."""

    kinds: dict[str, Kind]
    slots: int
    demand: float
    calls: Sequence[Arrival]


def load(seed: int) -> Load:
    """The load of that number: the same whenever it is asked for."""
    rng = Random(seed)
    slots, demand = rng.choice([1, 1, 2, 4]), rng.uniform(0.3, 1.6)
    kinds = {name: _kind(name, slots, rng) for name in "abcdef"[: rng.randint(1, 6)]}
    shares = {name: rng.uniform(0.2, 1.0) for name in kinds}
    calls = []
    for name, kind in kinds.items():
        most = rng.choice([1, 1, 3])
        rows_a_second = kind.max_rows / kind.seconds(kind.max_rows) * slots * demand * shares[name]
        qps = rows_a_second / sum(shares.values()) / ((1 + most) / 2)
        arrivals = islice(evenly(qps), 1, None) if rng.random() < 0.3 else poisson(qps, rng.expovariate)
        limit = (kind.switch + kind.seconds(kind.max_rows)) * rng.uniform(_TIGHTEST, _LOOSEST)
        spread = rng.choice([1.0, 3.0])
        for at in takewhile(lambda at: at <= SECONDS, arrivals):
            rows = min(rng.randint(1, most), kind.max_rows)
            calls.append(Arrival(at, at + limit * rng.uniform(1.0, spread), name, rows))
    calls.sort(key=lambda call: call.at)
    return Load(kinds, slots, demand, calls)


def _kind(name: str, slots: int, rng: Random) -> Kind:
    base = rng.choice([0.004, 0.010, 0.020, 0.050])
    slope = rng.choice([0.0, 0.0002, 0.001])
    # What a switch is on a device that runs several models at once, nobody can say.
    switch = rng.choice([0.0, 0.002, 0.010, 0.030]) if slots == 1 else 0.0
    return Kind(name, base, slope, rng.choice([4, 10, 32]), switch)
