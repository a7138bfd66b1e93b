"""The gRPC channel to a model server, and its failures in the loader's terms."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from mesh.model_cache.loaders.loader import LoadFailed, ServerAway

Reply = TypeVar("Reply")

MAX_REPLY = 64 << 20
"""Bytes of one answer; an index of 100,000 models has some 10 MiB."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REPLY),
    ("grpc.max_send_message_length", -1),
    # A server that was restarted is to be found at once, not after gRPC's usual minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def connect(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`, to be closed by the caller."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


async def lost(channel: grpc.aio.Channel) -> None:
    """Return when the channel's connection, once it stands, is lost."""
    while (state := channel.get_state()) is not grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)
    await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


def method(channel: grpc.aio.Channel, path: str, reply: type[Reply]) -> Callable[[Any], Awaitable[Reply]]:
    """A unary method as a function. Raises ServerAway or RpcFailed."""
    call = channel.unary_unary(
        path, request_serializer=lambda message: message.SerializeToString(), response_deserializer=_parser(reply)
    )

    async def invoke(request: Any) -> Reply:
        try:
            answer: Reply = await call(request)
        except grpc.aio.AioRpcError as error:
            words = error.details() or error.code().name
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise ServerAway(f"The model server is away: {words}") from None
            raise RpcFailed(error.code(), words) from None
        return answer

    return invoke


class RpcFailed(LoadFailed):
    """The model server answered with an error: its words, and its status code."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        super().__init__(words)
        self.code = code


def _parser(reply: Any) -> Callable[[bytes], Any]:
    parse: Callable[[bytes], Any] = reply.FromString
    return parse
