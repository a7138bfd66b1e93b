"""The population of an edge: the nodes, whether they live, what they hold, and what they are to load.

One for a host, however many processes answer calls: it probes, follows and warms nodes, and writes what it learns to
the router, the cache map, the load waits and the hints that it is given.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.config import Config
from mesh.discovery.node_source import NodeSource
from mesh.discovery.registry import NodeSetListener, Registry
from mesh.discovery.sightings import SourceState
from mesh.discovery.sources import OpenSources
from mesh.discovery.sources.static import StaticSource
from mesh.health.probe import EndpointProbe
from mesh.health.prober import Probe, Prober
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.line import Heard
from mesh.residency.load_waits import LoadWaits
from mesh.residency.watcher import ResidencyWatches
from mesh.routing.router import Router
from mesh.warming.plan import WarmPlan
from mesh.warming.warmer import Warmer

_CONFIGURATION = "the configuration"


class Population(Collector):
    """Follows the nodes while `running`. It is its own metrics collector. `clock` in seconds, monotonic.

    `far_probe` probes the nodes that cannot be addressed from here. `listeners` are told of every change of the nodes,
    after all others.
    """

    def __init__(
        self,
        config: Config,
        router: Router,
        cache_map: CacheMap,
        load_waits: LoadWaits,
        hints: ReplyHints,
        clock: Callable[[], float],
        far_probe: Probe,
        *listeners: NodeSetListener,
    ) -> None:
        self._router = router
        self._cache_map = cache_map
        near_probe = EndpointProbe(config.probe)

        def probe(node: Node) -> Awaitable[str | None]:
            return far_probe(node) if node.is_far else near_probe(node)

        self._prober = Prober(config.probe, probe, router.set_alive, seed=_seed())
        self.observed = self._prober.observed
        self._warm_plan = WarmPlan(config.warm, router, cache_map, self._free_models)
        self._warms = config.warm.enabled
        self._watches = ResidencyWatches(
            config.residency, cache_map, _seed(), self._may_hang_up, hints, load_waits, clock
        )
        self._warmer = Warmer(self._warm_plan, clock)
        followers = (self._prober, self._watches, self._warmer) if self._warms else (self._prober, self._watches)
        self._static = StaticSource(configured_nodes(config))
        self._discovery = OpenSources(config.discovery)
        self._registry = Registry(
            self._sources(), router, *followers, *listeners, steady=[_CONFIGURATION], chance=random.random
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nodes are followed for the length of the block, which begins once every source has been heard."""
        async with asyncio.TaskGroup() as tasks:
            registry = tasks.create_task(self._registry.run())
            try:
                await self._registry.ready.wait()
                yield
            finally:
                registry.cancel()

    def reload(self, config: Config) -> None:
        """These are the nodes of the configuration, and the sources of others, from now on."""
        self._static.replace(configured_nodes(config))
        if self._discovery.replace(config.discovery):
            self._registry.replace(self._sources())

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes known, alive or not."""
        return self._router.nodes

    @property
    def conflicts(self) -> tuple[str, ...]:
        """One sentence for each node that was left out."""
        return self._registry.conflicts

    @property
    def complete(self) -> bool:
        """Whether every source of nodes has said at least once what its nodes are."""
        return self._registry.complete

    def sources(self) -> tuple[SourceState, ...]:
        """The sources of nodes as of now; while `running`."""
        return self._registry.states()

    def probe_failure(self, node_id: str) -> str | None:
        """Why the last probe of that node failed, or None if it did not."""
        return self._prober.cause(node_id)

    def heard(self, node_id: str) -> Heard | None:
        """What the node's residency stream said last; None while there is no stream."""
        return self._watches.heard(node_id)

    def unheard_cause(self, node_id: str) -> str | None:
        """Why there is no residency stream of that node."""
        return self._watches.cause(node_id)

    def collect(self) -> Iterable[Metric]:
        """The metrics of the nodes and of warm-ups, for prometheus-client."""
        router, nodes = self._router, self._router.nodes
        alive = sum(router.is_alive(node.id) for node in nodes)
        yield GaugeMetricFamily("tbms_nodes", "Nodes known.", len(nodes))
        yield GaugeMetricFamily("tbms_nodes_alive", "Nodes that answer their probe.", alive)
        heard = sum(self.heard(node.id) is not None for node in nodes)
        yield GaugeMetricFamily("tbms_nodes_heard", "Nodes that tell what they hold.", heard)
        yield GaugeMetricFamily("tbms_models_held", "Models of which some node has told.", len(self._cache_map))
        widened = len(router.widened_models)
        yield GaugeMetricFamily("tbms_models_widened", "Models spread over more nodes for their load.", widened)
        yield from self._source_metrics()
        yield CounterMetricFamily("tbms_warmups", "Loads that nodes were asked for ahead of calls.", self._warmer.asked)
        yield CounterMetricFamily("tbms_warmups_refused", "Those that did not come about.", self._warmer.refused)

    def _source_metrics(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("tbms_source_up", "Whether a source of nodes can say what they are.", labels=["source"])
        nodes = GaugeMetricFamily("tbms_source_nodes", "Nodes of a source, as it said last.", labels=["source"])
        held = GaugeMetricFamily("tbms_source_nodes_held", "Of these, held back: they flap.", labels=["source"])
        age = GaugeMetricFamily(
            "tbms_source_age_seconds", "Since a source last said what its nodes are.", labels=["source"]
        )
        for source in self.sources():
            up.add_metric([source.name], source.down is None)
            nodes.add_metric([source.name], source.nodes)
            held.add_metric([source.name], len(source.held))
            if source.age is not None:
                age.add_metric([source.name], source.age)
        yield from (up, nodes, held, age)

    def _sources(self) -> dict[str, NodeSource]:
        return {_CONFIGURATION: self._static, **self._discovery.by_name}

    def _free_models(self, node_id: str) -> float:
        heard = self.heard(node_id)
        return 0.0 if heard is None or heard.free_memory_bytes <= 0 else heard.free_models

    def _may_hang_up(self, node_id: str) -> bool:
        return not (self._warms and self._warm_plan.needs(node_id))


def configured_nodes(config: Config) -> tuple[Node, ...]:
    """The nodes that the configuration lists."""
    return tuple(node.node() for node in config.nodes)


def _seed() -> int:
    return random.getrandbits(64)
