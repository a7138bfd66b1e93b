"""ProcessingRequest: one message of Envoy's, read into plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from ext_proc.contract import TIME_ATTRIBUTE, UPSTREAM_ATTRIBUTE
from ext_proc.errors import TbmsError
from ext_proc.processing import first_message
from ext_proc.protos.ext_proc_pb2 import HeaderMap, ProcessingRequest
from mesh.bounded import ByteMemo
from mesh.digits import number


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


# The modes that the machine knows; any other is a mistake in the filter's configuration.
SUPPORTED_MODES = {int(mode): mode for mode in (BodyMode.NONE, BodyMode.BUFFERED, BodyMode.FULL_DUPLEX)}


# What an Envoy can do depends on its version; one that does not tell is at least this one.
Version = tuple[int, int]
NEWEST: Version = (1, 40)


_NONE_REPEATED: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(slots=True, init=False)
class Head:
    """The headers of a request, and how its body comes.

    Names are lower-case; values of a repeated name are joined with `, `.
    """

    headers: Final[Mapping[str, str]]
    end_of_stream: Final[bool]
    mode: Final[BodyMode]
    envoy: Final[Version]
    received: Final[float | None]
    """When Envoy got the request, in seconds since the epoch, where it tells that."""
    repeated: Final[Mapping[str, tuple[str, ...]]]
    """The values of each repeated name, line by line: whoever sends the request on sends them so."""

    def __init__(
        self,
        headers: Mapping[str, str],
        end_of_stream: bool,
        mode: BodyMode,
        envoy: Version = NEWEST,
        received: float | None = None,
        repeated: Mapping[str, tuple[str, ...]] = _NONE_REPEATED,
    ) -> None:
        self.headers = headers
        self.end_of_stream = end_of_stream
        self.mode = mode
        self.envoy = envoy
        self.received = received
        self.repeated = repeated

    @property
    def body_can_come(self) -> bool:
        """Whether the body is sent to us, or will be if we ask for it."""
        return self.mode is not BodyMode.NONE or self.envoy >= (1, 40)

    @property
    def streams_answers(self) -> bool:
        """Whether this Envoy takes an answer with trailers from us, as gRPC needs."""
        return self.envoy >= (1, 37)


class ReplyPart:
    """The headers of a node's reply, or its trailers. Read only as far as the policy asks: most of them just pass."""

    __slots__ = ("_fields", "_message", "ends")

    def __init__(self, message: ProcessingRequest) -> None:
        self._message = message
        is_head = message.WhichOneof("request") == "response_headers"
        head = message.response_headers
        self._fields = (head.headers if is_head else message.response_trailers.trailers).headers
        self.ends = not is_head or head.end_of_stream
        """Whether nothing follows."""

    @property
    def status(self) -> int:
        """The HTTP status; 0 in trailers."""
        return _number(self.value(":status"))

    @property
    def grpc_status(self) -> int:
        """The gRPC status, which only the last part of a reply has; 0 where there is none, and for OK."""
        return _number(self.value("grpc-status")) if self.ends else 0

    def value(self, name: str) -> str | None:
        """The first header of that name (lower case); None if there is none."""
        for header in self._fields:
            if header.key == name:
                return header.raw_value.decode("latin-1") or header.value
        return None

    @property
    def upstream(self) -> str | None:
        """The `ip:port` of the node that answered, where Envoy tells it."""
        return _attribute(self._message, UPSTREAM_ATTRIBUTE)


def _attribute(message: ProcessingRequest, name: str) -> str | None:
    if not message.attributes:
        return None
    for values in message.attributes.values():
        if name in values.fields:
            return values.fields[name].string_value
    return None


def _received(message: ProcessingRequest) -> float | None:
    text = _attribute(message, TIME_ATTRIBUTE)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        raise StreamError(f"the attribute {TIME_ATTRIBUTE} is not a time") from None


def _number(text: str | None) -> int:
    return number(text or "", 3) or 0


def read_version(text: str) -> Version:
    """`1.38.3` or `1.38` as (1, 38); what is not a version is taken for the newest."""
    return _VERSIONS[text]


def _version(text: str) -> Version:
    major, minor = ([number(part, 4) for part in text.split(".", 2)[:2]] + [None, None])[:2]
    return NEWEST if major is None or minor is None else (major, minor)


_VERSIONS = ByteMemo(_version)


def parse(data: bytes) -> ProcessingRequest:
    """Reads one message from Envoy. Raises StreamError if it is not one."""
    try:
        return ProcessingRequest.FromString(data)
    except Exception as error:  # upb raises DecodeError, which the stubs of older versions do not name
        raise StreamError("a message on the stream is not a ProcessingRequest") from error


def plain_head(data: bytes, envoy: Version = NEWEST) -> Head | None:
    """The head, from a first message that has nothing else; None if `parse` and `head_of` are to read it."""
    parts = first_message.read(data)
    if parts is None:
        return None
    headers, end_of_stream, number = parts
    return Head(headers, end_of_stream, _mode(number), envoy)


def head_of(message: ProcessingRequest, envoy: Version = NEWEST) -> Head:
    """The head in the first message of a stream from that Envoy."""
    request = message.request_headers
    mode = _mode(message.protocol_config.request_body_mode)
    headers, repeated = _read_headers(request.headers)
    return Head(headers, request.end_of_stream, mode, envoy, _received(message), repeated)


def _mode(number: int) -> BodyMode:
    mode = SUPPORTED_MODES.get(number)
    if mode is None:
        raise StreamError(f"the filter sends bodies in mode {number}; use NONE, BUFFERED or FULL_DUPLEX_STREAMED")
    return mode


def _read_headers(headers: HeaderMap) -> tuple[dict[str, str], Mapping[str, tuple[str, ...]]]:
    """Header values as text (latin-1, which keeps every byte), joined; and the lines of those names that are repeated.

    A list of text means the same in one line (RFC 9110, section 5.3), but gRPC hands metadata on value by value, and
    binary values that are joined are no base64 any more (PROTOCOL-HTTP2.md of gRPC).
    """
    # Envoy fills raw_value; value is what older filters and other implementations fill.
    pairs = [(header.key, header.raw_value.decode("latin-1") or header.value) for header in headers.headers]
    values = dict(pairs)
    if len(values) == len(pairs):
        return values, _NONE_REPEATED
    lines: dict[str, list[str]] = {}
    for key, value in pairs:
        lines.setdefault(key, []).append(value)
    repeated = {key: tuple(several) for key, several in lines.items() if len(several) > 1}
    values.update({key: ", ".join(several) for key, several in repeated.items()})
    return values, repeated
