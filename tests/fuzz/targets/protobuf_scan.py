"""The walk over a message in chunks, against the walk over the whole of it."""

from ext_proc.errors import CallError
from ext_proc.wire.protobuf.fields import LEN, walk
from ext_proc.wire.protobuf.scan import Scanner
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

WANTED = frozenset((1, 2))
Fields = list[tuple[int, bytes | None]]


def run(data: bytes) -> None:
    reader = Reader(data)
    known, chunks = reader.flag(), list(reader.chunks())
    message = b"".join(chunks)
    size = len(message) if known else None
    in_chunks, at_once, walked = scan(chunks, size), scan([message], size), whole(message)
    assert in_chunks == at_once
    if isinstance(at_once, list):
        assert at_once == walked
    elif isinstance(walked, list):
        assert "too large to name" in at_once


def scan(chunks: list[bytes], size: int | None) -> Fields | str:
    scanner, found = Scanner(WANTED, size), []
    try:
        for chunk in chunks:
            found += list(scanner.feed(chunk))
        scanner.end()
    except CallError as error:
        return error.message
    return found


def whole(message: bytes) -> Fields | str:
    try:
        return [
            (field.number, message[field.body : field.end] if field.wire == LEN and field.number in WANTED else None)
            for field in walk(message)
        ]
    except CallError as error:
        return error.message


TARGET = Target(
    run,
    (b"\0\1\x0a\1m\x12\0013\x18\7\x21\0\0\0\0\0\0\0\0\x2d\0\0\0\0\x33\x08\1\x34", b"\1\3\x0a\xff\1" + bytes(255)),
    (b"\x0a", b"\x12\0", b"\x1a", b"\x0b", b"\x0c", b"\x08", b"\xff\xff\xff\xff\x0f", b"\x80\1", b"\x7d", b"\x79"),
)
