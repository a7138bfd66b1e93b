"""The node role wired together: store, model cache, model server, and the policy before them."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext

from aiohttp.web import AbstractRouteDef
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.admin.documents import Amounts, NodeDocument, NodeStatus, ProcessStatus, StatusDocument
from ext_proc.admin.explain_api import ExplainApi
from ext_proc.admin.http_port import HttpListener
from ext_proc.batching.terms import NO_TERMS
from ext_proc.config import Config
from ext_proc.gathering.company import wants
from ext_proc.gathering.gatherer import Gatherer
from ext_proc.known.status import known_status
from ext_proc.node.explaining import NodeExplainer, version_status
from ext_proc.node.known_calls import KnownCalls
from ext_proc.node.operator_api import OperatorApi
from ext_proc.node.policy import NodePolicy
from ext_proc.node.registering import Registering
from ext_proc.node.residency_publisher import ResidencyPublisher
from ext_proc.node.settings import NodeRoleSettings
from ext_proc.telemetry.batch_log import BatchLog
from ext_proc.telemetry.batches import BatchMetrics
from ext_proc.telemetry.cache import CacheReport
from ext_proc.telemetry.egress import EgressReport
from ext_proc.telemetry.known import KnownReport
from ext_proc.telemetry.model_labels import ModelLabels
from ext_proc.tracing.loads import LoadTraces
from ext_proc.tracing.opening import Tracing
from ext_proc.upstream.client import Upstream
from mesh.discovery.registration import open_registrations
from mesh.model_cache.books.states import Room
from mesh.model_cache.books.status import CacheStatus
from mesh.model_cache.loaders import open_loader
from mesh.model_cache.manager import Manager
from mesh.model_cache.stores import open_store

# A node is left by its edges once it was so at several looks: calls may be on the way in between.
_QUIET_LOOK_SECONDS = 0.1
_QUIET_LOOKS = 3


class NodeRole(Collector):
    """See `ext_proc.process.role.Role`. `clock` in seconds, monotonic; `tracing` where calls are traced."""

    name = "node"

    def __init__(
        self, config: Config, settings: NodeRoleSettings, clock: Callable[[], float], tracing: Tracing | None = None
    ) -> None:
        self._tracer = None if tracing is None else tracing.tracer
        self._settings = settings
        self._egress = config.server.egress or config.envoy.egress
        self._clock = clock
        self._batches = BatchMetrics(ModelLabels(lambda model: bool(self.manager.versions_of(model)), clock))
        self._body_limit = config.limits.body_bytes
        self._policy: NodePolicy | None = None
        self._manager: Manager | None = None
        self._publisher: ResidencyPublisher | None = None
        self._reports: list[Collector] = []
        self._upstream: Upstream | None = None
        self._known, self._known_off = self._known_calls(config), config.known_off
        registration = settings.registration
        self._registering = Registering(() if registration is None else open_registrations(registration))

    def _known_calls(self, config: Config) -> KnownCalls | None:
        """The map of known calls, where there is one."""
        settings = self._settings
        if (file := config.known_file) is None:
            return None
        batching = settings.batching
        return KnownCalls(
            config.known,
            file,
            config.envoy.admin,
            rest=settings.rest,
            grpc=settings.cache.loader.address,
            gathers=lambda model: batching is not None and wants(batching, model, NO_TERMS),
            clock=self._clock,
        )

    @property
    def accounts(self) -> KnownCalls | None:
        """The known calls, where there is a map; every other call is asked about, to the end of its reply."""
        return self._known

    @property
    def policy(self) -> NodePolicy:
        """Decides about calls, while `running`."""
        if self._policy is None:
            raise RuntimeError("the node role is not running")
        return self._policy

    @property
    def manager(self) -> Manager:
        """The model cache, while `running`."""
        if self._manager is None:
            raise RuntimeError("the node role is not running")
        return self._manager

    @property
    def publisher(self) -> ResidencyPublisher:
        """What edges are told, while `running`."""
        if self._publisher is None:
            raise RuntimeError("the node role is not running")
        return self._publisher

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The model cache works for the length of the block: adopts what the model server holds, loads, evicts."""
        cache = self._settings.cache
        async with open_loader(cache) as loader:
            known = self._known
            manager = Manager(
                cache, open_store(self._settings.store), loader, carried=None if known is None else known.let_go
            )
            async with manager.running(), nullcontext() if known is None else known.running(manager):
                self._manager = manager
                self._reports = [CacheReport(manager)]
                loads = None if self._tracer is None else LoadTraces(self._tracer)
                if loads is not None:
                    manager.load_listeners.append(loads.ended)
                self._publisher = ResidencyPublisher(manager, self._settings.heartbeat_seconds)
                async with self._gathering() as gatherer, self._publishing(self._publisher):
                    self._policy = NodePolicy(
                        manager,
                        self._body_limit,
                        self._settings.hold_seconds,
                        gatherer,
                        None if known is None else known.went_well,
                        None if loads is None else loads.hold,
                    )
                    async with self._registering.running():
                        yield

    @asynccontextmanager
    async def _gathering(self) -> AsyncIterator[Gatherer | None]:
        """Batches can go out for the length of the block, where there are to be any."""
        settings = self._settings.batching
        if settings is None:
            yield None
            return
        async with Upstream(self._egress, lambda: self._body_limit) as upstream, asyncio.TaskGroup() as group:
            self._upstream = upstream
            gatherer = Gatherer(settings, upstream, self._batches, self._clock, group=group, tracer=self._tracer)
            scheduler = gatherer.scheduler
            self._batches.schedulers = lambda: [scheduler]
            self._batches.log = BatchLog(settings, self._clock, lambda: scheduler.slots) if settings.log else None
            try:
                yield gatherer
            finally:
                gatherer.stop()

    def reload(self, config: Config) -> None:
        """Takes over the body limit; settings of cache and store are read at a start only."""
        self._body_limit = self.policy.body_limit = config.limits.body_bytes

    def ready(self) -> bool:
        """From the start on, but not while batches are asked for and cannot go out."""
        return self._upstream is None or self._upstream.reachable is not False

    def leave(self) -> None:
        """Announces to the edges that this node goes, and warms no model any more."""
        self.manager.node_report.leave()
        self.publisher.leaving = True
        if self._known is not None:
            self._known.leaving = True

    async def left(self) -> None:
        """Returns once no edge follows this node any more and no call or session uses it, both for a moment.

        Edges hang up when the models that they call here are loaded elsewhere: the node stays registered until then.
        Edges that do not follow it learn from its registration alone that it goes, which is taken back at once.
        """
        if not self.publisher.watchers:
            await self._registering.withdraw()
        quiet = 0
        while quiet < _QUIET_LOOKS:
            await asyncio.sleep(_QUIET_LOOK_SECONDS)
            quiet = 0 if self.publisher.watchers or self.manager.in_flight else quiet + 1
        await self._registering.withdraw()

    def routes(self) -> Iterable[AbstractRouteDef]:
        """For the admin port: commands of operators; for people the residency stream, and what becomes of a call."""
        explainer = NodeExplainer(self.policy, self.manager)
        return [
            *OperatorApi(self.manager).routes(),
            *self.publisher.routes(counted=False),
            *ExplainApi(explainer.explain).routes(),
        ]

    def status(self, process: ProcessStatus) -> StatusDocument:
        """Models, capacity and free room, why the model server is away, of which models no store could be asked."""
        document: NodeDocument = {
            "role": "node", **process, **_node_status(self.manager.status(), len(self.manager.sessions)),
        }  # fmt: skip
        document["publish"] = self._settings.publish
        if self._settings.batching is not None:
            document["batches"] = self._batches.status()
        if self._known is not None:
            document["known"] = known_status(self._known.keeper, self._clock())
        document["known_off"] = self._known_off
        return document

    def collectors(self) -> Iterable[Collector]:
        """What the cache did, this role (see `collect`), the map of known calls and batches, where there are any."""
        collectors: list[Collector] = [*self._reports, self]
        if self._known is not None:
            collectors.append(KnownReport(self._known.keeper))
        if (upstream := self._upstream) is not None:
            collectors += [self._batches, EgressReport(lambda: upstream.reachable)]
        return collectors

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client: what the role itself tells."""
        if self._known is not None:
            told = "Models unloaded though Envoy, asked in vain, may still have known them."
            yield CounterMetricFamily("tbms_known_unloads_untold", told, self._known.untold)
        registered = GaugeMetricFamily(
            "tbms_node_registered", "Whether a service of `node.registration` knows this node.", labels=["service"]
        )
        for service, stands in self._registering.states():
            registered.add_metric([service], stands)
        yield registered

    @asynccontextmanager
    async def _publishing(self, publisher: ResidencyPublisher) -> AsyncIterator[None]:
        """Edges are answered on `node.publish`, where it is set, for the length of the block."""
        if self._settings.publish is None:
            yield
            return
        listener = HttpListener("node.publish", self._settings.publish, publisher.routes())
        await listener.start()
        try:
            yield
        finally:
            await listener.stop()


def _node_status(status: CacheStatus, sessions: int) -> NodeStatus:
    return {
        "models": [version_status(model) for model in status.models],
        "capacity": _amounts(status.capacity),
        "free": _amounts(status.free),
        "model_server": status.server or "ok",
        "store_failures": dict(status.store),
        "sessions": sessions,
    }


def _amounts(room: Room) -> Amounts:
    return {
        "models": _bounded(room.models),
        "disk_bytes": _bounded(room.disk_bytes),
        "memory_bytes": _bounded(room.memory_bytes),
    }


def _bounded(amount: float) -> float | None:
    """JSON has no infinity: without a limit it is null."""
    return None if math.isinf(amount) else amount
