"""Wires the parts of one process together, and runs them until SIGTERM. The only place that knows them all."""

import asyncio
import logging
import random
import signal
import time
from pathlib import Path
from typing import Any

from ext_proc import config as configuration
from ext_proc.edge import Edge
from ext_proc.errors import ConfigError
from ext_proc.reload import watch
from ext_proc.telemetry import logs
from ext_proc.telemetry.metrics import Metrics, exposition
from ext_proc.transport.admin import Admin
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
READ_AT_START = ("server", "routing", "probe")


class App:
    """One `tbms serve` process. Raises ConfigError at once if the file is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config = configuration.load(path)
        self._metrics = Metrics()
        self._router = Router(self._config.routing)
        self._edge = Edge(self._router, self._config.limits.body_bytes)
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
        async with asyncio.TaskGroup() as tasks:
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
        return exposition([self._metrics])

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
