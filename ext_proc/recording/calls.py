"""What is recorded: calls, and the fleet that they came to. Times are in seconds since the epoch."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ext_proc.broker.plan import Plan
from mesh.node import ProtocolKind


class Way(IntEnum):
    """Which way a call went, as far as that matters for a replay."""

    SAMPLE = 0
    """No call of a client by itself: how long one of those that are recorded otherwise, or a candidate, took."""
    KNOWN = 1
    """By the map of known calls; heard of at its end."""
    DECIDED = 2
    """To a node that the server named; its end was not seen."""
    RACED = 3
    """By a race, seen to its end."""


class Ending(IntEnum):
    """What became of a call."""

    UNSEEN = 0
    ANSWERED = 1
    """By a model; of a race, within its limit."""
    FAILED = 2
    LATE = 3
    """A race was not answered by its limit; of a sample: it was still at it then."""
    FALLBACK = 4
    """Answered by what the configuration has for that."""
    GONE = 5
    """The client left first."""


class RecordedCall(NamedTuple):
    """One call. `at` is when it came, `model` the `Candidate.title` that it was sent to first.

    `node` is the id of the node that it went to first, or "" where that is not known, `cold` whether the model had to
    be loaded there, as far as the node had told. `plan` is None for a call that was only routed, and then `limit` is
    that of the call in seconds, infinite where it had none. `took` is 0 where the end was not seen: seconds, of a
    known call and of a sample those at the node, of a race those until the answer. `weight` is how many calls it
    stands for, 0 of a sample. `rank` of the answer; -1 where there is none. `size` is that of the body in bytes, 0
    where it is not known.
    """

    at: float
    model: str
    way: Way
    ending: Ending = Ending.UNSEEN
    node: str = ""
    cold: bool = False
    plan: Plan | None = None
    limit: float = float("inf")
    took: float = 0.0
    weight: int = 1
    rank: int = -1
    size: int = 0


@dataclass(frozen=True, slots=True)
class RecordedNode:
    """One node. `slots` are its places for models; None where it has no limit or has not told. `held` are the models
    that it held then. `tells`: whether it says what it holds.
    """

    id: str
    zone: str = ""
    weight: float = 1.0
    speaks: frozenset[ProtocolKind] = frozenset({"grpc", "rest"})
    tells: bool = True
    slots: int | None = None
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedFleet:
    """The nodes at one moment, and sections of the edge's configuration as JSON: `routing`, `warm` and `broker`."""

    nodes: tuple[RecordedNode, ...]
    settings: str = "{}"


@dataclass(frozen=True, slots=True)
class Portion:
    """What is written, and read, at once. `loads` are seconds of a load by model, as nodes have told them lately."""

    calls: tuple[RecordedCall, ...] = ()
    fleet: RecordedFleet | None = None
    loads: tuple[tuple[str, float], ...] = ()
