"""The `tbms serve` process: reads the configuration, runs its role behind the server, reloads, drains."""

import asyncio
import logging
import signal
import time
from contextlib import suppress
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector

from ext_proc import config as configuration
from ext_proc.access_log.service import AccessLogService
from ext_proc.admin.client import AdminPort
from ext_proc.admin.documents import StatusDocument
from ext_proc.admin.server import Admin
from ext_proc.admin.ui.routes import dashboard_routes
from ext_proc.admin.ui.watching import Watching
from ext_proc.contract import ACCESS_LOG_METHOD, PROCESS_METHOD
from ext_proc.errors import ConfigError
from ext_proc.http2.limits import Limits, MiB
from ext_proc.http2.session import Open
from ext_proc.process.grpc_server import GrpcServer
from ext_proc.process.heap import Heap
from ext_proc.process.lifecycle import Stop
from ext_proc.process.reload import read_again, watch
from ext_proc.process.role import role_of
from ext_proc.server.call_tasks import CallTasks
from ext_proc.server.processor import ExtProcService
from ext_proc.server.traced import TracedService
from ext_proc.telemetry import logs
from ext_proc.telemetry.access_logs import AccessLogReport
from ext_proc.telemetry.build import BuildInfo
from ext_proc.telemetry.listener import ListenerReport
from ext_proc.telemetry.metrics import Metrics, negotiated_exposition
from ext_proc.telemetry.refusals import Refusals
from ext_proc.tracing.exporting import SpanQueue
from ext_proc.tracing.opening import Tracing, open_tracing

logger = logging.getLogger(__name__)

# For which a stop waits, at the most, until the last spans have been sent.
_LAST_SPANS_SECONDS = 5.0
# What the other sections say is taken over by a reload.
READ_AT_START = (
    "server", "routing", "probe", "residency", "warm", "broker", "node", "known", "recording", "tracing",
)  # fmt: skip


class App:
    """One `tbms serve` process. Raises ConfigError at once if the file is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config = configuration.load(path)
        self._clock = time.monotonic
        self._metrics = Metrics()
        self._tracing = tracing = self._traces()
        self._role = role_of(self._config, self._clock, tracing)
        self._collectors: list[Collector] = [
            self._metrics, ProcessCollector(registry=None), BuildInfo(self._role.name),
            *(() if tracing is None else (tracing.queue.counts,)),
        ]  # fmt: skip
        accounts = self._role.accounts
        self._log = None if accounts is None else AccessLogService(accounts, self._metrics, self._clock)
        ui = self._config.server.ui
        self._watching = Watching(self._status, lambda: [AdminPort(peer) for peer in ui.peers], ui.seconds, self._clock)
        self._handed_over = False
        self._server: GrpcServer | None = None
        self._started = time.time()

    def _traces(self) -> Tracing | None:
        """What calls are traced with, where they are to be. Raises ConfigError."""
        config = self._config
        if config.tracing is None:
            return None
        return open_tracing(config.tracing, "edge" if config.node is None else "node", self._clock)

    def _service(self, tasks: CallTasks) -> ExtProcService:
        parts = (self._role.policy, self._metrics, Refusals(), tasks, self._clock)
        tracing = self._tracing
        return ExtProcService(*parts) if tracing is None else TracedService(*parts, tracing.tracer, tracing.notes)

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains; a second one ends the drain."""
        settings = self._config.server
        logs.configure(settings.log.level, settings.log.format)
        stop, wake = Stop(), asyncio.Event()
        if self._tracing is not None:
            self._tracing.queue.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wake.set)
        async with self._role.running(), CallTasks() as calls, asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(watch(self._path, wake)), tasks.create_task(self._reload_on(wake))]
            service = self._service(calls)
            # A buffered body (Envoy 1.36) comes in one message.
            limits = Limits(message=max(Limits().message, self._config.limits.body_bytes + MiB))
            log = self._log
            sessions: dict[str, Open] = {PROCESS_METHOD: service.open}
            if log is not None:
                sessions[ACCESS_LOG_METHOD] = log.open
                self._collectors.append(AccessLogReport(lambda: log.streams))
            self._server = server = GrpcServer(settings, sessions, limits)
            self._collectors.append(ListenerReport(lambda: server.accept_failures))
            watching = self._watching
            background.append(tasks.create_task(watching.run()))
            routes = [*dashboard_routes(watching), *self._role.routes()]
            admin = Admin(self._config.admin, self._ready, self._exposition, self._status, routes)
            await admin.start()
            await server.start()
            heap = Heap(self._metrics.calls.total, lambda: self._metrics.streams)
            background.append(tasks.create_task(heap.watch()))
            logger.info(
                "serving", extra={"role": self._role.name, "address": server.address, "admin": self._config.admin}
            )
            await stop.asked.wait()
            await self._drain(server, stop)
            await admin.stop()
            for task in background:
                task.cancel()
        if self._tracing is not None:
            # After the last call, and after the role: what it gave up has ended, too.
            await self._send_last_spans(self._tracing.queue, stop)
        logger.info("stopped")

    async def _send_last_spans(self, queue: SpanQueue, stop: Stop) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def told() -> None:
            with suppress(RuntimeError):  # nobody has waited for it
                loop.call_soon_threadsafe(ended.set)

        queue.finish(told)
        await stop.allow(ended.wait(), _LAST_SPANS_SECONDS)
        queue.abandon()

    async def _drain(self, server: GrpcServer, stop: Stop) -> None:
        """Ready until those who would send more know better: whoever looks at /readyz may send none from then on."""
        clock, seconds = asyncio.get_running_loop().time, self._config.server.drain_seconds
        until = clock() + seconds
        self._metrics.draining = True
        logger.info("draining", extra={"streams": self._metrics.streams})
        await self._watching.close()
        self._role.leave()
        await stop.allow(self._role.left(), seconds)
        self._handed_over = True
        if self._log is not None:
            self._log.stop_serving()
        await stop.allow(server.stop(max(0.0, until - clock())))
        if stop.at_once.is_set():
            logger.warning("asked to stop at once", extra={"streams": self._metrics.streams})
            await server.stop(0.0)

    async def _reload_on(self, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            await self._reload()

    async def _reload(self) -> None:
        """Takes the file's new content over; a file that is wrong changes nothing."""
        try:
            config = await asyncio.to_thread(read_again, self._path)
        except ConfigError as error:
            self._metrics.reloads["refused"] += 1
            logger.error("configuration refused, the old one stays", extra={"cause": str(error)})
            return
        for section in READ_AT_START:
            if getattr(config, section) != getattr(self._config, section):
                logger.warning("this section is read at a start only; restart to change it", extra={"section": section})
        self._config = config
        self._role.reload(config)
        self._metrics.reloads["taken"] += 1
        logger.info("configuration taken", extra={"nodes": len(config.nodes)})

    def _ready(self) -> bool:
        return not self._handed_over and self._is_found() and self._role.ready()

    def _is_found(self) -> bool:
        """Whether Envoy finds this process by its address. Where one drains the next may have that already."""
        return self._metrics.draining or (self._server is not None and self._server.holds_address)

    def _exposition(self, accept: str) -> tuple[bytes, str]:
        return negotiated_exposition([*self._collectors, *self._role.collectors()], accept)

    def _status(self) -> StatusDocument:
        return self._role.status(
            {
                "uptime_seconds": round(time.time() - self._started, 1),
                "draining": self._metrics.draining,
                "config": str(self._path),
                "streams": self._metrics.streams,
                "calls": self._metrics.by_outcome(),
                "logs": 0 if self._log is None else self._log.streams,
            }
        )
