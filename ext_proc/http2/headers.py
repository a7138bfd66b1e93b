"""The header blocks that come in: from HEADERS and CONTINUATION frames to the headers of a request or a response.

A block is put together (`HeaderBlockAssembler`), decoded from HPACK (`HeaderDecoder`) and held against section 8 of
RFC 9113 (`read_request_headers`, `read_response_headers`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from ext_proc.http2.frames import CONTINUATION, END_HEADERS, ConnectionFault, ErrorCode
from ext_proc.http2.hpack_decoder import HpackDecoder
from ext_proc.http2.limits import Limits

# Blocks that are remembered, and how long they may be, as they come and plain: 144 KiB for a connection at most.
_REMEMBERED, _REMEMBERED_BYTES, _REMEMBERED_PLAIN = 16, 1024, 8192
_REQUIRED: Final = frozenset([":method", ":scheme", ":path"])
_PSEUDO: Final = _REQUIRED | {":authority"}
# Section 8.2.2: of HTTP/1.1, and a mark of requests that were not translated with care.
_CONNECTION_SPECIFIC: Final = frozenset(
    ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]
)

# Section 8.2.1: visible ASCII without capitals and without a colon.
_NAME: Final = re.compile(r"[!-9;-@\[-~]+")
_NOT_IN_VALUES: Final = re.compile("[\0\r\n]")

Headers = tuple[tuple[str, bytes], ...]
HeaderList = list[tuple[str, str]]
HeadersT = TypeVar("HeadersT")


class HeaderBlockAssembler:
    """The block that a connection is in the middle of, if it is. `pieces` is empty otherwise.

    `waited` is for whoever watches the time that it takes, in seconds; each block begins with 0.
    """

    __slots__ = ("_limits", "_size", "_stream", "ends", "pieces", "waited")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stream = 0
        self._size = 0
        self.ends = 0
        self.waited = 0.0
        self.pieces: list[bytes] = []

    def begin(self, stream: int, ends: int, piece: bytes) -> None:
        """Takes the HEADERS frame of a block; `ends` says whether the block is the last of its stream."""
        self._stream = stream
        self._size = len(piece)
        self.ends = ends
        self.waited = 0.0
        self.pieces.append(piece)

    def check(self, stream: int, kind: int) -> None:
        """Raises ConnectionFault for a frame that comes between those of the block (section 6.10)."""
        if kind != CONTINUATION or stream != self._stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")

    def go_on(self, flags: int, piece: bytes) -> bytes | None:
        """Takes a CONTINUATION frame; the whole block if it was the last. Raises ConnectionFault."""
        if not self.pieces:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "there is no header block to continue")
        self.pieces.append(piece)
        self._size += len(piece)
        if len(self.pieces) > self._limits.continuations or self._size > self._limits.headers_read:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is over the limit")
        if not flags & END_HEADERS:
            return None
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The headers of a request. `malformed` says what is wrong with them (section 8.1.1), or is empty.

    `oversized`: the list is over the limits, and nothing of it is kept. `metadata` holds `:authority`, where there is
    one, and all that are no pseudo-headers; of a repeated name the values joined with a comma.
    """

    method: str = ""
    path: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    malformed: str = ""
    oversized: bool = False

    @property
    def is_grpc(self) -> bool:
        """Whether the content-type is one of gRPC's."""
        kind = self.metadata.get("content-type", "")
        return kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """The headers of a response, or its trailers, with the status 0; the rest as in `RequestHeaders`."""

    status: int = 0
    headers: Headers = ()
    malformed: str = ""
    oversized: bool = False


OVERSIZED_REQUEST, OVERSIZED_RESPONSE = RequestHeaders(oversized=True), ResponseHeaders(oversized=True)


class HeaderDecoder(Generic[HeadersT]):
    """Decodes the header blocks of one connection, in their order; `charge` is told what one has cost.

    `read` makes of the fields, as latin-1, what is asked for; `oversized` stands for a list that is over the limits.
    What was read is remembered: a client of gRPC sends the same headers on all its streams, and its encoder soon
    writes them as the same bytes; and what a block says depends on nothing but its bytes and the dynamic table, so that
    it holds until the table changes.
    """

    __slots__ = ("_charge", "_hpack", "_known", "_oversized", "_read")

    def __init__(
        self,
        limits: Limits,
        read: Callable[[HeaderList], HeadersT],
        oversized: HeadersT,
        charge: Callable[[int], None],
    ) -> None:
        self._read = read
        self._oversized = oversized
        self._charge = charge
        self._hpack = HpackDecoder(limits)
        self._known: dict[bytes, HeadersT] = {}

    def decode(self, block: bytes) -> HeadersT:
        """What a block says. Raises ConnectionFault if it cannot be decoded: the table is lost then."""
        headers = self._known.get(block)
        return self._decode(block) if headers is None else headers

    def _decode(self, block: bytes) -> HeadersT:
        table = self._hpack.table
        table.touched = False
        fields = self._hpack.decode(block)
        self._charge(self._hpack.cost)
        if table.touched:
            self._known.clear()
        if fields is None:
            return self._oversized
        headers = self._read([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])
        plain = sum(map(len, chain.from_iterable(fields)))
        if not table.touched and len(block) <= _REMEMBERED_BYTES and plain <= _REMEMBERED_PLAIN:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[bytes(block)] = headers
        return headers


def read_request_headers(fields: HeaderList) -> RequestHeaders:
    """The headers of a request (section 8.3.1)."""
    pseudo: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for name, value in fields:
        if name.startswith(":"):
            if name not in _PSEUDO or name in pseudo or metadata:
                return RequestHeaders(malformed=f"the pseudo-header {name!r} is unknown, repeated or out of place")
            pseudo[name] = value
        elif not _is_name(name):
            return RequestHeaders(malformed=f"{name!r} is not the name of a header")
        elif name in _CONNECTION_SPECIFIC or (name == "te" and value != "trailers"):
            return RequestHeaders(malformed=f"the header {name!r} has no place in HTTP/2")
        elif not _is_value(value):
            return RequestHeaders(malformed=f"the value of {name!r} holds control characters")
        elif name in metadata:
            metadata[name] = f"{metadata[name]},{value}"
        else:
            metadata[name] = value
    if not pseudo.keys() >= _REQUIRED or not pseudo[":path"]:
        return RequestHeaders(malformed="a request needs :method, :scheme and :path", metadata=metadata)
    if ":authority" in pseudo:
        metadata[":authority"] = pseudo[":authority"]
    return RequestHeaders(pseudo[":method"], pseudo[":path"], MappingProxyType(metadata))


def read_response_headers(fields: HeaderList) -> ResponseHeaders:
    """The headers or the trailers of a response (section 8.3.2)."""
    status = 0
    headers: list[tuple[str, bytes]] = []
    for name, value in fields:
        if name == ":status" and not status and not headers and len(value) == 3 and value.isascii() and value.isdigit():
            status = int(value)
        elif not _is_name(name):
            return ResponseHeaders(malformed=f"{name!r} is not the name of a header, or out of place")
        elif not _is_value(value):
            return ResponseHeaders(malformed=f"the value of {name!r} holds control characters")
        else:
            headers.append((name, value.encode("latin-1")))
    return ResponseHeaders(status, tuple(headers))


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _is_value(value: str) -> bool:
    return _NOT_IN_VALUES.search(value) is None
