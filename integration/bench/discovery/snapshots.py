"""What a snapshot of many nodes costs an edge: reading what a service says, and applying it.

Reading is from the bytes of the reply to nodes. Applying is all that the edge's registry makes of them: the merge, the
router, a task for each node that probes it, and the files for Envoy. CPU of the whole process, its threads included.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from ext_proc.edge.endpoint_files import EndpointFiles
from ext_proc.process.heap import settle_heap
from integration.peers.kubernetes_api import pod, ports
from integration.peers.kuma_overview import dataplane
from mesh.discovery.etcd_client import b64
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

Read = Callable[[bytes], NodeSet]


@dataclass(frozen=True)
class Snapshot:
    """Of one source: medians in ms of CPU. `kib`: what it had to read."""

    source: str
    kib: float
    read_ms: float
    applied_ms: float

    @property
    def ms(self) -> float:
        """All of it."""
        return self.read_ms + self.applied_ms


async def snapshots() -> list[Snapshot]:
    """One row for each source whose reply holds all nodes."""
    return await asyncio.to_thread(uvloop.run, _snapshots())  # on the loop of `tbms serve`


async def _snapshots() -> list[Snapshot]:
    rows = []
    for place, (name, (text, read)) in enumerate(REPLIES.items()):
        reads, applied, size = [], [], 0
        for repeat in range(_REPEATS):
            # Ports that were never seen: what was read of an endpoint is remembered.
            reply = as_bytes(text(10_000 + 100 * place + 2 * repeat))
            size = len(reply)
            settle_heap()  # as a server that has started
            began = time.process_time()
            found = read(reply)
            reads.append(1e3 * (time.process_time() - began))
            applied.append(await _applied(found))
        rows.append(Snapshot(name, size / 1024, statistics.median(reads), statistics.median(applied)))
    return rows


def as_bytes(document: Any) -> bytes:
    """As it comes over the wire."""
    return json.dumps(document).encode()


class _Handed:
    """A source that says what it is handed."""

    def __init__(self) -> None:
        self.next: asyncio.Queue[NodeSet] = asyncio.Queue()

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        while True:
            yield await self.next.get()


async def _applied(found: NodeSet) -> float:
    router, source = Router(RoutingSettings(), CacheMap(), LoadWaits()), _Handed()
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as folder:
        files = EndpointFiles(Path(folder), lambda: True)
        prober = Prober(ProbeSettings(), _well, router.set_alive, seed=1)
        registry = Registry({"bench": source}, router, prober, files)
        task = asyncio.create_task(registry.run())
        try:
            source.next.put_nowait(NodeSet((), ()))
            await files.written.wait()
            await asyncio.sleep(2 * SPACING)
            files.written.clear()
            settle_heap()
            began = time.process_time()
            source.next.put_nowait(found)
            await files.written.wait()
            took = 1e3 * (time.process_time() - began)
            assert len(router.nodes) == NODES
        finally:
            task.cancel()
            await asyncio.wait([task])
    return took


async def _well(_: Node) -> str | None:
    await asyncio.sleep(3600)  # an answer would be work of the probes
    return None


def _ip(number: int) -> str:
    return f"10.1.{number // 250}.{number % 250 + 1}"


def _etcd(port: int) -> Any:
    def entry(number: int) -> dict[str, str]:
        value = {"grpc": f"{_ip(number)}:{port}", "rest": f"{_ip(number)}:{port + 1}", "zone": "a", "weight": 1}
        key = f"/tbms/nodes/node-{number:04}"
        return {"key": b64(key.encode()), "value": b64(json.dumps(value).encode()), "mod_revision": str(number)}

    return {"kvs": [entry(number) for number in range(NODES)]}


def _read_etcd(reply: bytes) -> NodeSet:
    settings = etcd.EtcdSettings(kind="etcd", endpoints=("http://127.0.0.1:2379",))
    return etcd.nodes_of(dict(map(etcd.entry_of, json.loads(reply)["kvs"])), settings)


def _consul(port: int) -> Any:
    def instance(number: int) -> dict[str, Any]:
        meta = {"grpc": str(port), "rest": str(port + 1), "residency": "9903", "zone": "a"}
        service = {"ID": f"node-{number:04}", "Service": "models", "Address": _ip(number), "Port": port, "Meta": meta}
        check = {"Node": "vm", "CheckID": f"tbms:node-{number:04}", "Status": "passing", "Output": "", "Type": "ttl"}
        return {"Node": {"Node": "vm", "Address": _ip(number)}, "Service": service, "Checks": [check]}

    return [instance(number) for number in range(NODES)]


def _read_consul(reply: bytes) -> NodeSet:
    return consul.nodes_of(json.loads(reply), consul.ConsulSettings(kind="consul", service="models"))


def _kubernetes(port: int) -> Any:
    def piece(number: int) -> dict[str, Any]:
        metadata = {"name": f"models-{number}", "labels": {"kubernetes.io/service-name": "models"}}
        endpoints = [pod(f"node-{n:04}", _ip(n)) for n in range(100 * number, 100 * number + 100)]
        both = ports(grpc=port, http=port + 1)
        return {"metadata": metadata, "addressType": "IPv4", "ports": both, "endpoints": endpoints}

    return {"items": [piece(number) for number in range(NODES // 100)]}


def _read_kubernetes(reply: bytes) -> NodeSet:
    settings = kubernetes.KubernetesSettings(kind="kubernetes", service="models", grpc="grpc", rest="http")
    return kubernetes.nodes_of({item["metadata"]["name"]: item for item in json.loads(reply)["items"]}, settings)


def _kuma(port: int) -> Any:
    inbounds, labels = {"grpc": port, "http": port + 1}, {"kuma.io/workload": "models", "kuma.io/zone": "a"}
    return [dataplane(f"node-{number:04}", _ip(number), inbounds, **labels) for number in range(NODES)]


def _read_kuma(reply: bytes) -> NodeSet:
    fields = {"kind": "kuma", "url": "http://127.0.0.1:5681", "labels": {"kuma.io/workload": "models"}}
    settings = kuma.KumaSettings.model_validate({**fields, "grpc": "grpc", "rest": "http"})
    return kuma.nodes_of(json.loads(reply), settings)


REPLIES: dict[str, tuple[Callable[[int], Any], Read]] = {
    "etcd": (_etcd, _read_etcd), "consul": (_consul, _read_consul), "kubernetes": (_kubernetes, _read_kubernetes),
    "kuma": (_kuma, _read_kuma),
}  # fmt: skip
