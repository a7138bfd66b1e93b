"""The edge role wired together: the population of nodes, the races, and the policy before them."""

import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from aiohttp.web import AbstractRouteDef
from prometheus_client.registry import Collector

from ext_proc.access_log.accounts import EdgeAccounts
from ext_proc.admin.documents import EdgeDocument, ProcessStatus, StatusDocument
from ext_proc.admin.explain_api import ExplainApi
from ext_proc.batching.terms import NO_TERMS
from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.race import Race
from ext_proc.config import Config
from ext_proc.edge.endpoint_files import EndpointFiles
from ext_proc.edge.explaining import EdgeExplainer
from ext_proc.edge.far_probe import FarProbe
from ext_proc.edge.gathering import EdgeGathering
from ext_proc.edge.placing import Placing
from ext_proc.edge.policy import EdgePolicy, NoteGround
from ext_proc.edge.population import Population
from ext_proc.edge.sessions import Sessions
from ext_proc.edge.status import edge_status, ways_status
from ext_proc.edge.ways import Ground, way_of
from ext_proc.gathering.company import wants
from ext_proc.known.forms import GRPC_FORMS
from ext_proc.known.keeper import MapKeeper
from ext_proc.known.status import known_status
from ext_proc.processing.decision import Held
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.racer import Racer
from ext_proc.racing.sending import Sender
from ext_proc.recording.files import RecordingFolder
from ext_proc.recording.recorder import Recorder
from ext_proc.recording.recording import Recording
from ext_proc.telemetry.batches import BatchMetrics
from ext_proc.telemetry.egress import EgressReport
from ext_proc.telemetry.known import KnownReport
from ext_proc.telemetry.metrics import KNOWN
from ext_proc.telemetry.model_labels import ModelLabels
from ext_proc.telemetry.races import RaceReport
from ext_proc.telemetry.recording import RecordingReport
from ext_proc.telemetry.sessions import SessionReport
from ext_proc.telemetry.unbrokered import Unbrokered
from ext_proc.telemetry.ways import WayReport
from ext_proc.tracing.calls import DecisionNotes
from ext_proc.tracing.opening import Tracing
from ext_proc.upstream.client import Upstream
from ext_proc.upstream.hop_mark import HopMark
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.routing.known import KnownModels
from mesh.routing.router import Router
from mesh.routing.sessions import SessionCounts


class EdgeRole:
    """See `ext_proc.process.role.Role`. `clock` in seconds, monotonic; `tracing` where calls are traced."""

    name = "edge"

    def __init__(self, config: Config, clock: Callable[[], float], tracing: Tracing | None = None) -> None:
        tracer = None if tracing is None else tracing.tracer
        self._config = config
        self._clock = clock
        self._cache_map = CacheMap()
        load_waits = LoadWaits()
        self._router = Router(config.routing, self._cache_map, load_waits)
        hints = ReplyHints(self._cache_map, config.residency.remember)
        self._sessions = Sessions(self._router)
        self._known = KnownModels(config.known, self._router, self._needs_decision(config.model_table), GRPC_FORMS)
        self._map_keeper = self._keeper_of_map()
        folder = config.envoy.endpoints_dir
        self._files = None if folder is None else EndpointFiles(Path(folder), lambda: self._population.complete)
        listeners = () if self._files is None else (self._files,)
        self._upstream = upstream = Upstream(config.server.egress or config.envoy.egress, self._body_limit)
        hop = HopMark(secrets.token_hex(16))
        far_probe = FarProbe(upstream, hop, config.probe.timeout)
        self._population = Population(
            config, self._router, self._cache_map, load_waits, hints, clock, far_probe, *listeners
        )
        broker = config.broker
        budget = TokenBucket(broker.hedge_share, broker.hedge_burst_ms)
        estimates = Estimates(broker)
        self._recording = recording = self._recording_of_calls(load_waits)
        recorder = None if recording is None else recording.recorder
        self.accounts = EdgeAccounts(
            self._router, estimates, self._sees_all, self._known_ended, self._population.observed,
            None if recorder is None else recorder.ended,
        )  # fmt: skip
        labels = ModelLabels(self._exists, clock)
        self._races = RaceReport(budget, labels)
        report = self._races if recorder is None else self._recorded_race(recorder)
        unbrokered, self._ways = Unbrokered(), WayReport()
        placing = Placing(self._router)
        candidates = Candidates(placing, hop, hints, self._body_limit)
        self._gathering: EdgeGathering | None = None
        self._batches: BatchMetrics | None = None
        if (batching := config.batching) is not None:
            metrics = BatchMetrics(labels)
            self._gathering = EdgeGathering(batching, upstream, hop, metrics, self._router.at, clock, tracer)
            metrics.schedulers = self._gathering.schedulers
            self._batches = metrics
        in_company = None if self._gathering is None else self._gathering.candidate
        sender = Sender(candidates, upstream, clock, self._population.observed, config.envoy.repeat_lost, in_company)
        tokens = _race_tokens()
        self._racer = Racer(broker, estimates, upstream, sender, candidates, budget, report, tokens, clock, tracer)
        most = config.routing.failover_bytes if config.envoy.repeat_lost else 0
        self.policy = EdgePolicy(
            placing,
            self._sessions.seat,
            self._racer.race,
            config.model_table,
            hop,
            hints,
            unbrokered.count,
            time.time,
            body_limit=config.limits.body_bytes,
            follows_replies=config.envoy.watch_responses,
            note_form=None if self._map_keeper is None else self._known.called,
            gathering=self._gathering,
            note_ground=self._ways.count if tracing is None else _noting(self._ways.count, tracing.notes),
            send_far=sender.answer if most else None,
            failover_bytes=most,
            note_call=None if recorder is None else recorder.decided,
        )
        self._explainer = EdgeExplainer(
            self.policy, self._router, self._sessions, estimates, broker.margin_ms, self._map_keeper,
            config.known_off, self._population.probe_failure, clock,
        )  # fmt: skip
        self._collectors: tuple[Collector, ...] = (
            self._population, self._ways, unbrokered, *self._races.collectors(), *self._racer.collectors(),
            *(() if self._batches is None else (self._batches,)),
            EgressReport(lambda: upstream.reachable), SessionReport(self._live_sessions),
            *(() if self._map_keeper is None else (KnownReport(self._map_keeper),)),
            *(() if recording is None else (RecordingReport(recording),)),
        )  # fmt: skip

    def _recording_of_calls(self, load_waits: LoadWaits) -> Recording | None:
        """The recording, where one is kept."""
        config, settings = self._config, self._config.recording
        if settings.folder is None:
            return None
        sections = {"routing": config.routing, "warm": config.warm, "broker": config.broker}
        epoch = time.time() - self._clock()
        recorder = Recorder(self._router, load_waits, self._population.heard, sections, epoch)
        folder = RecordingFolder(settings.folder, settings.file_bytes, settings.files)
        return Recording(recorder, folder, settings.seconds, self._clock)

    def _recorded_race(self, recorder: Recorder) -> Callable[[Race, Held], None]:
        """Counts a race that is over, and takes it down."""

        def report(race: Race, held: Held) -> None:
            self._races(race, held)
            recorder.raced(race, held.size, self._clock())

        return report

    def _keeper_of_map(self) -> MapKeeper[KnownModels] | None:
        """The keeper of the map of known calls, where there is one."""
        config = self._config
        if (file := config.known_file) is None:
            return None
        keeper = MapKeeper(self._known, file, config.envoy.admin, config.known.models, self._clock)
        self._cache_map.on_loss, self._router.on_loss = keeper.lost, lambda: keeper.lost("")
        return keeper

    def _exists(self, model: str) -> bool:
        """Whether the configuration has the name, or some node has told of such a model."""
        batching = self._config.batching
        return (
            model in self.policy.model_table
            or self._cache_map.row(model) is not None
            or (batching is not None and model in batching.models)
        )

    def _sees_all(self, all_of_them: bool) -> None:
        self._known.sees_all = all_of_them

    def _known_ended(self, model: str, now: float) -> None:
        self._known.ended(model, now)

    def _needs_decision(self, table: ModelTable) -> Callable[[str], bool]:
        """Which models' calls are more than just routed: by the table, or since they are gathered here."""
        batching = self._config.batching
        if batching is None:
            return table.needs_decision
        return lambda model: table.needs_decision(model) or wants(batching, model, NO_TERMS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nodes are followed and probed, and races can go out through Envoy's egress listener."""
        gathering = nullcontext() if self._gathering is None else self._gathering.running()
        keeping = nullcontext() if self._map_keeper is None else self._map_keeper.running()
        recording = nullcontext() if self._recording is None else self._recording.running()
        async with recording, self._racer.running(), gathering, self._population.running(), keeping:
            if self._files is not None:
                await self._files.written.wait()
            yield

    def reload(self, config: Config) -> None:
        """Nodes, discovery, models and limits; `config` has been checked."""
        self.policy.model_table = config.model_table
        if self._map_keeper is not None:
            self._known.needs_decision = self._needs_decision(config.model_table)
            self._map_keeper.lost("")
        self.policy.body_limit = config.limits.body_bytes
        self._population.reload(config)

    def ready(self) -> bool:
        """Not while races are asked for and cannot go out."""
        return self._upstream.reachable is not False

    def leave(self) -> None:
        """Envoys go to the other server by themselves."""

    async def left(self) -> None:
        """At once: nobody is waited for."""

    def routes(self) -> Iterable[AbstractRouteDef]:
        """What this edge would do with a call; the nodes are on /status."""
        return ExplainApi(self._explainer.explain).routes()

    def status(self, process: ProcessStatus) -> StatusDocument:
        """The nodes, as this edge sees them, and which of them hold what."""
        self._sessions.expire(self._clock())
        self._router.tick(self._clock())
        document: EdgeDocument = {
            "role": "edge", **process,
            **edge_status(self._population, self._router, self._cache_map, self._sessions),
        }  # fmt: skip
        document["ways"] = ways_status(process.get("calls", {}).get(KNOWN, 0), self._ways.by_way())
        document["races"] = self._races.status()
        if self._batches is not None:
            document["batches"] = self._batches.status()
        if self._map_keeper is not None:
            document["known"] = known_status(self._map_keeper, self._clock())
        document["known_off"] = self._config.known_off
        return document

    def collectors(self) -> Iterable[Collector]:
        """The metrics of nodes, races, copies and calls that are not raced."""
        return self._collectors

    def _live_sessions(self) -> tuple[int, SessionCounts]:
        self._sessions.expire(self._clock())
        return len(self._sessions), self._sessions.counts

    def _body_limit(self) -> int:
        return self.policy.body_limit


def _noting(count: NoteGround, notes: DecisionNotes) -> NoteGround:
    """Counts, and tells the span of the call."""
    told = {ground: {"tbms.way": way_of(ground).value, "tbms.ground": ground.value} for ground in Ground}

    def note(ground: Ground) -> None:
        count(ground)
        notes.last = told[ground]

    return note


def _race_tokens() -> Iterator[str]:
    """Tokens of RFC 9651 that no other edge gives its races."""
    process = secrets.token_hex(5)
    return (f"r{process}.{count:x}" for count in itertools.count())
