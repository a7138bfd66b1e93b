"""How long a call would wait for a model that a node has to load first, as the nodes themselves say."""

from collections.abc import Mapping
from sys import intern

from mesh.bounded import keep_newest
from mesh.residency.state import Residency

MOST = 1000
"""Models of one node that are remembered: for 100 nodes some 10 MiB."""


class LoadWaits:
    """Pure: time comes in as `now`, in seconds of one monotonic clock. Nodes that say nothing have no entry here."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[str, float]] = {}
        self._ready: dict[str, dict[str, float]] = {}
        self._default: dict[str, float] = {}

    def told(
        self,
        node_id: str,
        states: Mapping[str, Residency],
        seconds: Mapping[str, float],
        default: float | None,
        now: float,
    ) -> None:
        """The node has said so: the models that changed, and how long a call would wait for some of those."""
        ready = self._ready.setdefault(node_id, {})
        for model, state in states.items():
            if state is not Residency.LOADING:
                ready.pop(model, None)
        known = self._seconds.setdefault(node_id, {})
        for model, wait in seconds.items():
            name = intern(model)  # of other nodes, too
            if states.get(model) is Residency.LOADING:
                keep_newest(ready, name, now + wait, MOST)
            else:
                keep_newest(known, name, wait, MOST)
        if default is not None:
            self._default[node_id] = default

    def forget(self, node_id: str) -> None:
        """The node is not heard any more."""
        for known in (self._seconds, self._ready, self._default):
            known.pop(node_id, None)

    def seconds(self, node_id: str, model: str, now: float) -> float | None:
        """How long a call that goes there now would wait for the model; None: not known."""
        ready = self._ready.get(node_id, {}).get(model)
        if ready is not None:
            return max(ready - now, 0.0)
        return self._seconds.get(node_id, {}).get(model, self._default.get(node_id))
