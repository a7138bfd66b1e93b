"""Wires the parts of one process together, and runs them until SIGTERM. The only place that knows them all."""

import asyncio
import logging
import pathlib
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.registry import Collector

from ext_proc import config as configuration
from ext_proc.broker.estimates import Path
from ext_proc.broker.plan import Candidate
from ext_proc.edge import Edge
from ext_proc.errors import ConfigError
from ext_proc.hop import HopMark
from ext_proc.reload import watch
from ext_proc.telemetry import logs
from ext_proc.telemetry.metrics import Metrics, exposition
from ext_proc.transport.admin import Admin
from ext_proc.transport.broker import broker
from ext_proc.transport.candidate import Candidates
from ext_proc.transport.pump import Pump
from ext_proc.transport.server import Server
from mesh.discovery.probe import EndpointProbe
from mesh.discovery.prober import Prober
from mesh.discovery.registry import Registry
from mesh.discovery.static import StaticSource
from mesh.node import Node
from mesh.routing.pick import Router

logger = logging.getLogger(__name__)

# What the other sections say is taken over by a reload.
READ_AT_START = ("server", "routing", "probe", "broker")


class App:
    """One `tbms serve` process. Raises ConfigError at once if the file is wrong."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._config = configuration.load(path)
        self._metrics = Metrics()
        self._collectors: list[Collector] = [self._metrics]
        self._router = Router(self._config.routing)
        self._hop = HopMark(secrets.token_hex(16))
        self._edge = Edge(self._router, self._config.catalogue(), self._hop, self._config.limits.body_bytes)
        probe = self._config.probe
        self._prober = Prober(probe, EndpointProbe(probe), self._router.set_alive, seed=random.getrandbits(64))
        self._static = StaticSource(self._nodes())
        self._registry = Registry({"the configuration": self._static}, self._router, self._prober)
        self._draining = False
        self._started = time.time()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains."""
        logs.configure(self._config.server.log.level, self._config.server.log.format)
        stop, wake = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, wake.set)
        settings = self._config.server
        server = Server(settings, Pump(self._edge, self._metrics).process)
        admin = Admin(settings.admin, self._ready, self._exposition, self._status)
        async with self._brokering(), asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._registry.run()),
                tasks.create_task(watch(self._path, wake)),
                tasks.create_task(self._reload_on(wake)),
            ]
            await self._registry.ready.wait()
            await admin.start()
            await server.start()
            logger.info("serving", extra={"address": server.address, "admin": settings.admin})
            await stop.wait()
            self._draining = True
            logger.info("draining", extra={"streams": self._metrics.streams})
            await server.stop(settings.drain_seconds)
            await admin.stop()
            for task in background:
                task.cancel()
        logger.info("stopped")

    @asynccontextmanager
    async def _brokering(self) -> AsyncIterator[None]:
        """Races go out through Envoy's egress listener for the length of the block."""
        config = self._config
        egress, limit = config.server.egress or config.envoy.egress, config.limits.body_bytes
        candidates = Candidates(self._edge, self._hop, lambda: self._edge.body_limit)
        async with broker(config.broker, egress, candidates, limit, self._path_of, time.monotonic) as ours:
            self._edge.broker = ours.decide
            self._collectors.extend(ours.collectors())
            yield

    def _path_of(self, candidate: Candidate) -> Path:
        return Path.COLD if self._router.is_cold(candidate.model) else Path.RESIDENT

    async def _reload_on(self, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            await self._reload()

    async def _reload(self) -> None:
        """Takes the file's new content over; a file that is wrong changes nothing."""
        try:
            config = await asyncio.to_thread(configuration.load, self._path)
        except ConfigError as error:
            self._metrics.reloads["refused"] += 1
            logger.error("configuration refused, the old one stays", extra={"cause": str(error)})
            return
        for section in READ_AT_START:
            if getattr(config, section) != getattr(self._config, section):
                logger.warning("this section is read at a start only; restart to change it", extra={"section": section})
        self._config = config
        self._edge.body_limit = config.limits.body_bytes
        self._edge.catalogue = config.catalogue()
        self._static.replace(self._nodes())
        self._metrics.reloads["taken"] += 1
        logger.info("configuration taken", extra={"nodes": len(config.nodes)})

    def _nodes(self) -> tuple[Node, ...]:
        return tuple(node.node() for node in self._config.nodes)

    def _ready(self) -> bool:
        return not self._draining

    def _exposition(self) -> bytes:
        nodes = self._router.nodes
        self._metrics.nodes = len(nodes)
        self._metrics.nodes_alive = sum(self._router.is_alive(node.id) for node in nodes)
        return exposition(self._collectors)

    def _status(self) -> dict[str, Any]:
        return {
            "role": "edge",
            "uptime_seconds": round(time.time() - self._started, 1),
            "draining": self._draining,
            "config": str(self._path),
            "streams": self._metrics.streams,
            "nodes": [self._node_status(node) for node in self._router.nodes],
            "left_out": self._registry.conflicts,
            "sources_failed": self._registry.failures,
        }

    def _node_status(self, node: Node) -> dict[str, Any]:
        return {
            "id": node.id,
            "grpc": node.grpc,
            "rest": node.rest,
            "zone": node.zone,
            "weight": node.weight,
            "alive": self._router.is_alive(node.id),
            "cause": self._prober.cause(node.id),
            "load": round(self._router.load(node.id), 2),
            "declared_models": len(node.models),
        }
