"""Protobuf's wire format, for a message that is all here: walking its fields, and writing them.

Source: protobuf.dev/programming-guides/encoding. A tag is at most five bytes, a varint ten, a group may be
nested a hundred deep; whatever breaks these is malformed, as it is for protobuf's own parsers. The bound on the
number of fields is ours.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ext_proc.errors import CallError, Reason

VARINT: Final = 0
FIXED64: Final = 1
LEN: Final = 2
START_GROUP: Final = 3
END_GROUP: Final = 4
FIXED32: Final = 5
MAX_DEPTH: Final = 100
# Of one message, those in groups included: bounds the time that a message of tiny fields takes.
MAX_FIELDS: Final = 16_384
MAX_TAG: Final = (1 << 32) - 1
MAX_VARINT_BYTES: Final = 10
# What most numbers are written with: the varint of a small one, and the first of two bytes.
_SHORT: Final = [bytes([number]) for number in range(0x80)]
_LOW: Final = [bytes([number | 0x80]) for number in range(0x80)]


Pieces = Sequence[bytes | memoryview]
"""Bytes one after the other. A tensor of many MiB is a view of the message that it came in, and never copied."""


class Field(NamedTuple):
    """One field as it stands in `data[start:end]`.

    `value` is the number of a varint, otherwise 0; `body` is where the content of a length-delimited, fixed or
    group field starts, and it ends at `end`.
    """

    number: int
    wire: int
    value: int
    start: int
    body: int
    end: int


def malformed(why: str, at: int) -> CallError:
    """The error for bytes that are no protobuf; `at` counts from the start of the message."""
    return CallError(Reason.INVALID, f"The request is not a valid protobuf message: {why} at byte {at}.")


def read_varint(data: bytes | bytearray | memoryview, at: int, base: int = 0) -> tuple[int, int]:
    """The varint at `at` and the place after it; a place of -1 says that the data ends before it does.

    `base` is what `at` is short of the place in the message, for the error if it is over ten bytes long.
    """
    value = shift = 0
    stop = min(len(data), at + MAX_VARINT_BYTES)
    for place in range(at, stop):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    if stop == at + MAX_VARINT_BYTES:
        raise malformed("a number of more than ten bytes", base + at)
    return 0, -1


def split_tag(tag: int, at: int) -> tuple[int, int]:
    """Field number and wire type of a tag that stands at `at`."""
    number, wire = tag >> 3, tag & 7
    if number == 0 or tag > MAX_TAG:
        raise malformed("an impossible field number", at)
    if wire > FIXED32:
        raise malformed(f"an impossible wire type {wire}", at)
    return number, wire


def walk(data: bytes) -> Iterator[Field]:
    """The top-level fields of a whole message, in order. A group is one field. Raises CallError(INVALID)."""
    walker, at = _Walker(data), 0
    while at < len(data):
        field = walker.field(at, 0)
        if field.wire == END_GROUP:
            raise malformed("a group ends that was not begun", at)
        yield field
        at = field.end


def without(message: bytes, numbers: set[int]) -> Pieces:
    """The message without its length-delimited fields of these numbers. Raises CallError(INVALID)."""
    view, kept = memoryview(message), 0
    out: list[bytes | memoryview] = []
    for field in walk(message):
        if field.wire == LEN and field.number in numbers:
            out.append(view[kept : field.start])
            kept = field.end
    return [*out, view[kept:]]


def too_many(at: int) -> CallError:
    """The error for a message of more than MAX_FIELDS fields."""
    return malformed(f"more than {MAX_FIELDS} fields", at)


class _Walker:
    """Reads the fields of one message, and counts them."""

    __slots__ = ("_data", "_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_FIELDS

    def field(self, start: int, depth: int) -> Field:
        """The field that starts there; a group with all that is in it."""
        data = self._data
        self._left -= 1
        if self._left < 0:
            raise too_many(start)
        tag, at = read_varint(data, start)
        if at < 0:
            raise malformed("a field is cut off", start)
        number, wire = split_tag(tag, start)
        value, body, end = 0, at, at
        if wire == VARINT:
            value, end = read_varint(data, at)
        elif wire == LEN:
            size, body = read_varint(data, at)
            end = body + size if body >= 0 else -1
        elif wire == FIXED64:
            end = at + 8
        elif wire == FIXED32:
            end = at + 4
        elif wire == START_GROUP:
            end = self._group_end(number, at, depth + 1)
        if end < 0 or end > len(data):
            raise malformed(f"field {number} is cut off", start)
        return Field(number, wire, value, start, body, end)

    def _group_end(self, number: int, at: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise malformed("groups are nested too deep", at)
        while at < len(self._data):
            field = self.field(at, depth)
            if field.wire == END_GROUP:
                if field.number != number:
                    raise malformed("a group ends that was not begun", at)
                return field.end
            at = field.end
        return -1


def varint(value: int) -> bytes:
    """A varint of a number that is not negative."""
    if value <= 0x7F:
        return _SHORT[value]
    if value <= 0x3FFF:
        return _LOW[value & 0x7F] + _SHORT[value >> 7]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def len_field(number: int, content: bytes) -> bytes:
    """A length-delimited field, tag and all."""
    return varint(number << 3 | LEN) + varint(len(content)) + content


def varint_field(number: int, value: int) -> bytes:
    """A varint field, tag and all; `value` is not negative."""
    return varint(number << 3 | VARINT) + varint(value)
