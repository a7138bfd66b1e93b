"""What the two gRPC APIs share: methods over raw bytes, and how a refusal is answered."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from mesh.model_server.errors import ServingError, StatusCode

logger = logging.getLogger(__name__)

Unary: TypeAlias = Callable[[Any], Awaitable[Message]]
Stream: TypeAlias = Callable[[AsyncIterator[Any]], AsyncIterator[Message]]

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """One request message, one answer."""

    request: type[Message]
    answer: Unary


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A stream of requests, a stream of answers."""

    request: type[Message]
    answer: Stream


def service(name: str, methods: Mapping[str, UnaryMethod | StreamMethod]) -> grpc.GenericRpcHandler:
    """A service of these methods, to be added to a grpc.aio server."""
    return grpc.method_handlers_generic_handler(
        name,
        {method: _unary(spec) if isinstance(spec, UnaryMethod) else _stream(spec) for method, spec in methods.items()},
    )


def parse(kind: type[Message], data: bytes) -> Any:
    """A message out of its bytes. Raises ServingError INVALID_ARGUMENT."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ServingError(
            StatusCode.INVALID_ARGUMENT, f"the request is not a valid {kind.DESCRIPTOR.name} message"
        ) from error
    return message


def _unary(method: UnaryMethod) -> grpc.RpcMethodHandler:
    async def handle(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            # Deterministic: two equal answers are equal bytes, maps included.
            return (await method.answer(parse(method.request, data))).SerializeToString(deterministic=True)
        except ServingError as error:
            await context.abort(_CODES[error.code], error.message)
        except Exception:
            logger.exception("a call failed")
            await context.abort(grpc.StatusCode.INTERNAL, "internal error of the model server")
        raise AssertionError("abort returned")

    return grpc.unary_unary_rpc_method_handler(handle)


def _stream(method: StreamMethod) -> grpc.RpcMethodHandler:
    async def handle(stream: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async def requests() -> AsyncIterator[Any]:
            async for data in stream:
                yield parse(method.request, data)

        try:
            async for answer in method.answer(requests()):
                yield answer.SerializeToString()
        except ServingError as error:
            await context.abort(_CODES[error.code], error.message)

    return grpc.stream_stream_rpc_method_handler(handle)
