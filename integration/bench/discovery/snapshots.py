"""What a snapshot of many nodes costs an edge: reading what a service says, and applying it.

Reading is from the bytes of the reply to nodes. Applying is all that the edge's registry makes of them: the merge, the
router, a task for each node that probes it, and the files for Envoy. Both again for the next reply, in which one node
is gone. CPU of the whole process, its threads included.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uvloop

from ext_proc.edge.endpoint_files import EndpointFiles
from ext_proc.process.heap import settle_heap
from integration.peers.kubernetes_api import pod, ports
from integration.peers.kuma_overview import dataplane
from mesh.discovery.etcd_client import b64
from mesh.discovery.finds import Finds
from mesh.discovery.merge import NodeSet
from mesh.discovery.registry import Registry
from mesh.discovery.sightings import SPACING
from mesh.discovery.sources import consul, etcd, kubernetes, kuma
from mesh.health.prober import Prober
from mesh.health.state import ProbeSettings
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

NODES = 1000
_REPEATS = 7


@dataclass(frozen=True)
class Snapshot:
    """Of one source: medians in ms of CPU. `kib`: what it had to read. `change_ms`: that one of these nodes has left,
    read and applied.
    """

    source: str
    kib: float
    read_ms: float
    applied_ms: float
    change_ms: float

    @property
    def ms(self) -> float:
        """All of the first snapshot."""
        return self.read_ms + self.applied_ms


@dataclass(frozen=True)
class Service:
    """What a service says, and how it is read: `reply` is its list of so many nodes, which share nothing with those of
    another `series`; `entries` come out of its bytes. One that is `watched` tells of a change by a line alone.
    """

    reply: Callable[[int, int], Any]
    entries: Callable[[bytes], Any]
    nodes: Callable[[Any, Finds], NodeSet]
    watched: bool = False


async def snapshots() -> list[Snapshot]:
    """One row for each source whose reply holds all nodes."""
    return await asyncio.to_thread(uvloop.run, _snapshots())  # on the loop of `tbms serve`


async def _snapshots() -> list[Snapshot]:
    rows = []
    for place, (name, service) in enumerate(SERVICES.items()):
        # Nodes that were never seen: what was read of one is remembered.
        measured = [await _measured(service, _REPEATS * place + repeat) for repeat in range(_REPEATS)]
        size = len(as_bytes(service.reply(0, NODES)))
        rows.append(Snapshot(name, size / 1024, *map(statistics.median, zip(*measured, strict=True))))
    return rows


async def _measured(service: Service, series: int) -> tuple[float, float, float]:
    """Reading and applying all nodes, and both for all but one."""
    whole, less = (as_bytes(service.reply(series, nodes)) for nodes in (NODES, NODES - 1))
    finds, known = Finds(), service.entries(less)
    async with _Edge() as edge:
        settle_heap()  # as a server that has started
        began = time.process_time()
        found = service.nodes(service.entries(whole), finds)
        read = time.process_time()
        await edge.takes(found)
        applied = time.process_time()
        await asyncio.sleep(2 * SPACING)
        settle_heap()
        changed = time.process_time()
        await edge.takes(service.nodes(known if service.watched else service.entries(less), finds))
        ended = time.process_time()
    return 1e3 * (read - began), 1e3 * (applied - read), 1e3 * (ended - changed)


def as_bytes(document: Any) -> bytes:
    """As it comes over the wire."""
    return json.dumps(document).encode()


class _Edge:
    """What an edge makes of its nodes, and a source that says what it is handed."""

    def __init__(self) -> None:
        self._next: asyncio.Queue[NodeSet] = asyncio.Queue()
        self._folder = tempfile.TemporaryDirectory(prefix="tbms-bench-")
        self._files = EndpointFiles(Path(self._folder.name), lambda: True)
        self._router = Router(RoutingSettings(), CacheMap(), LoadWaits())
        prober = Prober(ProbeSettings(), _well, self._router.set_alive, seed=1)
        self._registry = Registry({"bench": self}, self._router, prober, self._files)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._registry.run())
        await self.takes(NodeSet((), ()))
        await asyncio.sleep(2 * SPACING)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._folder.cleanup()

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        while True:
            yield await self._next.get()

    async def takes(self, found: NodeSet) -> None:
        """These are its nodes; until its files have them."""
        self._files.written.clear()
        self._next.put_nowait(found)
        await self._files.written.wait()
        assert len(self._router.nodes) == len(found.nodes)


async def _well(_: Node) -> str | None:
    await asyncio.sleep(3600)  # an answer would be work of the probes
    return None


def _ip(series: int, number: int) -> str:
    return f"10.{series}.{number // 250}.{number % 250 + 1}"


def _id(series: int, number: int) -> str:
    return f"node-{series}-{number:04}"


def _etcd(series: int, nodes: int) -> Any:
    def entry(number: int) -> dict[str, str]:
        ip = _ip(series, number)
        value = {"grpc": f"{ip}:8500", "rest": f"{ip}:8501", "zone": "a", "weight": 1}
        key = f"/tbms/nodes/{_id(series, number)}"
        return {"key": b64(key.encode()), "value": b64(json.dumps(value).encode()), "mod_revision": str(number)}

    return {"kvs": [entry(number) for number in range(nodes)]}


def _entries_of_etcd(reply: bytes) -> Any:
    return dict(map(etcd.entry_of, json.loads(reply)["kvs"]))


def _read_etcd(entries: Any, finds: Finds) -> NodeSet:
    settings = etcd.EtcdSettings(kind="etcd", endpoints=("http://127.0.0.1:2379",))
    return etcd.nodes_of(entries, settings, finds)


def _consul(series: int, nodes: int) -> Any:
    def instance(number: int) -> dict[str, Any]:
        name, ip = _id(series, number), _ip(series, number)
        meta = {"grpc": "8500", "rest": "8501", "residency": "9903", "zone": "a"}
        service = {"ID": name, "Service": "models", "Address": ip, "Port": 8500, "Meta": meta}
        check = {"Node": "vm", "CheckID": f"tbms:{name}", "Status": "passing", "Output": "", "Type": "ttl"}
        return {"Node": {"Node": "vm", "Address": ip}, "Service": service, "Checks": [check]}

    return [instance(number) for number in range(nodes)]


def _read_consul(entries: Any, finds: Finds) -> NodeSet:
    return consul.nodes_of(entries, consul.ConsulSettings(kind="consul", service="models"), finds)


def _kubernetes(series: int, nodes: int) -> Any:
    def piece(number: int) -> dict[str, Any]:
        metadata = {"name": f"models-{number}", "labels": {"kubernetes.io/service-name": "models"}}
        numbers = range(100 * number, min(100 * number + 100, nodes))
        endpoints = [pod(_id(series, n), _ip(series, n)) for n in numbers]
        both = ports(grpc=8500, http=8501)
        return {"metadata": metadata, "addressType": "IPv4", "ports": both, "endpoints": endpoints}

    return {"items": [piece(number) for number in range(NODES // 100)]}


def _entries_of_kubernetes(reply: bytes) -> Any:
    return {item["metadata"]["name"]: item for item in json.loads(reply)["items"]}


def _read_kubernetes(entries: Any, finds: Finds) -> NodeSet:
    settings = kubernetes.KubernetesSettings(kind="kubernetes", service="models", grpc="grpc", rest="http")
    return kubernetes.nodes_of(entries, settings, finds)


def _kuma(series: int, nodes: int) -> Any:
    inbounds, labels = {"grpc": 8500, "http": 8501}, {"kuma.io/workload": "models", "kuma.io/zone": "a"}
    return [dataplane(_id(series, number), _ip(series, number), inbounds, **labels) for number in range(nodes)]


def _read_kuma(entries: Any, finds: Finds) -> NodeSet:
    fields = {"kind": "kuma", "url": "http://127.0.0.1:5681", "labels": {"kuma.io/workload": "models"}}
    settings = kuma.KumaSettings.model_validate({**fields, "grpc": "grpc", "rest": "http"})
    return kuma.nodes_of(entries, settings, finds=finds)


SERVICES = {
    "etcd": Service(_etcd, _entries_of_etcd, _read_etcd, watched=True),
    "consul": Service(_consul, json.loads, _read_consul),
    "kubernetes": Service(_kubernetes, _entries_of_kubernetes, _read_kubernetes, watched=True),
    "kuma": Service(_kuma, json.loads, _read_kuma),
}
