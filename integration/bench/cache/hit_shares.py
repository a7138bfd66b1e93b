"""Hit shares: what a fleet reached on a trace, and what least-recently-used caches would reach on the same calls.

The references are computed, with loads that take no time.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from integration.bench.cache.fleet import FleetRun
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


def lru_hits(models: Iterable[int], slots: int) -> Iterator[bool]:
    """For each call whether one cache of `slots` models holds its model when it comes."""
    return placed_hits(models, (0 for _ in count()), slots)


def placed_hits(models: Iterable[int], nodes: Iterable[int], slots: int) -> Iterator[bool]:
    """The same for calls that go to those nodes, each with a cache of its own."""
    caches: dict[int, OrderedDict[int, None]] = {}
    for model, node in zip(models, nodes, strict=False):
        cache = caches.setdefault(node, OrderedDict())
        held = model in cache
        if held:
            cache.move_to_end(model)
        else:
            if len(cache) >= slots:
                cache.popitem(last=False)
            cache[model] = None
        yield held


def at_random(nodes: int, seed: int) -> Iterator[int]:
    """Plain random placement: every call goes anywhere."""
    dice = Random(seed)
    while True:
        yield dice.randrange(nodes)


def in_turn(nodes: int) -> Iterator[int]:
    """The node of each call by round robin, for ever."""
    return (number % nodes for number in count())


def share(hits: Iterable[bool], skip: int) -> float:
    """Hits / calls, without the first `skip` calls, in which caches fill. Raises ValueError if none is left."""
    counted: Sequence[bool] = list(hits)[skip:]
    if not counted:
        raise ValueError("no calls, no share")
    return sum(counted) / len(counted)
