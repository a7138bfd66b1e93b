"""Computed references: what least-recently-used caches of a given size reach on a trace, if a load takes no time."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from random import Random


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
    """Round robin."""
    return (number % nodes for number in count())


def share(hits: Iterable[bool], skip: int) -> float:
    """Hits / calls, without the first `skip` calls, in which caches fill. Raises ValueError if none is left."""
    counted: Sequence[bool] = list(hits)[skip:]
    if not counted:
        raise ValueError("no calls, no share")
    return sum(counted) / len(counted)
