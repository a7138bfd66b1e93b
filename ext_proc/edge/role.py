"""The edge role wired together: nodes and their health, the router, the time broker, and the desk before them."""

import asyncio
import heapq
import logging
import math
import pathlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.web import AbstractRouteDef
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.broker.plan import Candidate
from ext_proc.config import Config
from ext_proc.edge.endpoint_files import write_endpoints
from ext_proc.edge.policy import EdgePolicy
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.wiring import broker
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call
from mesh.discovery.registry import Registry
from mesh.discovery.sources.static import StaticSource
from mesh.health.probe import EndpointProbe
from mesh.health.prober import Prober
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.residency.watcher import ResidencyWatches
from mesh.routing.placement import ExpectedWait
from mesh.routing.router import Router
from mesh.warming.plan import WarmPlan
from mesh.warming.warmer import Warmer

logger = logging.getLogger(__name__)

_MODELS_SHOWN = 2000


class EdgeRole(Collector):
    """See `ext_proc.process.role.Role`. It is its own metrics collector for the nodes."""

    name = "edge"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._cache_map = CacheMap()
        load_waits = LoadWaits()
        self._router = Router(config.routing, self._cache_map, load_waits)
        self._hop = HopMark(secrets.token_hex(16))
        hints = ReplyHints(self._cache_map, config.residency.remember)
        self.front = EdgePolicy(
            self._router,
            config.model_table(),
            self._hop,
            config.limits.body_bytes,
            hints,
            follows_replies=config.envoy.watch_responses,
        )
        self._prober = Prober(
            config.probe, EndpointProbe(config.probe), self._router.set_alive, seed=random.getrandbits(64)
        )
        self._plan = WarmPlan(config.warm, self._router, self._cache_map, self._free_models)
        self._watches = ResidencyWatches(
            config.residency,
            self._cache_map,
            random.getrandbits(64),
            self._may_hang_up,
            hints,
            load_waits,
        )
        self._warmer = Warmer(self._plan)
        followers = (
            (self._prober, self._watches, self._warmer) if config.warm.enabled else (self._prober, self._watches)
        )
        self._static = StaticSource(_nodes(config))
        self._registry = Registry({"the configuration": self._static}, self._router, *followers)
        self._collectors: list[Collector] = [self, self.front.unbrokered]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nodes are followed and probed, and races can go out through Envoy's egress listener."""
        config = self._config
        await asyncio.to_thread(self._tell_envoy, config)
        egress = config.server.egress or config.envoy.egress
        candidates = Candidates(self.front, self._hop, lambda: self.front.body_limit)
        async with (
            broker(config.broker, egress, candidates, self._expected_wait_of, time.monotonic) as ours,
            asyncio.TaskGroup() as tasks,
        ):
            self.front.broker = ours.decide
            self._collectors.extend(ours.collectors())
            registry = tasks.create_task(self._registry.run())
            try:
                await self._registry.ready.wait()
                yield
            finally:
                registry.cancel()

    def reload(self, config: Config) -> None:
        """Nodes, models and limits. Raises ConfigError, and changes nothing, if the models cannot be resolved."""
        self.front.model_table = config.model_table()
        self.front.body_limit = config.limits.body_bytes
        self._tell_envoy(config)
        self._static.replace(_nodes(config))

    def leave(self) -> None:
        """Envoys go to the other server by themselves."""

    async def left(self) -> None:
        """So nobody is waited for."""

    def routes(self) -> Iterable[AbstractRouteDef]:
        """Nothing: the nodes are on /status."""
        return ()

    def status(self) -> dict[str, Any]:
        """The nodes, as this edge sees them, and which of them hold what."""
        return {
            "nodes": [self._node_status(node) for node in self._router.nodes],
            "left_out": self._registry.conflicts,
            "sources_failed": self._registry.failures,
            **self._holders(),
        }

    def collectors(self) -> Iterable[Collector]:
        """Nodes and races."""
        return self._collectors

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        nodes = self._router.nodes
        alive = sum(self._router.is_alive(node.id) for node in nodes)
        yield GaugeMetricFamily("tbms_nodes", "Nodes known.", len(nodes))
        yield GaugeMetricFamily("tbms_nodes_alive", "Nodes that answer their probe.", alive)
        heard = sum(self._watches.heard(node.id) is not None for node in nodes)
        yield GaugeMetricFamily("tbms_nodes_heard", "Nodes that tell what they hold.", heard)
        yield GaugeMetricFamily("tbms_models_held", "Models of which some node has told.", len(self._cache_map))
        wide = len(self._router.widened_models)
        yield GaugeMetricFamily("tbms_models_widened", "Models spread over more nodes for their load.", wide)
        yield CounterMetricFamily("tbms_warmups", "Loads that nodes were asked for ahead of calls.", self._warmer.asked)
        yield CounterMetricFamily("tbms_warmups_refused", "Those that did not come about.", self._warmer.refused)

    def _tell_envoy(self, config: Config) -> None:
        folder = config.envoy.endpoints_dir
        if folder is None:
            return
        try:
            write_endpoints(pathlib.Path(folder), _nodes(config))
        except OSError as error:
            logger.error("Envoy's endpoint files cannot be written", extra={"folder": folder, "cause": str(error)})

    def _expected_wait_of(self, call: Call, candidate: Candidate) -> ExpectedWait:
        return self._router.expected_wait(candidate.model, time.monotonic(), call.protocol.kind)

    def _free_models(self, node_id: str) -> float:
        heard = self._watches.heard(node_id)
        return 0.0 if heard is None or heard.free_memory_bytes <= 0 else heard.free_models

    def _may_hang_up(self, node_id: str) -> bool:
        return not (self._config.warm.enabled and self._plan.needs(node_id))

    def _holders(self) -> dict[str, Any]:
        """Where each model is, of the first so many in the order of their names."""
        cache_map = self._cache_map
        names = cache_map.names()
        shown = heapq.nsmallest(_MODELS_SHOWN, names)
        holders = {
            model: {node: str(state.name).lower() for node, state in cache_map.holders(model).items()}
            for model in shown
        }
        return {"models": holders, "models_not_shown": len(names) - len(shown)}

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
            "residency": self._residency_status(node),
        }

    def _residency_status(self, node: Node) -> dict[str, Any] | None:
        if node.residency is None:
            return None
        heard = self._watches.heard(node.id)
        return {
            "address": node.residency,
            "heard": heard is not None,
            "cause": self._watches.cause(node.id),
            "leaving": self._cache_map.is_leaving(node.id),
            "free_models": None if heard is None or math.isinf(heard.free_models) else heard.free_models,
        }


def _nodes(config: Config) -> tuple[Node, ...]:
    return tuple(node.node() for node in config.nodes)
