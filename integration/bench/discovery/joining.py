"""How long it takes from a change in a service until calls know: through a real edge and its Envoy, for one source.

One node stays, another joins and leaves again and again, each time under a new name (one that comes back is held
back on purpose) that makes it the home of the model that is called. The clock starts before the service is told. Calls
go out one at a time, and a header of Envoy's says who answered.
"""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ext_proc.edge.endpoint_files import update_endpoint_files
from integration.peers.ways import Way
from integration.stack.known_to_envoy import KnownToEnvoy
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from mesh.routing.rendezvous import Rendezvous

REPEATS = 15
_PATIENCE = 30.0
_PAUSE = 0.005  # between two calls
_AFTERWARDS = 40  # calls after the first that misses a node that left: none may reach it
_MODEL, _STAYS = "digits", "node-stays"
ROUTING = {"routing": {"replicas": 1, "load_floor": 1e6}}


@dataclass(frozen=True)
class Joining:
    """Of one source: seconds from each join to the first call that the node gets, and from each leave to the last."""

    source: str
    joins: list[float]
    leaves: list[float]


class ByReload:
    """A `static` entry of the configuration, which is written anew. `edge` is whose it is."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.section: dict[str, Any] = {"kind": "static", "nodes": []}
        self.edge: Sidecar | None = None

    async def join(self, node: Node) -> None:
        """See `Way`."""
        self.nodes.append(node)
        self._write()

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        self.nodes.remove(node)
        self._write()

    def _write(self) -> None:
        nodes = [{"id": node.id, "grpc": node.grpc, "rest": node.rest} for node in self.nodes]
        self.section = {"kind": "static", "nodes": nodes}
        if self.edge is not None:
            self.edge.put("discovery", [self.section])
            self.edge.write_config()


class ByEnvoy:
    """What the edge's own Envoy knows, out of files that somebody else writes."""

    section: dict[str, Any]

    def __init__(self, endpoints: Path) -> None:
        self.nodes: list[Node] = []
        self.endpoints = endpoints

    async def join(self, node: Node) -> None:
        """See `Way`. Envoy's nodes have no names but their addresses."""
        self.nodes.append(node)
        await asyncio.to_thread(update_endpoint_files, self.endpoints, self.nodes)

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        self.nodes.remove(node)
        await asyncio.to_thread(update_endpoint_files, self.endpoints, self.nodes)


async def joining(source: str, way: Way, stays: str, comes: str, folder: Path) -> Joining:
    """`stays` and `comes` are the endpoints of the two nodes, for REST and gRPC alike."""
    first = Node(_STAYS, stays, stays)
    await way.join(first)
    edge: Sidecar
    if isinstance(way, ByEnvoy):
        edge = KnownToEnvoy(folder, way.endpoints, sections=ROUTING)
    else:
        sections = {**ROUTING, "discovery": [way.section], "envoy": {"endpoints_dir": str(folder / "endpoints")}}
        edge = Sidecar(folder, [], sections={**sections, "known": {"seconds": 1.0}})
    if isinstance(way, ByReload):
        way.edge = edge
    joins, leaves = [], []
    async with edge, aiohttp.ClientSession(edge.http) as http:
        await _until(http, stays)
        for joiner in itertools.islice(_homes(comes), REPEATS):
            joins.append(await _seconds(way.join(joiner), http, comes))
            leaves.append(await _seconds(way.leave(joiner), http, stays))
            for _ in range(_AFTERWARDS):
                assert await _answered_by(http) == stays
    return Joining(source, joins, leaves)


def _homes(endpoint: str) -> Iterator[Node]:
    """Nodes at that endpoint, each the home of the model beside the one that stays."""
    for number in itertools.count():
        node = Node(f"node-{number}", endpoint, endpoint)
        ring = Rendezvous([(_STAYS, 1.0), (node.id, 1.0)])
        if ring.ids[ring.order(_MODEL)[0]] == node.id:
            yield node


async def _seconds(change: Any, http: aiohttp.ClientSession, wanted: str) -> float:
    clock = asyncio.get_running_loop().time
    began = clock()
    await change
    await _until(http, wanted)
    return clock() - began


async def _until(http: aiohttp.ClientSession, wanted: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while await _answered_by(http) != wanted:
            await asyncio.sleep(_PAUSE)


async def _answered_by(http: aiohttp.ClientSession) -> str | None:
    async with http.post(f"/v1/models/{_MODEL}:predict", json={"instances": [[1]]}) as reply:
        await reply.read()
        return reply.headers.get("x-tbms-upstream")
