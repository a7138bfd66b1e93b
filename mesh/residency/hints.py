"""What nodes say in their replies while their residency streams are away: less than a stream, more than nothing.

Such a node is asked by some of the calls that go to it anyway. What it says holds for a while only, since nothing
tells when it is no longer true; calls that go on renew it.
"""

from mesh.bounded import keep_newest
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.state import Residency

MOST = 10_000
"""Models of one node that are remembered."""


class ReplyHints:
    """Pure: time comes in as `now`, in seconds of one monotonic clock. `remember` is how long a word holds, in seconds.

    A node is asked about a model at most twice in that time, however many calls there are.
    """

    def __init__(self, cache_map: CacheMap, remember: float) -> None:
        self._cache_map = cache_map
        self._remember = remember
        self.silent: dict[str, str] = {}
        """`ip:port` -> id of the nodes that should be heard, and are not. Empty as long as all is well."""
        self._asked: dict[str, dict[str, float]] = {}
        self._told: dict[str, dict[str, float]] = {}
        self._leaving: dict[str, float] = {}

    def silence(self, node: Node) -> None:
        """The node's stream is away."""
        if node.id not in self._asked:
            self._asked[node.id], self._told[node.id] = {}, {}
        self._remove(node.id)
        self.silent.update(dict.fromkeys(node.endpoints, node.id))

    def heard(self, node_id: str) -> None:
        """The node's stream is there, or the node has gone: what it said in replies is void."""
        if node_id in self._asked:
            self._remove(node_id)
            del self._asked[node_id], self._told[node_id]
            self._leaving.pop(node_id, None)

    def wants_residency(self, endpoint: str | None, model: str, now: float) -> bool:
        """Whether a call for the model that is about to go to `endpoint` (`ip:port`) is to ask how it stands there."""
        node_id = self.silent.get(endpoint or "")
        if node_id is None:
            return False
        asked = self._asked[node_id]
        if now < asked.get(model, now):
            return False
        keep_newest(asked, model, now + self._remember / 2, MOST)
        return True

    def told(self, endpoint: str | None, model: str, state: Residency, leaving: bool, now: float) -> None:
        """The node at `endpoint` has said so. Of no effect unless that is a node whose stream is away."""
        node_id = self.silent.get(endpoint or "")
        if node_id is None:
            return
        dropped = keep_newest(self._told[node_id], model, now + self._remember, MOST)
        self._cache_map.hint(node_id, model, state)
        if dropped is not None:
            self._cache_map.hint(node_id, dropped, Residency.ABSENT)
        if leaving:
            self._leaving[node_id] = now + self._remember
        else:
            self._leaving.pop(node_id, None)
        self._cache_map.leave(node_id, leaving)

    def expire(self, node_id: str, now: float) -> None:
        """Forget what is too old. To be called now and then while the node's stream is away."""
        told = self._told.get(node_id, {})
        for model in _until(told, now):
            del told[model]
            self._cache_map.hint(node_id, model, Residency.ABSENT)
        asked = self._asked.get(node_id, {})
        for model in _until(asked, now):
            del asked[model]
        if now >= self._leaving.get(node_id, now + 1.0):
            del self._leaving[node_id]
            self._cache_map.leave(node_id, False)

    def _remove(self, node_id: str) -> None:
        for endpoint in [each for each, silent in self.silent.items() if silent == node_id]:
            del self.silent[endpoint]


def _until(times: dict[str, float], now: float) -> list[str]:
    """The models whose time is over; they stand first, in the order in which they were taken down."""
    over = []
    for model, until in times.items():
        if until > now:
            break
        over.append(model)
    return over
