"""Calls of the server's own: candidates, sent out through Envoy's egress listener so that mesh policies hold.

REST and gRPC alike are HTTP/2 to Envoy, which speaks to each node as that wants it. A call that is cancelled is reset
on the wire.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from types import TracebackType
from typing import Final, Self

from ext_proc.contract import RESIDENCY_HEADER, UPSTREAM_HEADER
from ext_proc.errors import CallError, TbmsError
from ext_proc.grpc_framing import prefix
from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2.aio.connection_pool import ConnectionPool
from ext_proc.http2.client_stream import HttpResponse
from ext_proc.http2.headers import Headers
from ext_proc.http2.hpack_literals import literal
from ext_proc.upstream.headers import HOP_BY_HOP, write_status
from ext_proc.wire.framing import most_plain, unframe
from ext_proc.wire.protobuf.fields import Pieces
from ext_proc.worker_thread import off_loop
from mesh.back_off import RetryDelays
from mesh.digits import number
from mesh.system_words import system_words

logger = logging.getLogger(__name__)

# Seconds between dials of our own to a listener that could not be reached: the first, and the longest.
_FIRST_REDIAL, _LONGEST_REDIAL = 0.25, 5.0

# Of an answer of gRPC, what is not the node's own: the status stands apart, and the message is handed on plain.
_GRPC: Final = frozenset({"content-type", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message"})
# What an answer without a gRPC status means (http-grpc-status-mapping.md of gRPC); any other is UNKNOWN.
_STATUS_OF_HTTP: Final = {
    400: GrpcStatus.INTERNAL,
    401: GrpcStatus.UNAUTHENTICATED,
    403: GrpcStatus.PERMISSION_DENIED,
    404: GrpcStatus.UNIMPLEMENTED,
    429: GrpcStatus.UNAVAILABLE,
    502: GrpcStatus.UNAVAILABLE,
    503: GrpcStatus.UNAVAILABLE,
    504: GrpcStatus.UNAVAILABLE,
}
_NOT_ITS_OWN: Final = HOP_BY_HOP | {UPSTREAM_HEADER, RESIDENCY_HEADER}
_SCHEME: Final = literal(b":scheme", b"http")
_GRPC_FIELDS: Final = literal(b"te", b"trailers") + literal(b"grpc-accept-encoding", b"identity")


class UpstreamError(TbmsError):
    """The call got no answer at all. `refused`: it was not even sent; else it was reset or cut off."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(slots=True, init=False)
class Request:
    """One candidate call. `body` is, for gRPC, the message without its frame; `timeout` in seconds may be infinite.

    The body is pieces, which are sent as they are: candidates share what is the same for all of them. `nodes` are those
    that it is placed on (`ip:port`, best first), where it is.
    """

    path: Final[str]
    method: Final[str]
    authority: Final[str]
    headers: Final[Headers]
    body: Final[Pieces]
    timeout: Final[float]
    is_grpc: Final[bool]
    nodes: Final[tuple[str, ...]]

    def __init__(
        self,
        path: str,
        method: str,
        authority: str,
        headers: Headers,
        body: Pieces,
        timeout: float,
        is_grpc: bool,
        nodes: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.method = method
        self.authority = authority
        self.headers = headers
        self.body = body
        self.timeout = timeout
        self.is_grpc = is_grpc
        self.nodes = nodes


@dataclass(slots=True, init=False)
class Response:
    """What came back. `trailers` is None for REST; for gRPC it holds grpc-status, and `body` the bare message."""

    status: Final[int]
    headers: Final[Headers]
    body: Final[bytes]
    trailers: Final[Headers | None]
    grpc_status: Final[int]
    node: Final[str]
    residency: Final[str | None]
    """What the node says of the model, where it was asked."""

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        trailers: Headers | None,
        grpc_status: int = GrpcStatus.OK,
        node: str = "",
        residency: str | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.trailers = trailers
        self.grpc_status = grpc_status
        self.node = node
        self.residency = residency

    @property
    def ok(self) -> bool:
        """Whether this is an answer rather than an error."""
        return 200 <= self.status < 300 and self.grpc_status == GrpcStatus.OK


class Upstream:
    """The client side of the server. An async context manager; `body_limit` bounds answers, in bytes.

    Where the listener cannot be reached it is dialled again, with a growing delay, until it can: whoever asks for
    `reachable` need not wait for a call to come.
    """

    def __init__(self, egress: str, body_limit: Callable[[], int]) -> None:
        self._pool = ConnectionPool(egress)
        self._body_limit = body_limit
        self._redialling: asyncio.Task[None] | None = None

    @property
    def reachable(self) -> bool | None:
        """Whether calls can go out, by the last connection that was asked for; None: no call has needed one yet."""
        return self._pool.reachable

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redialling is not None:
            self._redialling.cancel()
            await asyncio.wait([self._redialling])
        await self._pool.__aexit__(kind, error, trace)

    async def call(self, request: Request) -> Response:
        """Sends one call and reads its whole answer. Raises UpstreamError; reset on the wire when cancelled."""
        body = tuple(request.body)
        pieces = (prefix(sum(map(len, body))), *body) if request.is_grpc else body
        try:
            reply = await self._pool.request(header_block(request), pieces, self._body_limit())
        except OSError as error:
            cause = system_words(error)
            if self._redialling is None and self._pool.reachable is False:
                self._redialling = asyncio.get_running_loop().create_task(self._redial(cause))
            raise UpstreamError(f"the egress listener cannot be reached: {cause}", refused=True) from error
        if not isinstance(reply, HttpResponse):
            raise UpstreamError(f"the call got no answer: {reply.cause}", refused=reply.unprocessed)
        if not request.is_grpc:
            return rest_response(reply)
        limit = self._body_limit()
        return await off_loop(most_plain((reply.body,), limit), grpc_response, reply, limit)

    async def _redial(self, cause: str) -> None:
        """Until it goes well."""
        logger.error("the egress listener cannot be reached", extra={"cause": cause})
        try:
            for delay in RetryDelays(_FIRST_REDIAL, _LONGEST_REDIAL, random.random):
                await asyncio.sleep(delay)
                try:
                    await self._pool.dial()
                except OSError:
                    continue
                break
        finally:
            self._redialling = None
        logger.info("the egress listener can be reached again")


def header_block(request: Request) -> bytes:
    """The headers of a call as HPACK: every field a literal."""
    fields = [
        literal(b":method", request.method.encode("latin-1")),
        _SCHEME,
        literal(b":path", request.path.encode("latin-1")),
        literal(b":authority", request.authority.encode("latin-1")),
    ]
    fields += [literal(key.encode("latin-1"), value) for key, value in request.headers if key not in HOP_BY_HOP]
    if request.is_grpc:
        fields.append(_GRPC_FIELDS)
        if request.timeout < inf:
            # At most eight digits; microseconds up to a minute and a half.
            micros = ceil(request.timeout * 1e6)
            timeout = b"%du" % micros if micros < 100_000_000 else b"%dm" % min(ceil(request.timeout * 1e3), 99_999_999)
            fields.append(literal(b"grpc-timeout", timeout))
    elif size := sum(map(len, request.body)):
        fields.append(literal(b"content-length", b"%d" % size))
    return b"".join(fields)


def rest_response(reply: HttpResponse) -> Response:
    """A reply to a call of REST."""
    node, residency = _said(reply.headers)
    return Response(reply.status, _own(reply.headers), reply.body, None, node=node, residency=residency)


def grpc_response(reply: HttpResponse, limit: int) -> Response:
    """A reply to a unary call of gRPC; its message is of at most `limit` bytes. Raises UpstreamError."""
    headers, trailers = reply.headers, reply.trailers
    if not trailers:  # the headers are the trailers where there is nothing but a status
        headers, trailers = trailers, headers
    ends = dict(trailers)
    code = _code(ends.get("grpc-status"))
    if code is None:
        code = _STATUS_OF_HTTP.get(reply.status, GrpcStatus.UNKNOWN)
        ends = dict(write_status(code, f"HTTP status {reply.status} and no gRPC status"))
    status = tuple((key, ends[key]) for key in ("grpc-status", "grpc-message") if key in ends)
    body = b""
    if code == GrpcStatus.OK:
        encoding = dict(reply.headers).get("grpc-encoding", b"identity").decode("latin-1")
        try:
            body = unframe((reply.body,), encoding, limit)
        except CallError as error:
            raise UpstreamError(f"the answer cannot be read: {error.message}") from error
    return Response(200, _own(headers, _GRPC), body, status + _own(trailers, _GRPC), code, *_said(reply.headers))


def _code(status: bytes | None) -> int | None:
    if status is None:
        return None
    known = number(status.decode("latin-1"), 3)
    return GrpcStatus.UNKNOWN if known is None else known


def _own(headers: Headers, others: frozenset[str] = frozenset()) -> Headers:
    """The headers that are the model server's own."""
    return tuple([pair for pair in headers if pair[0] not in _NOT_ITS_OWN and pair[0] not in others])


def _said(headers: Headers) -> tuple[str, str | None]:
    """Which node has answered, and its word on the model."""
    node, residency = "", None
    for key, value in headers:
        if key == UPSTREAM_HEADER:
            node = value.decode("latin-1")
        elif key == RESIDENCY_HEADER:
            residency = value.decode("latin-1")
    return node, residency
