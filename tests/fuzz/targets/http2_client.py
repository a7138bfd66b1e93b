"""The client's side of HTTP/2: what a peer may answer to requests of ours."""

from ext_proc.http2.client_connection import ClientConnection
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.frames import settings_frame
from ext_proc.http2.hpack_literals import literal
from ext_proc.http2.limits import Limits
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets import http2_server
from tests.fuzz.targets.http2_server import BLOCK, drive

OK = literal(b":status", b"200") + literal(b"content-type", b"application/grpc")
EARLY = literal(b":status", b"103") + literal(b"link", b"x")
TRAILERS = literal(b"grpc-status", b"0")


def run(data: bytes) -> None:
    reader = Reader(data)
    outcomes: list[HttpResponse | Broken] = []
    connection = ClientConnection(lambda: None, Limits())
    connection.receive(settings_frame({}), 0.0)
    streams = [
        connection.request(BLOCK, (b"x" * reader.number(100_000),), reader.number(1 << 16), outcomes.append)
        for _ in range(reader.number(4) + 1)
    ]
    given_up = reader.flag()
    drive(connection, reader, (OK, EARLY, TRAILERS, OK[:5]))
    if given_up:
        streams[0].give_up()
    connection.lost()
    # Whoever asked is told once, unless he has given up.
    assert len(streams) - given_up <= len(outcomes) <= len(streams)


TARGET = Target(
    run,
    (b"\0\0\1\0\0\1\0\0" + b"\1\1\0\0" + b"\3\1\0\5hello" + b"\1\1\1\2", *http2_server.TARGET.seeds),
    (b"\1\1\1\0", b"\1\1\0\1", b"\1\1\1\2", *http2_server.TARGET.words),
)
