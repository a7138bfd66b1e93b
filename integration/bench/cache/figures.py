"""The arithmetic of the cache benchmark: what a fleet reached on a trace against what could be reached on it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from integration.bench.cache.fleet import FleetRun
from integration.bench.cache.lru_reference import at_random, in_turn, lru_hits, placed_hits, share
from integration.bench.cache.moves import Moves
from integration.bench.cache.trace import Case

_SEED = 7


@dataclass(frozen=True)
class Shares:
    """Hits / calls of one trace, without its start.

    `fleet` is measured: resident when the call came. The others are computed, with loads that take no time:
    `shared_lru` one cache with the slots of all nodes, `own_lru` a cache for each node on the calls that it got,
    `random` and `round_robin` the same on calls that were spread in that way.
    """

    fleet: float
    shared_lru: float
    own_lru: float
    random: float
    round_robin: float


def shares(case: Case, run: FleetRun, models: Sequence[int]) -> Shares:
    """All of them; `models` is what the calls of the case's trace asked for."""
    return Shares(
        share(run.hits, case.warm_up),
        share(lru_hits(models, case.nodes * case.slots), case.warm_up),
        share(placed_hits(models, run.nodes, case.slots), case.warm_up),
        share(placed_hits(models, at_random(case.nodes, _SEED), case.slots), case.warm_up),
        share(placed_hits(models, in_turn(case.nodes), case.slots), case.warm_up),
    )


def moved(moves: Moves, fair_share: float) -> float:
    """Models that a leave or a join moves / (K / N): the mean over all nodes, of leaves or joins the worse."""
    return max(statistics.mean(moves.left), statistics.mean(moves.joined)) / fair_share


def most_moved(moves: Moves, fair_share: float) -> float:
    """The same for the one node whose leaving or joining moves most: by the dice of the hash it has more than K / N."""
    return max(*moves.left, *moves.joined) / fair_share
