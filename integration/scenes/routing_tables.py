"""The tables of the scene of routing and cache."""

import statistics
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from integration.peers.clients.client import Client
from integration.scenes.judge import NOBODY
from integration.scenes.seen import Seen
from integration.stack import models

_STYLES = ("cyan", "magenta", "yellow", "green")


def while_playing(seen: Seen) -> Group:
    """What changes with each call: nodes and who holds what."""
    return Group(_nodes(seen), _holders(seen))


def after_playing(seen: Seen, clients: Sequence[Client]) -> Group:
    """All of it."""
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
