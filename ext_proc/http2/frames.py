"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6): their numbers, how they are written and their payloads read."""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# A frame's header: 24 bits of length (as 8 and 16), type, flags, stream. The highest bit of the stream is reserved.
HEADER: Final = struct.Struct(">BHBBI")
HEADER_SIZE: Final = HEADER.size
STREAM_MASK: Final = 2**31 - 1

# The smallest and the largest bound on a frame's payload that a peer may set, and the window that all start with.
MIN_FRAME_BYTES: Final = 2**14
MAX_FRAME_BYTES: Final = 2**24 - 1
DEFAULT_WINDOW: Final = 2**16 - 1
MAX_WINDOW: Final = 2**31 - 1

# Plain integers: they are compared for every frame.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

_WORD: Final = struct.Struct(">I")
_TWO_WORDS: Final = struct.Struct(">II")
_SETTING: Final = struct.Struct(">HI")


# The flags of a frame's header, for the same reason. ACK and END_STREAM are the same bit of different frames.
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class Setting(IntEnum):
    """The settings that are sent or obeyed here (section 6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class ConnectionFault(Exception):
    """The peer broke a rule of the connection, which ends with GOAWAY. `message` goes along as debug data."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StreamFault(Exception):
    """The peer broke a rule of one stream, which ends with RST_STREAM."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


class Span(NamedTuple):
    """Where in a buffer a payload lies."""

    start: int
    end: int


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of any type; `stream` is 0 for one of the connection."""
    size = len(payload)
    return HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings_frame(settings: dict[Setting, int]) -> bytes:
    """A SETTINGS frame of our own settings."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(number, value) for number, value in settings.items()))


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)


def read_settings(payload: bytes, most: int) -> dict[int, int]:
    """Values by the numbers of their settings, of a number that comes again the last; at most `most` in all.

    Raises ConnectionFault for a value out of its range.
    """
    if len(payload) % _SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS frame is not a whole number of settings")
    if len(payload) > most * _SETTING.size:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"a SETTINGS frame has more than {most} settings")
    pairs = list(_SETTING.iter_unpack(payload))
    for number, value in pairs:
        if number == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if number == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is over the largest window")
        if number == Setting.MAX_FRAME_SIZE and not MIN_FRAME_BYTES <= value <= MAX_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
    return dict(pairs)


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """An RST_STREAM frame: ends one stream at once."""
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame: lets the peer send `size` bytes more, on a stream or (0) on the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(size))


def goaway(last: int, code: ErrorCode, message: str = "") -> bytes:
    """A GOAWAY frame: no stream over `last` is or will be served; `message` is for the peer's log."""
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last, code) + message.encode())


def word(buffer: bytes, start: int) -> int:
    """The 32 bits at `start`."""
    value: int = _WORD.unpack_from(buffer, start)[0]
    return value


def unpadded(buffer: bytes, start: int, end: int) -> Span:
    """The payload between the length of the padding and the padding. Raises ConnectionFault if there is no such."""
    if start == end:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame has no room for the length of its padding")
    inner = end - buffer[start]
    if inner <= start:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding is as long as the frame or longer")
    return Span(start + 1, inner)
