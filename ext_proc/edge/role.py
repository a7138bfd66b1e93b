"""The edge role wired together: the population of nodes, the races, and the policy before them."""

import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp.web import AbstractRouteDef
from prometheus_client.registry import Collector

from ext_proc.admin.documents import ProcessStatus, StatusDocument
from ext_proc.broker.budget import TokenBucket
from ext_proc.config import Config
from ext_proc.edge.endpoint_files import EndpointFiles
from ext_proc.edge.placing import Placing
from ext_proc.edge.policy import EdgePolicy
from ext_proc.edge.population import Population, configured_nodes
from ext_proc.edge.sessions import Sessions
from ext_proc.edge.status import edge_status
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.racer import Racer
from ext_proc.telemetry.egress import EgressReport
from ext_proc.telemetry.races import RaceReport
from ext_proc.telemetry.sessions import SessionReport
from ext_proc.telemetry.unbrokered import Unbrokered
from ext_proc.upstream.client import Upstream
from ext_proc.upstream.hop_mark import HopMark
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.sessions import SessionCounts


class EdgeRole:
    """See `ext_proc.process.role.Role`. `clock` in seconds, monotonic."""

    name = "edge"

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cache_map = CacheMap()
        load_waits = LoadWaits()
        self._router = Router(config.routing, self._cache_map, load_waits)
        hints = ReplyHints(self._cache_map, config.residency.remember)
        self._sessions = Sessions(self._router)
        folder = config.envoy.endpoints_dir
        self._files = None if folder is None else EndpointFiles(Path(folder), lambda: self._population.complete)
        listeners = () if self._files is None else (self._files,)
        self._population = Population(config, self._router, self._cache_map, load_waits, hints, clock, *listeners)

        broker = config.broker
        budget = TokenBucket(broker.hedge_share, broker.hedge_burst_ms)
        report, unbrokered = RaceReport(budget), Unbrokered()
        placing, hop = Placing(self._router), HopMark(secrets.token_hex(16))
        candidates = Candidates(placing, hop, self._body_limit)
        self._upstream = upstream = Upstream(config.server.egress or config.envoy.egress, self._body_limit)
        self._racer = Racer(broker, upstream, candidates, budget, report, _race_tokens(), clock)
        self.policy = EdgePolicy(
            placing,
            self._sessions,
            self._racer.race,
            config.model_table,
            hop,
            hints,
            unbrokered.count,
            time.time,
            body_limit=config.limits.body_bytes,
            follows_replies=config.envoy.watch_responses,
        )
        self._collectors: tuple[Collector, ...] = (
            self._population, unbrokered, *report.collectors(), *self._racer.collectors(),
            EgressReport(lambda: upstream.reachable), SessionReport(self._live_sessions),
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nodes are followed and probed, and races can go out through Envoy's egress listener."""
        async with self._racer.running(), self._population.running():
            if self._files is not None:
                await self._files.written.wait()
            yield

    def reload(self, config: Config) -> None:
        """Nodes, models and limits; `config` has been checked."""
        self.policy.model_table = config.model_table
        self.policy.body_limit = config.limits.body_bytes
        self._population.replace(configured_nodes(config))

    def ready(self) -> bool:
        """Not while races are asked for and cannot go out."""
        return self._upstream.reachable is not False

    def leave(self) -> None:
        """Envoys go to the other server by themselves."""

    async def left(self) -> None:
        """At once: nobody is waited for."""

    def routes(self) -> Iterable[AbstractRouteDef]:
        """Nothing: the nodes are on /status."""
        return ()

    def status(self, process: ProcessStatus) -> StatusDocument:
        """The nodes, as this edge sees them, and which of them hold what."""
        self._sessions.expire(self._clock())
        return {
            "role": "edge", **process,
            **edge_status(self._population, self._router, self._cache_map, self._sessions),
        }  # fmt: skip

    def collectors(self) -> Iterable[Collector]:
        """The metrics of nodes, races, copies and calls that are not raced."""
        return self._collectors

    def _live_sessions(self) -> tuple[int, SessionCounts]:
        self._sessions.expire(self._clock())
        return len(self._sessions), self._sessions.counts

    def _body_limit(self) -> int:
        return self.policy.body_limit


def _race_tokens() -> Iterator[str]:
    """Tokens of RFC 9651 that no other edge gives its races."""
    process = secrets.token_hex(5)
    return (f"r{process}.{count:x}" for count in itertools.count())
