"""What the scene of routing and cache has seen so far: all that its tables show."""

from collections import Counter
from dataclasses import dataclass, field

from integration.scenes.judge import Holders


@dataclass
class NodeSeen:
    """What was seen of one node: calls, those of them that had to wait for a load, and models that came and went.

    `homes`: how many models have it as the first node of their order.
    """

    homes: int = 0
    calls: int = 0
    cold: int = 0
    loads: int = 0
    evictions: int = 0


@dataclass
class LibrarySeen:
    """What was seen by one client library: latencies in ms, and replies that differ."""

    direct: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    different: int = 0


@dataclass
class Seen:
    """All that the tables show."""

    nodes: dict[str, NodeSeen]
    libraries: dict[str, LibrarySeen]
    holders: Holders = field(default_factory=dict)
    right: Counter[str] = field(default_factory=Counter)
    """Images read rightly, by kind of model, and `images`: all of them."""
    images: Counter[str] = field(default_factory=Counter)
