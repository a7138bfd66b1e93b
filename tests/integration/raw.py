"""Calls as bytes: what is sent and what comes back, with nothing read or hidden in between."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import httpx

# Set by each hop for itself: they say when and by whom, not what.
_OF_THE_HOP = {
    "connection",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
    "x-tbms-upstream",
}
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Metadata = Sequence[tuple[str, str]]
Pairs = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class RestReply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    upstream: str | None


@dataclass(frozen=True)
class GrpcReply:
    code: str
    details: str
    message: bytes
    initial: Pairs
    trailing: Pairs
    upstream: str | None


def rest_client(base: str, *, http2: bool = False) -> httpx.AsyncClient:
    """A plain HTTP client; HTTP/2 with prior knowledge, as in a mesh."""
    return httpx.AsyncClient(base_url=base, http1=not http2, http2=http2, timeout=60, trust_env=False)


async def rest(
    client: httpx.AsyncClient,
    path: str,
    body: bytes | AsyncIterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> RestReply:
    """POST where there is a body (an empty one counts), otherwise GET."""
    method = "GET" if body is None else "POST"
    reply = await client.request(method, path, content=body, headers=headers)
    return RestReply(
        reply.status_code,
        {name: value for name, value in reply.headers.items() if name not in _OF_THE_HOP},
        reply.content,
        reply.headers.get("x-tbms-upstream"),
    )


def channel(target: str) -> grpc.aio.Channel:
    # Every channel its own connection: by default grpcio shares them between channels to one address.
    return grpc.aio.insecure_channel(target, options=[*_NO_LIMIT, ("grpc.use_local_subchannel_pool", 1)])


async def unary(
    through: grpc.aio.Channel,
    method: str,
    message: bytes,
    metadata: Metadata = (),
    timeout: float = 60,
    compression: grpc.Compression | None = None,
) -> GrpcReply:
    """One call; errors are replies too."""
    call = through.unary_unary(method)(message, metadata=metadata, timeout=timeout, compression=compression)
    try:
        reply = await call
    except grpc.aio.AioRpcError:
        reply = b""
    initial, trailing = _pairs(await call.initial_metadata()), _pairs(await call.trailing_metadata())
    upstream = dict(initial + trailing).get("x-tbms-upstream")
    assert upstream is None or isinstance(upstream, str)
    return GrpcReply(
        (await call.code()).name, await call.details() or "", reply, _kept(initial), _kept(trailing), upstream
    )


def _pairs(metadata: grpc.aio.Metadata | None) -> Pairs:
    return tuple((name, value) for name, value in metadata or ())


def _kept(metadata: Pairs) -> Pairs:
    return tuple(sorted((name, value) for name, value in metadata if name not in _OF_THE_HOP))
