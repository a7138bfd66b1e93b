"""What a map of known calls says, and how often it may say something else: an edge's and a node's alike."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mesh.node import ProtocolKind

PARTS = 60
"""Shares of calls are counted in these: equal ones of two to six nodes come out even."""

Shares = tuple[tuple[int, tuple[str, ...]], ...]
"""How many of PARTS calls go to which nodes, `ip:port`, the first for calls, the later ones for retries."""

_COOLED = 0.5
"""Under this share of the rate from which on its calls are sampled, all ends of a model's calls are told again."""
_GAP = 0.1
"""Seconds between two tables at least: Envoy's file watch takes as long."""
_GAP_PER_MODEL = 1e-4
"""And for each model of the table: what Envoy's main thread does for it, 20 us, is a fifth of its time at most."""
_FOUND = 0.5
"""Seconds until Envoy finds a server that was away, at the latest: it looks for it each tenth of a second. What the map
of the one before says must hold until then, since calls that are not known have nobody."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model: `forms` are bits, one for each form in which calls for it come; the caller knows which."""

    name: str
    forms: int
    shares: Mapping[ProtocolKind, Shares]
    tells: bool = False
    """Whether one of the nodes has the node role, and is told the model where only a message names it."""
    sampled: bool = False
    """Whether it is called so often that the ends of some calls tell enough."""


def is_sampled(rate: float, enough: float | None, before: bool) -> bool:
    """Whether a model that is called at this rate is to be `sampled`, which it is from `enough` calls a second on."""
    return enough is not None and rate >= (enough * _COOLED if before else enough)


class Pace:
    """When a table is looked at again. Pure: times are seconds of one monotonic clock.

    Losses are not waited for, but for the gap that Envoy needs between two files; all else is gathered for `seconds`.
    """

    __slots__ = ("_changed_at", "_hurries", "_models", "_seconds", "wake_up")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed_at = -math.inf
        self._models = 0
        self._hurries = False
        self.wake_up = -math.inf
        """When the next look is due."""

    def start(self, now: float) -> None:
        """The first look is after `seconds`, and late enough for Envoy to have found the server that has started."""
        self.wake_up = now + max(self._seconds, _FOUND)

    def hurry(self, now: float) -> None:
        """Something of the table holds no more."""
        self._hurries = True
        self.wake_up = min(self.wake_up, self._soon(now))

    def looks(self, now: float) -> None:
        """A look begins. Whoever hurries from now on may not be seen by it any more."""
        self.wake_up, self._hurries = self._later(now), False

    def changed(self, models: int, now: float) -> None:
        """The look, begun at `now`, has led to another table, of so many models."""
        self._changed_at, self._models = now, models
        self.wake_up = self._soon(now) if self._hurries else self._later(now)

    def _soon(self, now: float) -> float:
        return max(now, self._changed_at + self._gap())

    def _later(self, now: float) -> float:
        return now + max(self._seconds, self._gap())

    def _gap(self) -> float:
        return max(_GAP, _GAP_PER_MODEL * self._models)
