"""What hostile peers send: bytes of HTTP/2, made without any library that would refuse to write them.

Each attack has a bounded rate. What it takes from the server at that rate is meant to be a part of one core, so that
what healthy calls feel is what the server does with it and not that there is no CPU left.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import hpack

from ext_proc.contract import PROCESS_METHOD
from ext_proc.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Setting,
    frame,
    settings_frame,
)
from ext_proc.protos.ext_proc_pb2 import ProcessingRequest
from integration.bench.routing.benchmark import framed_predict

KiB, MiB = 1 << 10, 1 << 20
GREETING = PREFACE + settings_frame({Setting.ENABLE_PUSH: 0})
_FIELDS = ((":method", "POST"), (":scheme", "http"), (":path", PROCESS_METHOD), (":authority", "tbms"),
           ("te", "trailers"), ("content-type", "application/grpc"))  # fmt: skip
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


def _block(fields: object) -> bytes:
    """Literals that touch no table, so that the same bytes mean the same everywhere."""
    encoder = hpack.Encoder()
    return bytes(encoder.encode([(*field, True) for field in fields], huffman=False))  # type: ignore[attr-defined]


_BLOCK = _block(_FIELDS)


def _open(number: int, block: bytes = _BLOCK) -> bytes:
    return frame(HEADERS, END_HEADERS, number, block)


def _message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def _asked(index: int) -> bytes:
    """What Envoy would ask about a call that is like no other: its model, its query and a header are its own."""
    request = ProcessingRequest()
    fields = (
        (":method", "POST"),
        (":path", f"/v1/models/m{index}:predict?q={index:0200d}"),
        (":authority", f"host{index}"),
        ("content-type", f"application/json; x={index}"),
        (f"x-own-{index}", f"{index}"),
        ("x-tbms-model", f"m{index}"),
    )
    for key, value in fields:
        request.request_headers.headers.headers.add(key=key, raw_value=value.encode())
    return _message(request.SerializeToString())


def _calls(first: int, count: int) -> bytes:
    """Whole calls, each ended by its client as Envoy ends them."""
    parts: list[bytes] = []
    for index in range(first, first + count):
        number = 2 * index + 1
        parts += (_open(number), frame(DATA, END_STREAM, number, _asked(index)))
    return b"".join(parts)


@dataclass(frozen=True)
class Attack:
    """`begin` is sent on each of `connections`, then, every `every` seconds in turn, `chunk(index)`.

    `of_server`: on the server's own socket, as a peer that is no Envoy; otherwise on Envoy's listener, as any client.
    `anew`: each chunk goes on a connection of its own. `index` counts the chunks of a connection.
    """

    what: str
    chunk: Callable[[int], bytes]
    begin: bytes = GREETING
    every: float = 0.01
    connections: int = 1
    of_server: bool = True
    anew: bool = False


def _settings(index: int) -> bytes:
    window = 1000 + index % 2
    values = b"".join(b"\0\4" + (window + n % 2).to_bytes(4, "big") for n in range(63))
    return frame(SETTINGS, 0, 0, values) * 4


def _late(_: int) -> bytes:
    late = (
        frame(RST_STREAM, 0, 1, bytes(4)),
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        frame(PING, ACK, 0, bytes(8)),
        frame(SETTINGS, ACK, 0),
        frame(DATA, 0, 3),
    )
    return b"".join(late) * 20


def _partial(index: int) -> bytes:
    """One more stream with most of a message of a megabyte."""
    number = 2 * index + 1
    data = _message(bytes(MiB))[: 160 * KiB]
    return _open(number) + b"".join(
        frame(DATA, 0, number, data[at : at + 16 * KiB]) for at in range(0, len(data), 16 * KiB)
    )


def _slow(index: int) -> bytes:
    """Half a preface, or a header block that never ends."""
    return PREFACE[:12] if index % 2 else GREETING + frame(HEADERS, 0, 1, _BLOCK[:10])


def _bombs(index: int) -> bytes:
    """Lists of many fields, of one large field many times, and of more than the server takes."""
    number = 6 * index + 1
    many = bytes([0x82]) * 1200
    again = hpack.Encoder().encode([("a", "x" * 3000)] * 20)
    over = _block([*_FIELDS, ("x", "y" * 150 * KiB)])
    pieces = [over[at : at + 16 * KiB] for at in range(0, len(over), 16 * KiB)]
    rest = b"".join(
        frame(CONTINUATION, END_HEADERS if at == len(pieces) - 1 else 0, number + 4, piece)
        for at, piece in enumerate(pieces)
        if at
    )
    return _open(number, many) + _open(number + 2, again) + frame(HEADERS, END_STREAM, number + 4, pieces[0]) + rest


@cache
def _gzipped_call() -> bytes:
    """A raced call of 62 MiB that comes in as 62 KiB."""
    fields = ((":method", "POST"), (":scheme", "http"), (":path", _PREDICT), (":authority", "models"),
              ("te", "trailers"), ("content-type", "application/grpc"), ("grpc-encoding", "gzip"),
              ("tloc", "5000"), ("backup", "other"))  # fmt: skip
    plain = framed_predict(62 * MiB)[5:]
    packed = gzip.compress(plain, 9)
    data = b"\1" + len(packed).to_bytes(4, "big") + packed
    cut = [data[at : at + 16 * KiB] for at in range(0, len(data), 16 * KiB)]
    sent = b"".join(frame(DATA, END_STREAM if at == len(cut) - 1 else 0, 1, piece) for at, piece in enumerate(cut))
    return GREETING + _open(1, _block(fields)) + sent


STREAMS = b"".join(_open(number) for number in range(1, 10_001, 2))
PER_TICK = 75
"""Distinct calls a hundredth of a second: 101,250 in three rounds of four and a half seconds."""

ATTACKS = {
    "names": Attack(
        "100,000 calls, each of a path, a model and headers of its own", lambda i: _calls(PER_TICK * i, PER_TICK)
    ),
    "gzip": Attack(
        "gzipped gRPC calls of 62 MiB, raced", lambda _: _gzipped_call(), b"", 1.0, of_server=False, anew=True
    ),
    "backlog": Attack(
        "one connection that asks for 4,000 calls at once", lambda i: _calls(4_000 * i, 4_000), every=1.0
    ),
    "settings": Attack("SETTINGS that change the windows of 5,000 streams", _settings, GREETING + STREAMS),
    "late": Attack(
        "frames of streams long closed, answers to nothing",
        _late,
        GREETING + _open(1) + frame(RST_STREAM, 0, 1, bytes(4)) + _open(3),
    ),
    "one_byte": Attack(
        "a message byte by byte",
        lambda _: frame(DATA, 0, 1, b"x") * 150,
        GREETING + _open(1) + frame(DATA, 0, 1, _message(bytes(MiB))[:5]),
    ),
    "partial": Attack("unfinished messages on ever more streams", _partial, every=0.02),
    "slow": Attack("half prefaces and header blocks, ever more of them", _slow, b"", 0.02, anew=True),
    "headers": Attack("header lists of 1,200 fields, and of 60 and 150 KiB", _bombs, every=0.05),
}
