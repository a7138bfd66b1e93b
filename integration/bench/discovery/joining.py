"""How long it takes from a change in a service until calls know: through a real edge and its Envoy, for one source.

One node stays, others join and leave one after the other. Each is the home of the model that is called, and has a name
and an address of its own, as one that comes back again and again is held back on purpose. The clock starts before the
service is told. Calls go out one at a time, and a header of Envoy's says who answered.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ext_proc.edge.endpoint_files import update_endpoint_files
from integration.peers.ways import ZONE, ByDns, Way
from integration.stack.known_to_envoy import KnownToEnvoy
from integration.stack.sidecar import Section, Sidecar
from mesh.address import parse_endpoint
from mesh.node import Node
from mesh.routing.rendezvous import Rendezvous

_PATIENCE = 30.0
_PAUSE = 0.005  # between two calls
_AFTERWARDS = 40  # calls after the first that misses a node that left: none may reach it
_STAYS = "node-stays"
ROUTING: dict[str, Section | Sequence[Any]] = {"routing": {"replicas": 1, "load_floor": 1e6}}


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
    """What the edge's own Envoy knows, out of files that somebody else writes. A node's name is its address."""

    section: dict[str, Any]

    def __init__(self, endpoints: Path) -> None:
        self.nodes: list[Node] = []
        self.endpoints = endpoints

    async def join(self, node: Node) -> None:
        """See `Way`."""
        self.nodes.append(node)
        await asyncio.to_thread(update_endpoint_files, self.endpoints, self.nodes)

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        self.nodes.remove(node)
        await asyncio.to_thread(update_endpoint_files, self.endpoints, self.nodes)


async def joining(source: str, way: Way, stays: str, comes: Iterable[str], folder: Path) -> Joining:
    """`stays` is the endpoint of the node that stays, for REST and gRPC alike; `comes` are the others'."""
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
        for number, endpoint in enumerate(comes):
            joiner = Node(f"node-{number}", endpoint, endpoint)
            model = model_of(_called(way, first), _called(way, joiner))
            await _until(http, model, stays)
            joins.append(await _seconds(way.join(joiner), http, model, endpoint))
            leaves.append(await _seconds(way.leave(joiner), http, model, stays))
            for _ in range(_AFTERWARDS):
                assert await _answered_by(http, model) == stays
    return Joining(source, joins, leaves)


def _called(way: Way, node: Node) -> str:
    """The name that the edge gets to know."""
    match way:
        case ByEnvoy():
            return parse_endpoint(node.rest or "").host
        case ByDns():
            return f"{node.id}.{ZONE}"
        case _:
            return node.id


def model_of(stays: str, comes: str) -> str:
    """A model whose home among these two is the second."""
    ring = Rendezvous([(stays, 1.0), (comes, 1.0)])
    names = (f"model-{number}" for number in itertools.count())
    return next(name for name in names if ring.ids[ring.order(name)[0]] == comes)


async def _seconds(change: Awaitable[None], http: aiohttp.ClientSession, model: str, wanted: str) -> float:
    clock = asyncio.get_running_loop().time
    began = clock()
    await change
    await _until(http, model, wanted)
    return clock() - began


async def _until(http: aiohttp.ClientSession, model: str, wanted: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while await _answered_by(http, model) != wanted:
            await asyncio.sleep(_PAUSE)


async def _answered_by(http: aiohttp.ClientSession, model: str) -> str | None:
    async with http.post(f"/v1/models/{model}:predict", json={"instances": [[1]]}) as reply:
        await reply.read()
        return reply.headers.get("x-tbms-upstream")
