"""Flapping: a node that comes and goes again and again is kept out for a while when it comes back.

Each coming and going moves models between nodes. Who leaves is believed at once, as calls would be lost; only coming
back costs patience, and only the third time within a minute.
"""

from collections.abc import Iterable, Set

FREE_RETURNS = 2
"""How often within WINDOW a node may come back and is taken at once."""
WINDOW = 60.0
"""Seconds for which a departure is remembered."""
FIRST_HOLD, LONGEST_HOLD = 5.0, 40.0
"""Seconds for which the next return is held back: doubled with every further one within WINDOW."""


class FlapDamper:
    """Of one source: which of its nodes are held back. `now` in seconds, never going back."""

    def __init__(self) -> None:
        self._present: Set[str] = frozenset()
        self._departures: dict[str, list[float]] = {}
        self._held: dict[str, float] = {}

    def see(self, ids: Iterable[str], now: float) -> None:
        """These are the ids of the source's nodes from now on."""
        self._forget(now)
        present = frozenset(ids)
        for gone in self._present - present:
            self._held.pop(gone, None)
            self._departures.setdefault(gone, []).append(now)
        for come in present - self._present:
            beyond = len(self._departures.get(come, ())) - FREE_RETURNS
            if beyond > 0:
                self._held[come] = now + min(FIRST_HOLD * 2 ** min(beyond - 1, 10), LONGEST_HOLD)
        self._present = present

    def held(self, now: float) -> Set[str]:
        """The nodes that are held back. None are if that would leave nobody: a doubtful node beats no node."""
        held = {node for node, until in self._held.items() if now < until}
        return frozenset() if held == self._present else held

    def due(self, now: float) -> float | None:
        """When the next node that is held back may come in."""
        return min((until for until in self._held.values() if now < until), default=None)

    def _forget(self, now: float) -> None:
        kept = {node: [at for at in times if now - at < WINDOW] for node, times in self._departures.items()}
        self._departures = {node: times for node, times in kept.items() if times}
        self._held = {node: until for node, until in self._held.items() if now < until}
