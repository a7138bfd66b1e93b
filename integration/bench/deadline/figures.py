"""The arithmetic of the deadline benchmark: from samples of calls to shares and quantiles."""

import math
from collections.abc import Iterable, Sequence

from integration.bench.deadline.open_loop import Sample

# An answer that is this late at the client counts as given by the limit (ms): the way there and back is part of it.
GRACE_MS = 5.0


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed. Raises ValueError if there is none."""
    ascending = sorted(values)
    if not ascending:
        raise ValueError("no values, no quantile")
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def answered_within(samples: Sequence[Sample], limit_ms: float) -> float:
    """The share of the calls that had an answer, not an error, by the limit and the grace."""
    return sum(sample.answered and sample.ms <= limit_ms + GRACE_MS for sample in samples) / len(samples)


def overshoots(samples: Iterable[Sample], limit_ms: float) -> list[float]:
    """How long after the limit each call ended, in ms, answer or error; 0 for those before it."""
    return [max(0.0, sample.ms - limit_ms) for sample in samples]
