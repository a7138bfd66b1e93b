"""The server's side of HTTP/2: frames, right and wrong, in reads of any size."""

from ext_proc.http2 import frames
from ext_proc.http2.connection import H2Connection
from ext_proc.http2.frames import Setting, frame, settings_frame
from ext_proc.http2.hpack_literals import literal
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_connection import ServerConnection
from tests.ext_proc.http2.peer import HEADERS, PATH, Book, Echo, message
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

BLOCK = b"".join(literal(name.encode(), value.encode()) for name, value in HEADERS)
OTHER = BLOCK.replace(b"Method", b"Nothng")
GREETING = frames.PREFACE + settings_frame({Setting.ENABLE_PUSH: 0})


class Echoes(Book):
    def open(self, stream: object) -> Echo:
        return Echo(stream, [], 0)  # type: ignore[arg-type]


def run(data: bytes) -> None:
    reader = Reader(data)
    connection = ServerConnection({PATH: Echoes().open}, lambda: None, Limits())
    if reader.flag():
        connection.receive(GREETING, 0.0)
    drive(connection, reader, (BLOCK, OTHER, BLOCK[:9]))
    connection.lost()


def drive(connection: H2Connection, reader: Reader, blocks: tuple[bytes, ...]) -> None:  # type: ignore[type-arg]
    """Plays frames to one side of a connection; what holds for both sides is checked."""
    now = 0.0
    while reader:
        step = reader.number(11)
        number = reader.number() if step < 9 else 0
        if step == 0:
            connection.receive(reader.piece(), now)
        elif step <= 2:
            flags = reader.pick((4, 5, 0, 0x2C))
            connection.receive(frame(frames.HEADERS, flags, number, reader.pick(blocks)), now)
        elif step == 3:
            connection.receive(frame(frames.DATA, reader.pick((0, 1, 8)), number, message(reader.piece())), now)
        elif step == 4:
            connection.receive(frame(frames.SETTINGS, 0, 0, _settings(reader)), now)
        elif step <= 6:
            connection.receive(frame(reader.number(10), reader.number(), number, reader.piece()), now)
        elif step == 7:
            connection.receive(frame(frames.WINDOW_UPDATE, 0, number, reader.number(1 << 30).to_bytes(4, "big")), now)
        elif step == 8:
            connection.receive(frame(frames.RST_STREAM, 0, number, bytes(4)), now)
        elif step == 9:
            (connection.pause if reader.flag() else connection.resume)()
        elif step == 10:
            now += reader.number() / 100
        elif reader.number() == 0:
            connection.shut_down()
        while connection.behind:  # until it is not, nothing more is read
            connection.go_on(now)
        while connection.take() and connection.unsent:
            pass
        assert not (connection.ended and connection.streams)


def _settings(reader: Reader) -> bytes:
    pairs = (reader.number(7).to_bytes(2, "big") + reader.number((1 << 32) - 1).to_bytes(4, "big") for _ in range(3))
    return b"".join(pairs)


TARGET = Target(
    run,
    (
        b"\1" + b"\1\1\0\0" + b"\3\1\1\5hello",
        b"\1" + b"\1\1\1\0" + b"\3\1\0\5hello" + b"\4\0\4\0\0\0\0\4\0\0\0\1\5\0\1\0\0" + b"\7\0\0\1\0\0" + b"\x08\1",
        b"\0\0\0\x18" + frames.PREFACE + b"\1\1\1\0\x09\0\x09\1\x0b\0",
    ),
    (
        b"\1\1\0\0",
        b"\3\1\0\5hello",
        b"\4\0\4\0\0\xff\xff",
        b"\x08\1",
        b"\7\1\0\0\0\1",
        b"\x09\0",
        b"\x09\1",
        b"\5\0\6\0\x08\0\0\0\0\0\0\0\0",
    ),
)
