"""What Envoy said: one ProcessingRequest, read into plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from ext_proc.errors import TbmsError
from ext_proc.protos.ext_proc_pb2 import HeaderMap, ProcessingRequest


class StreamError(TbmsError):
    """Envoy broke the protocol, or sent what cannot be read; the stream ends with INVALID_ARGUMENT."""


class BodyMode(IntEnum):
    """How this stream gets bodies (ProcessingMode.BodySendMode); told by the first message."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX = 4
    GRPC = 5


# The modes that a conversation can be held in; any other is a mistake in the filter's configuration.
SPOKEN = frozenset({BodyMode.NONE, BodyMode.BUFFERED, BodyMode.FULL_DUPLEX})


# What an Envoy can do depends on its version; one that does not tell is taken for the newest.
Version = tuple[int, int]
NEWEST: Version = (1, 40)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. Names are lower-case; values of a repeated name are joined with `, `."""

    headers: Mapping[str, str]
    end_of_stream: bool
    mode: BodyMode
    envoy: Version = NEWEST

    @property
    def body_can_come(self) -> bool:
        """Whether the body is sent to us, or will be if we ask for it."""
        return self.mode is not BodyMode.NONE or self.envoy >= (1, 40)

    @property
    def streams_answers(self) -> bool:
        """Whether this Envoy takes an answer with trailers from us, as gRPC needs."""
        return self.envoy >= (1, 37)


@lru_cache(maxsize=64)
def read_version(text: str) -> Version:
    """`1.38.3` or `1.38` as (1, 38); what is not a version is taken for the newest."""
    parts = text.split(".")
    if len(parts) >= 2 and all(len(part) <= 4 and part.isdigit() for part in parts[:2]):
        return int(parts[0]), int(parts[1])
    return NEWEST


def parse(data: bytes) -> ProcessingRequest:
    """Reads one message from Envoy. Raises StreamError if it is not one."""
    try:
        return ProcessingRequest.FromString(data)
    except Exception as error:  # upb raises DecodeError, which the stubs of older versions do not name
        raise StreamError("a message on the stream is not a ProcessingRequest") from error


def head_of(message: ProcessingRequest, envoy: Version = NEWEST) -> Head:
    """The head in the first message of a stream from that Envoy."""
    request = message.request_headers
    mode: int = message.protocol_config.request_body_mode
    if mode not in SPOKEN:
        raise StreamError(f"the filter sends bodies in mode {mode}; use NONE, BUFFERED or FULL_DUPLEX_STREAMED")
    return Head(header_dict(request.headers), request.end_of_stream, BodyMode(mode), envoy)


def header_dict(headers: HeaderMap) -> dict[str, str]:
    """Header values as text: latin-1, which keeps every byte."""
    values: dict[str, str] = {}
    for header in headers.headers:
        # Envoy fills raw_value; value is what older filters and other implementations fill.
        value = header.raw_value.decode("latin-1") or header.value
        key = header.key
        values[key] = f"{values[key]}, {value}" if key in values else value
    return values
