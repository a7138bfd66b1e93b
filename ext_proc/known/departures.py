"""Which models Envoy may still send calls for by itself, after the map has let go of them.

A model that leaves the map is called by Envoy until all of its workers go by a map without it; and calls that they have
sent before are not over then. Of these each has told of itself, by its end or as one that still runs, `SETTLES` later
at the latest (`ext_proc.envoy_config.parts.access_log`). From then on whoever keeps an account of calls that run knows
all of them.
"""

import math
from collections.abc import Collection

SETTLES = 1.0
"""Seconds: a call that runs tells so every 0.25 s, and what it tells is on its way for 0.1 s. One word may be lost."""


class Departures:
    """Pure: times are seconds of one monotonic clock. Maps are numbered from 1 on; see `keeper.Listener`.

    Of maps that an earlier process has written nobody knows the models: until Envoy goes by one of ours, any may be
    called.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # the number of the last map that had the model
        self._settled: dict[
            str, float
        ] = {}  # of those that Envoy knows no more: when all calls have told of themselves
        self._others = math.inf  # the same of models that no map of ours has had
        self._deaf = False

    def writes(self, number: int, models: Collection[str]) -> None:
        """Envoy may take in a map with these models from now on."""
        for model in models:
            self._last[model] = number
            self._settled.pop(model, None)

    def goes_by(self, number: int, idle: bool, now: float) -> None:
        """All of Envoy's workers go by that map; `idle`: and no call is in flight in it."""
        if not number:
            return
        settled = now if idle else math.inf if self._deaf else now + SETTLES
        self._others = min(self._others, settled)
        for model, last in self._last.items():
            if last < number:
                self._settled[model] = min(settled, self._settled.get(model, math.inf))
        self._forget(now)

    def is_gone(self, number: int, now: float) -> None:
        """There is no Envoy, and the next one will begin with that map."""
        self.goes_by(number, True, now)

    def missed(self, now: float) -> None:
        """Something of what calls have told may be lost: they tell of themselves once more."""
        self._forget(now)
        for model, settled in self._settled.items():
            self._settled[model] = max(settled, now + SETTLES)
        if now < self._others < math.inf:
            self._others = now + SETTLES

    def hears_no_more(self, now: float) -> None:
        """Calls tell nobody of themselves from now on: only an idle Envoy has none."""
        self._forget(now)
        self._deaf = True
        self._settled = dict.fromkeys(self._settled, math.inf)
        if self._others > now:
            self._others = math.inf

    def settled_at(self, model: str) -> float:
        """From when on all calls of the model that Envoy has sent by itself are known; infinite: that is not known."""
        if model in self._last:
            return self._settled.get(model, math.inf)
        return self._others

    def _forget(self, now: float) -> None:
        for model in [model for model, settled in self._settled.items() if settled <= now]:
            del self._settled[model], self._last[model]
