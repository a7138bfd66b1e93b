"""grpc.health.v1: whether the services of this process take calls (github.com/grpc/grpc, doc/health-checking.md)."""

from collections.abc import Iterable, Mapping
from functools import partial

from google.protobuf.message import DecodeError

from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2.session import Open, Stream
from ext_proc.protos.health_pb2 import HealthCheckRequest, HealthCheckResponse

_CHECK, _WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
_SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()
_NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING).SerializeToString()
_UNKNOWN = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()
_SHUTTING_DOWN = "the server is shutting down"


class Health:
    """The status of `services` and of the server as a whole (the empty name). All change together, and once."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._watches: set[_Watch] = set()
        self.serving = True

    def sessions(self) -> Mapping[str, Open]:
        """What answers, by path."""
        return {_CHECK: partial(_Check, self), _WATCH: partial(_Watch, self)}

    def stop_serving(self) -> None:
        """NOT_SERVING from now on. Whoever watches is told, and let go: a drain does not wait for watchers."""
        self.serving = False
        watches, self._watches = self._watches, set()
        for watch in watches:
            watch.release()

    def status(self, service: str) -> bytes:
        """The response for a service."""
        if service not in self:
            return _UNKNOWN
        return _SERVING if self.serving else _NOT_SERVING

    def __contains__(self, service: object) -> bool:
        return service in self._services

    def watched(self, watch: "_Watch") -> None:
        """Tells this one of changes."""
        self._watches.add(watch)

    def unwatched(self, watch: "_Watch") -> None:
        """Tells this one no more."""
        self._watches.discard(watch)


class _Session:
    """What both methods have in common: one request, named by its service."""

    def __init__(self, health: Health, stream: Stream) -> None:
        self._health = health
        self._stream = stream
        self._service: str | None = None

    def message(self, data: bytes) -> None:
        """Takes the HealthCheckRequest: the service that is asked about."""
        try:
            self._service = HealthCheckRequest.FromString(data).service
        except DecodeError:
            self._stream.finish(GrpcStatus.INVALID_ARGUMENT, "the request is not a HealthCheckRequest")

    def half_closed(self) -> None:
        """The request is complete."""
        if self._service is None:
            self._stream.finish(GrpcStatus.INVALID_ARGUMENT, "there is no request")
        else:
            self._answer(self._health.status(self._service))

    def gone(self) -> None:
        """Nobody listens any more."""

    def _answer(self, status: bytes) -> None:
        raise NotImplementedError


class _Check(_Session):
    """Check: the status as it is now."""

    def _answer(self, status: bytes) -> None:
        if status is _UNKNOWN:
            self._stream.finish(GrpcStatus.NOT_FOUND, f"there is no service {self._service!r}")
        else:
            self._stream.send(status)
            self._stream.finish()


class _Watch(_Session):
    """Watch: the status now and when it changes, for as long as the client stays."""

    def release(self) -> None:
        """The server stops serving."""
        if self._service in self._health:
            self._stream.send(_NOT_SERVING)
        self._stream.finish(GrpcStatus.UNAVAILABLE, _SHUTTING_DOWN)

    def gone(self) -> None:
        """Nobody listens any more."""
        self._health.unwatched(self)

    def _answer(self, status: bytes) -> None:
        self._stream.send(status)
        if self._health.serving:
            self._health.watched(self)
        else:  # a drain that has begun waits for this one no more than for those before it
            self._stream.finish(GrpcStatus.UNAVAILABLE, _SHUTTING_DOWN)
