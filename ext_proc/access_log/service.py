"""Envoy's access log service (envoy.service.accesslog.v3): each worker of an Envoy keeps one stream open, and sends on
it what has ended since its last message, and at a node what runs. Nothing is answered.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ext_proc.access_log.entries import EndedCall, LogError, check_log, read_calls, read_message
from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2.session import Stream
from ext_proc.telemetry.metrics import KNOWN, Metrics
from ext_proc.wire.call import Call

logger = logging.getLogger(__name__)


class Accounts(Protocol):
    """Who is told of calls that have ended."""

    def ended(self, calls: Sequence[EndedCall], now: float) -> None:
        """These have ended a moment ago. `now` in seconds, monotonic."""

    def running_calls(self, calls: Iterable[Call], now: float) -> None:
        """These, which the map sent, are in flight, and have been for longer than most."""

    def logs(self, count: int, now: float) -> None:
        """So many logs are open from now on."""


class AccessLogService:
    """The sessions of `StreamAccessLogs`. `clock` in seconds, monotonic."""

    def __init__(self, accounts: Accounts, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._clock = clock
        self._streams: set[AccessLogStream] = set()
        self._serving = True

    @property
    def streams(self) -> int:
        """How many logs are open."""
        return len(self._streams)

    def open(self, stream: Stream) -> "AccessLogStream":
        """A session for one stream."""
        session = AccessLogStream(stream, self)
        if self._serving:
            self._streams.add(session)
            self._tell()
        else:
            session.release()
        return session

    def stop_serving(self) -> None:
        """Lets all logs go, and takes no new ones: a drain would wait for them in vain."""
        self._serving = False
        streams, self._streams = self._streams, set()
        for stream in streams:
            stream.release()
        self._tell()

    def closed(self, stream: "AccessLogStream") -> None:
        """That log has ended."""
        self._streams.discard(stream)
        self._tell()

    def _tell(self) -> None:
        self._accounts.logs(len(self._streams), self._clock())

    def take(self, data: bytes, first: bool) -> None:
        """One message of a log. Raises LogError for what is none."""
        message = read_message(data)
        if first:
            check_log(message)
        ended, running = read_calls(message)
        # By identity: to hash a call costs more than all the rest of it, and `read_calls` remembers them.
        known: dict[int, tuple[Call | None, int]] = {}
        for each in ended:
            if each.known:
                _, times = known.get(id(each.call), (None, 0))
                known[id(each.call)] = each.call, times + each.stands_for
        for call, times in known.values():
            self._metrics.count(call, KNOWN, times)
        now = self._clock()
        self._accounts.ended(ended, now)
        if running:
            self._accounts.running_calls(running, now)


class AccessLogStream:
    """One log. Its first message says which one it is."""

    __slots__ = ("_first", "_service", "_stream")

    def __init__(self, stream: Stream, service: AccessLogService) -> None:
        self._stream = stream
        self._service = service
        self._first = True

    def message(self, data: bytes) -> None:
        """What has ended since the last one."""
        try:
            self._service.take(data, self._first)
        except LogError as error:
            logger.warning("access log refused", extra={"cause": str(error)})
            self._service.closed(self)
            self._stream.finish(GrpcStatus.INVALID_ARGUMENT, str(error))
        self._first = False

    def half_closed(self) -> None:
        """Envoy ends the log: the one reply of the method, which is empty."""
        self._service.closed(self)
        self._stream.send(b"")
        self._stream.finish()

    def gone(self) -> None:
        """Reset, or the connection is lost. What the log has told holds as long as it would have anyway."""
        self._service.closed(self)

    def release(self) -> None:
        """The server takes no more of it; Envoy opens another log elsewhere."""
        self._stream.finish(GrpcStatus.UNAVAILABLE, "the server is shutting down")
