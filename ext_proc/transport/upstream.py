"""Calls of the server's own: candidates, sent out through Envoy's egress listener so that mesh policies hold.

One gRPC channel and one HTTP session for the life of the process. A call that is cancelled is reset on
the wire: an HTTP/2 stream by RST_STREAM, an HTTP/1.1 connection by closing it.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import grpc
import yarl

from ext_proc.errors import TbmsError

Headers = tuple[tuple[str, bytes], ...]

# Of one connection only (RFC 9110, 7.6.1), or written anew by whoever sends the message on.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Added by the egress listener: the node that answered.
UPSTREAM_HEADER = "x-tbms-upstream"
_GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class UpstreamError(TbmsError):
    """The call got no answer at all: refused, reset, or cut off."""


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
    """The client side of the server. An async context manager."""

    def __init__(self, egress: str, body_limit: int) -> None:
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
        self._channel = grpc.aio.insecure_channel(self._egress, options=_GRPC_OPTIONS)
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
                headers=[(key, value.decode("latin-1")) for key, value in request.headers if key not in _HOP_BY_HOP],
                data=request.body or None,
                allow_redirects=False,
            ) as response:
                body = await self._read(response)
                headers = tuple((key.decode("latin-1").lower(), value) for key, value in response.raw_headers)
                return Response(response.status, _own_removed(headers), body, None, node=_node(headers))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(f"the call got no answer: {error or type(error).__name__}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._body_limit:
                raise UpstreamError(f"the answer is over the limit of {self._body_limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def _grpc(self, request: Request) -> Response:
        method: Any = self._channel.unary_unary(request.path)
        metadata = tuple(_metadata(request.headers))
        call = method(request.body, timeout=request.timeout, metadata=metadata)
        try:
            body = await call
            initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
            code, details = grpc.StatusCode.OK, ""
        except grpc.aio.AioRpcError as error:
            body, code, details = b"", error.code(), error.details() or ""
            initial, trailing = error.initial_metadata(), error.trailing_metadata()
        except asyncio.CancelledError:
            call.cancel()
            raise
        headers, trailers = _bytes(initial), _bytes(trailing)
        number = int(code.value[0])
        status: Headers = (("grpc-status", b"%d" % number),)
        if details:
            status += (("grpc-message", quote(details, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()),)
        node = _node(headers) or _node(trailers)
        return Response(200, _own_removed(headers), body, status + _own_removed(trailers), number, node)


# What the gRPC library writes by itself.
_GRPC_OWN = frozenset(["content-type", "user-agent", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"])


def _metadata(headers: Headers) -> Iterable[tuple[str, str | bytes]]:
    for key, value in headers:
        if key in _GRPC_OWN or key in _HOP_BY_HOP:
            continue
        if key.endswith("-bin"):
            yield key, b64decode(value + b"=" * (-len(value) % 4))
        else:
            yield key, value.decode("latin-1")


def _bytes(metadata: Any) -> Headers:
    pairs = metadata or ()
    return tuple(
        (key, b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("latin-1"))
        for key, value in pairs
    )


def _own_removed(headers: Headers) -> Headers:
    return tuple((key, value) for key, value in headers if key not in _HOP_BY_HOP and key != UPSTREAM_HEADER)


def _node(headers: Headers) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == UPSTREAM_HEADER), "")
