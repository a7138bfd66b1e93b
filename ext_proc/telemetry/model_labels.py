"""Which models are label values of metrics: those that are used most, of those that exist; all others share one value.

Whatever reaches Prometheus stays there for as long as its blocks do. So a name that only a request has said makes no
label, and the models that have one change at most once an hour, when another one is used twice as much.
"""

from collections import Counter
from collections.abc import Callable

OTHER = "(other)"
"""The label of all other models, and of one of that name."""
MOST = 100
"""Models that have a label of their own."""
REVIEW_SECONDS = 3600.0
"""For so long the models with labels stay the same, once all labels are taken."""
_MOST_WAITING = 10_000  # models without a label whose uses are counted
_MORE = 2  # times the uses of the least used label that another model needs to get it


class ModelLabels:
    """The labels of one process. `exists` says whether a name is that of a model; `clock` in seconds, monotonic."""

    def __init__(self, exists: Callable[[str], bool], clock: Callable[[], float], most: int = MOST) -> None:
        self._exists = exists
        self._clock = clock
        self._most = most
        self._uses: Counter[str] = Counter()  # of models that have a label, since the last review
        self._waiting: Counter[str] = Counter()  # of those that have none
        self._review_at = clock() + REVIEW_SECONDS
        self.retired: list[Callable[[str], None]] = []
        """Are told of each model that loses its label, whose series are to go."""

    def of(self, model: str, answered: bool = False) -> str:
        """The label of a model, which is counted as one use of it. `answered`: it has, so there is such a model."""
        if model in self._uses:
            self._uses[model] += 1
            return model
        if not (answered or self._exists(model)):
            return OTHER
        if len(self._uses) < self._most:
            self._uses[model] = 1
            return model
        if model in self._waiting or len(self._waiting) < _MOST_WAITING:
            self._waiting[model] += 1
        now = self._clock()
        if now < self._review_at:
            return OTHER
        self._review(now)
        return model if model in self._uses else OTHER

    def _review(self, now: float) -> None:
        """Gives labels to the models that are used most, and lets go as many of those that are used least."""
        self._review_at = now + REVIEW_SECONDS
        least = sorted(self._uses, key=self._uses.__getitem__)
        for gone, (model, uses) in zip(least, self._waiting.most_common(self._most), strict=False):
            if uses <= _MORE * self._uses[gone]:
                break
            del self._uses[gone]
            for retire in self.retired:
                retire(gone)
            self._uses[model] = uses
        self._waiting.clear()
        self._uses = Counter(dict.fromkeys(self._uses, 0))
