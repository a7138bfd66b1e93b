"""Where the fields of a message lie that is all here: a faster walk than `fields.walk`, for what is cut into rows.

Groups are refused, as no message that is cut has any. Nothing is copied: a field is its tag and three places.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from ext_proc.wire.protobuf.fields import (
    FIXED32,
    FIXED64,
    LEN,
    MAX_FIELDS,
    MAX_TAG,
    VARINT,
    malformed,
    read_varint,
    split_tag,
)

Span = tuple[int, int, int, int]
"""A field as it stands in `data[start:end]`: (tag, start, where its content starts, end). See `LEN_TAG` for tags."""

_FIXED = {FIXED64: 8, FIXED32: 4}


def tag_of(number: int, wire: int = LEN) -> int:
    """The tag of a field of this number and wire type."""
    return number << 3 | wire


def spans(data: bytes, at: int, end: int, limit: int = MAX_FIELDS) -> list[Span]:
    """The fields of the message in `data[at:end]`, in order. Raises CallError(INVALID) at what is no such message.

    At most `limit` fields are walked; a tag is told as a number even where its bytes are more than needed.
    """
    found: list[Span] = []
    while at < end:
        start = at
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = read_varint(data, start)
        wire = tag & 7
        if tag < 8 or tag > MAX_TAG or wire > FIXED32 or at < 0:
            split_tag(tag, start)  # tells what is wrong with it
            raise malformed("a field is cut off", start)
        body = at
        if wire == LEN:
            if at >= end:
                raise malformed(f"field {tag >> 3} is cut off", start)
            size = data[at]
            body = at + 1
            if size >= 0x80:
                size, body = read_varint(data, at)
                if body < 0:
                    raise malformed(f"field {tag >> 3} is cut off", start)
            at = body + size
        elif wire == VARINT:
            _, at = read_varint(data, at)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise malformed("a group", start)
        if at > end or at < 0:
            raise malformed(f"field {tag >> 3} is cut off", start)
        if len(found) == limit:
            raise malformed(f"more than {limit} fields", start)
        found.append((tag, start, body, at))
    return found


def grouped(data: bytes, at: int, end: int, limit: int = MAX_FIELDS) -> dict[int, list[Span]]:
    """The fields of `spans`, by their tags."""
    groups: dict[int, list[Span]] = {}
    for span in spans(data, at, end, limit):
        groups.setdefault(span[0], []).append(span)
    return groups


def take(groups: dict[int, list[Span]], number: int, wire: int = LEN) -> list[Span]:
    """All fields of a number, taken out of their groups: length-delimited ones, and those of `wire`."""
    fields = groups.pop(number << 3 | LEN, [])
    if wire == LEN or number << 3 | wire not in groups:
        return fields
    return sorted([*fields, *groups.pop(number << 3 | wire)], key=itemgetter(1))


def take_one(groups: dict[int, list[Span]], number: int, wire: int = LEN) -> list[Span]:
    """The field of this number and wire type, if there is one, taken out of its groups.

    Raises CallError(INVALID) if there are several: parsers merge them, which nothing here does.
    """
    found = groups.pop(number << 3 | wire, [])
    if len(found) > 1:
        raise malformed(f"field {number} comes twice", found[1][1])
    return found


def content(data: bytes, fields: Sequence[Span]) -> bytes:
    """What is in the one field that there is; nothing, if there is none."""
    return data[fields[0][2] : fields[0][3]] if fields else b""


def rest(data: bytes, groups: Mapping[int, Sequence[Span]]) -> bytes:
    """The bytes of all fields of these groups, in their order: what a reader that has taken its own out leaves."""
    if not groups:
        return b""
    return joined(data, sorted([span for group in groups.values() for span in group], key=itemgetter(1)))


def integer(data: bytes, span: Span) -> int:
    """The number of a varint field, as an int64."""
    value, _ = read_varint(data, span[2])
    return value - (1 << 64) if value >= 1 << 63 else value


def integers(data: bytes, at: int, end: int, most: int) -> list[int]:
    """The int64 values of a packed field, at most `most` of them. Raises CallError(INVALID)."""
    values: list[int] = []
    while at < end:
        start, value = at, data[at]
        at += 1
        if value >= 0x80:
            value, at = read_varint(data, start)
            if value >= 1 << 63:
                value -= 1 << 64
        if at > end or at < 0 or len(values) == most:
            raise malformed("a list of numbers is cut off or too long", start)
        values.append(value)
    return values


def packed(data: bytes, fields: Sequence[Span]) -> memoryview:
    """The values of a repeated number as one packed field has them: a view, if they come in one.

    `fields` are all of its occurrences, each of them packed or a single value.
    """
    view = memoryview(data)
    if len(fields) == 1:
        return view[fields[0][2] : fields[0][3]]
    return memoryview(b"".join([view[field[2] : field[3]] for field in fields]))


def run(data: bytes, fields: Sequence[Span]) -> memoryview:
    """These fields, tags and all, one after the other: a view, if they stand so."""
    view = memoryview(data)
    if not fields:
        return view[:0]
    first, last = fields[0][1], fields[-1][3]
    if last - first == sum(field[3] - field[1] for field in fields):
        return view[first:last]
    return memoryview(joined(data, fields))


def joined(data: bytes, fields: Iterable[Span]) -> bytes:
    """The bytes of these fields."""
    return b"".join([data[field[1] : field[3]] for field in fields])
