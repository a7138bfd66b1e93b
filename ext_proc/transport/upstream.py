"""Calls of the server's own: candidates, sent out through Envoy's egress listener so that mesh policies hold.

One gRPC channel and one HTTP session for the life of the process. A call that is cancelled is reset on
the wire: an HTTP/2 stream by RST_STREAM, an HTTP/1.1 connection by closing it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import grpc
import yarl

from ext_proc.errors import TbmsError
from ext_proc.transport.metadata import HOP_BY_HOP, Headers, from_metadata, to_metadata, write_status

# Added by the egress listener: the node that answered.
UPSTREAM_HEADER = "x-tbms-upstream"


class UpstreamError(TbmsError):
    """The call got no answer at all. `refused`: it was not even sent; else it was reset or cut off."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Request:
    """One candidate call. `body` is, for gRPC, the message without its frame; `timeout` is in seconds."""

    path: str
    method: str
    headers: Headers
    body: bytes
    timeout: float
    is_grpc: bool


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `trailers` is None for REST; for gRPC it holds grpc-status, and `body` the bare message."""

    status: int
    headers: Headers
    body: bytes
    trailers: Headers | None
    grpc_status: int = 0
    node: str = ""

    @property
    def ok(self) -> bool:
        """Whether this is an answer rather than an error."""
        return 200 <= self.status < 300 and self.grpc_status == 0


class Upstream:
    """The client side of the server. An async context manager; `body_limit` bounds answers, in bytes."""

    def __init__(self, egress: str, body_limit: Callable[[], int]) -> None:
        self._egress = egress
        self._body_limit = body_limit

    async def __aenter__(self) -> Self:
        unix = self._egress.removeprefix("unix:") if self._egress.startswith("unix:") else None
        connector = aiohttp.UnixConnector(unix, limit=0) if unix else aiohttp.TCPConnector(limit=0)
        self._base = "http://tbms" if unix else f"http://{self._egress}"
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        options = [
            ("grpc.max_receive_message_length", self._body_limit()),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            # An egress listener that comes back is found within a second, not after gRPC's own two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.aio.insecure_channel(self._egress, options=options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._channel.close()

    async def call(self, request: Request) -> Response:
        """Sends one call and reads its whole answer. Raises UpstreamError; reset on the wire when cancelled."""
        return await (self._grpc(request) if request.is_grpc else self._rest(request))

    async def _rest(self, request: Request) -> Response:
        try:
            async with self._session.request(
                request.method,
                yarl.URL(self._base + request.path, encoded=True),
                headers=[(key, value.decode("latin-1")) for key, value in request.headers if key not in HOP_BY_HOP],
                data=request.body or None,
                allow_redirects=False,
            ) as response:
                body = await self._read(response)
                headers = tuple((key.decode("latin-1").lower(), value) for key, value in response.raw_headers)
                return Response(response.status, _own(headers), body, None, node=_node(headers))
        except aiohttp.ClientConnectorError as error:
            raise UpstreamError(f"the egress listener cannot be reached: {error}", refused=True) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(f"the call got no answer: {error or type(error).__name__}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks, size, limit = [], 0, self._body_limit()
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > limit:
                raise UpstreamError(f"the answer is over the limit of {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def _grpc(self, request: Request) -> Response:
        method: Any = self._channel.unary_unary(request.path)
        call = method(request.body, timeout=request.timeout, metadata=tuple(to_metadata(request.headers)))
        try:
            # A pending await that is cancelled resets the stream.
            body = await call
            initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
            number, details = 0, ""
        except grpc.aio.AioRpcError as error:
            body, number, details = b"", int(error.code().value[0]), error.details() or ""
            initial, trailing = error.initial_metadata(), error.trailing_metadata()
        headers, trailers = from_metadata(initial), from_metadata(trailing)
        node = _node(headers) or _node(trailers)
        return Response(200, _own(headers), body, write_status(number, details) + _own(trailers), number, node)


def _own(headers: Headers) -> Headers:
    """The headers that are the node's own."""
    return tuple(pair for pair in headers if pair[0] not in HOP_BY_HOP and pair[0] != UPSTREAM_HEADER)


def _node(headers: Headers) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == UPSTREAM_HEADER), "")
