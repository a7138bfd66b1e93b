"""The plan of one call: which models may answer it, in which order, by when."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class AnswerMode(StrEnum):
    """Which result is returned. BEST holds a result while a better-ranked candidate can still finish."""

    BEST = "best"
    FIRST = "first"


class How(StrEnum):
    """How the outputs of a mix are combined, element by element."""

    MAX = "max"
    AVG = "avg"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that may answer. At most one of `version` and `label` is set.

    `estimate_ms` is the declared time to an answer (None: not declared); `weight` counts in an
    average and in a split only.
    """

    model: str
    version: str | None = None
    label: str | None = None
    estimate_ms: float | None = None
    weight: float = 1.0

    @property
    def title(self) -> str:
        """`bert`, `bert;version=3` or `bert;label=stable`: the key of its estimates, its name in logs."""
        if self.version is not None:
            return f"{self.model};version={self.version}"
        return self.model if self.label is None else f"{self.model};label={self.label}"


@dataclass(frozen=True, slots=True)
class Mix:
    """Candidates that start together and answer together, as one rank."""

    members: tuple[Candidate, ...]
    how: How

    @property
    def title(self) -> str:
        """`avg(bayes keysearch)`: its name in logs."""
        return f"{self.how}({' '.join(member.title for member in self.members)})"


RankedTarget = Candidate | Mix
"""What a plan asks at one rank."""

CallKey = tuple[int, int]
"""One call that a race may make: its rank, and its member (0 unless the rank is a mix)."""


def members(target: RankedTarget) -> tuple[Candidate, ...]:
    """The candidates that are asked for a rank: the candidate itself, or the members of the mix."""
    return target.members if isinstance(target, Mix) else (target,)


@dataclass(frozen=True, slots=True)
class StaticAnswer:
    """The last resort of a model: a fixed answer of one protocol, given where no candidate answered in time."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with one call.

    `model` is the name that the client used; `candidates` are ranked, the primary first; `limit_ms`
    counts from the arrival of the call. `cross_request`, `cross_lag_ms` and `priority` are told the
    nodes, which batch by them (None: the node's own settings decide). `shadows` get a copy whose
    answer is dropped. `races` is False where the call is only renamed (alias, label, split) or
    copied, or its node is told something: then there is one candidate and nobody asked for a limit.
    """

    model: str
    candidates: tuple[RankedTarget, ...]
    limit_ms: float
    answer: AnswerMode = AnswerMode.BEST
    cross_request: bool | None = None
    cross_lag_ms: float | None = None
    priority: int = 0
    shadows: tuple[Candidate, ...] = ()
    fallback: StaticAnswer | None = None
    races: bool = True

    @property
    def tells(self) -> bool:
        """Whether it says how the call may share a batch."""
        return self.cross_request is not None or self.cross_lag_ms is not None or self.priority != 0

    def calls(self) -> Iterator[tuple[CallKey, Candidate]]:
        """Every call that the race may make, and the model that it asks."""
        for rank, target in enumerate(self.candidates):
            for member, candidate in enumerate(members(target)):
                yield (rank, member), candidate
