"""What the scene of routing and cache has seen so far, and the tables that show it."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table

from integration.peers.clients.client import Client
from integration.scenes.judge import NOBODY, Holders
from integration.stack import models

_STYLES = ("cyan", "magenta", "yellow", "green")


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


def while_playing(seen: Seen) -> Group:
    """What changes with each call: nodes and who holds what."""
    return Group(_nodes(seen), _holders(seen))


def after_playing(seen: Seen, clients: Sequence[Client]) -> Group:
    """The tables that end the scene: nodes, client libraries, holders of models."""
    return Group(_nodes(seen), _libraries(seen, clients), _holders(seen))


def _nodes(seen: Seen) -> Table:
    title = "What the nodes did. A hit found its model loaded; for a cold call it was loaded first."
    table = Table(title=title, title_justify="left")
    table.add_column("node")
    for heading in ("calls", "hits", "cold", "loads", "evictions", "models at home here", "models held"):
        table.add_column(heading, justify="right")
    for name, node in seen.nodes.items():
        held = sum(name in holders for holders in seen.holders.values())
        numbers = (node.calls, node.calls - node.cold, node.cold, node.loads, node.evictions, node.homes, held)
        table.add_row(_coloured(name, seen), *map(str, numbers))
    return table


def _libraries(seen: Seen, clients: Sequence[Client]) -> Table:
    title = "What the clients saw: medians in ms. Directly means from a model server that holds everything."
    table = Table(title=title, title_justify="left")
    table.add_column("protocol")
    table.add_column("client library")
    for heading in ("calls", "directly", "hits", "cold", "replies that differ"):
        table.add_column(heading, justify="right")
    for client in clients:
        library = seen.libraries[client.protocol]
        medians = (_median(times) for times in (library.direct, library.hits, library.cold))
        calls = len(library.hits) + len(library.cold)
        table.add_row(client.protocol, client.library, str(calls), *medians, str(library.different))
    return table


def _holders(seen: Seen) -> Table:
    table = Table(
        title="Who holds what. An empty place: evicted, or not called yet", title_justify="left", show_footer=True
    )
    table.add_column("tenant", footer="images read rightly")
    for kind in models.KINDS:
        read = seen.images[kind]
        table.add_column(kind, footer=f"{seen.right[kind] / read:.1%}" if read else "")
    for tenant in models.TENANTS:
        names = (models.model_name(tenant, kind) for kind in models.KINDS)
        table.add_row(tenant, *(_place(name, seen) for name in names))
    return table


def _place(model: str, seen: Seen) -> str:
    nodes = sorted(seen.holders.get(model, NOBODY))
    return ", ".join(_coloured(node, seen) for node in nodes)


def _coloured(node: str, seen: Seen) -> str:
    style = _STYLES[list(seen.nodes).index(node) % len(_STYLES)]
    return f"[{style}]{node}[/{style}]"


def _median(milliseconds: Sequence[float]) -> str:
    return f"{statistics.median(milliseconds):.1f}" if milliseconds else ""
