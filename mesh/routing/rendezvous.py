"""Weighted rendezvous hashing: in which order the nodes are candidates for a model.

Every pair of model and node has a score that depends on that pair alone, and the best scores win.
So a node that leaves moves only the models that it had, and a node that joins takes only what it
now has the best score for. After Thaler and Ravishankar (1998); the weights after Schindelhauer and
Schomaker (2005): with u uniform in (0, 1), -ln(u) / weight is least for a node with a probability in
proportion to its weight. docs/decisions/030 says why this and no ring of virtual nodes.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

# The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit moves every output bit.
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_MULTIPLIER_1, _MULTIPLIER_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_TO_53_BITS = np.uint64(11)


class Rendezvous:
    """The order of a fixed population of nodes for any model.

    `nodes` are pairs of id and weight (positive). The same population gives the same order in every
    process, Python version and hash seed, in whatever order the pairs come.
    """

    def __init__(self, nodes: Iterable[tuple[str, float]]) -> None:
        population = sorted(nodes)
        self.ids = tuple(node_id for node_id, _ in population)
        self._seeds: npt.NDArray[np.uint64] = np.array([_seed(node_id) for node_id in self.ids], dtype=np.uint64)
        self._weights: npt.NDArray[np.float64] = np.array([weight for _, weight in population], dtype=np.float64)

    def order(self, model: str) -> list[int]:
        """Indices into `ids`, best first."""
        x = self._seeds ^ np.uint64(_hash(model, b"tbms model"))
        x = (x ^ (x >> _SHIFT_1)) * _MULTIPLIER_1
        x = (x ^ (x >> _SHIFT_2)) * _MULTIPLIER_2
        x ^= x >> _SHIFT_3
        uniform = ((x >> _TO_53_BITS) + 0.5) * 2.0**-53  # never 0 and never 1
        scores = np.log(uniform) / self._weights
        order: list[int] = np.argsort(-scores, kind="stable").tolist()
        return order


def nearest(key: bytes, nodes: Iterable[tuple[str, float]]) -> str:
    """The id of the node that comes first for a key that is already a hash; `nodes` as in `Rendezvous`, at least one.

    As even as the order of a model, worked out node by node: for keys that are asked for once.
    """
    return min((_distance(key, node_id, weight), node_id) for node_id, weight in nodes)[1]


def _distance(key: bytes, node_id: str, weight: float) -> float:
    uniform = ((_digest(node_id.encode("utf-8", "surrogatepass"), b"tbms session", key) >> 11) + 0.5) * 2.0**-53
    return -math.log(uniform) / weight


@lru_cache(maxsize=16_384)
def _seed(node_id: str) -> int:
    """Remembered: the population is set up anew at every change of one node."""
    return _hash(node_id, b"tbms node")


def _hash(text: str, purpose: bytes) -> int:
    return _digest(text.encode("utf-8", "surrogatepass"), purpose)


def _digest(data: bytes, purpose: bytes, key: bytes = b"") -> int:
    return int.from_bytes(blake2b(data, digest_size=8, person=purpose, key=key).digest(), "big")
