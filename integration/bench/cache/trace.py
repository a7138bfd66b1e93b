"""What the cache benchmark plays: which model each call asks for, when it comes, and what the models weigh. Seeded."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MIB = 1 << 20
_SEED = 20_240_917


@dataclass(frozen=True)
class Trace:
    """Calls in order of time: `models[i]` is the number of the model that the call at `at[i]` seconds asks for."""

    models: list[int]
    at: list[float]


@dataclass(frozen=True)
class Weight:
    """What one model takes: bytes of its files, and the seconds of a fetch and of a load."""

    size_bytes: int
    fetch_seconds: float
    load_seconds: float


@dataclass(frozen=True)
class Case:
    """A fleet and a trace for it: Zipf `exponent`, calls of `call_seconds` each, `rate` of them a second.

    The caches fill in the first `warm_up` calls, which are played and not counted. Of 100 calls a second nearly 20 find
    their model absent: about two loads a second and node, which models of these weights allow. Ten times as many would
    be a fleet that only loads.
    """

    exponent: float
    call_seconds: float
    models: int = 1000
    nodes: int = 10
    slots: int = 50
    calls: int = 50_000
    warm_up: int = 12_500
    rate: float = 100.0

    def trace(self) -> Trace:
        """The same each time."""
        return zipf(self.exponent, self.models, self.calls, self.rate, _SEED)

    def weights(self) -> list[Weight]:
        """Of each model, by its number."""
        return weights(self.models, _SEED)

    @property
    def fair_share(self) -> float:
        """Models that move if a node of average share leaves: K / N."""
        return self.models / self.nodes

    def as_json(self) -> dict[str, Any]:
        """`Case(**document)` is the same again."""
        return asdict(self)


def zipf(exponent: float, models: int, calls: int, rate: float, seed: int) -> Trace:
    """Calls at random times (Poisson), `rate` a second; the k-th most popular model has a share of them ~ k^-exponent.

    Which model is how popular is drawn too, so that neither names nor numbers tell.
    """
    dice = np.random.default_rng(seed)
    shares: npt.NDArray[np.float64] = np.arange(1, models + 1, dtype=np.float64) ** -exponent
    ranks = dice.choice(models, calls, p=shares / shares.sum())
    at = np.cumsum(dice.exponential(1.0 / rate, calls))
    return Trace(dice.permutation(models)[ranks].tolist(), at.tolist())


def weights(models: int, seed: int) -> list[Weight]:
    """Sizes around 200 MiB (log-normal, a few over 1 GiB), fetched at 500 MiB/s and loaded at 1 GiB/s after 0.1 s."""
    sizes = np.random.default_rng(seed).lognormal(np.log(200.0), 0.8, models)
    return [Weight(int(mib * MIB), mib / 500.0, 0.1 + mib / 1024.0) for mib in sizes.tolist()]
