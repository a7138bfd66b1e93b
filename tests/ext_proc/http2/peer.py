"""A scripted client in memory: the `h2` package as an independent codec, and sessions that write down what they see."""

from collections.abc import Callable, Mapping
from typing import Any

import h2.config
import h2.connection
import h2.events

from ext_proc.http2.connection import H2Connection
from ext_proc.http2.frames import HEADER, HEADER_SIZE, PREFACE, Setting, settings_frame
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_connection import ServerConnection
from ext_proc.http2.session import Open, Stream

PATH = "/test.Service/Method"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
METADATA = dict(HEADERS[3:])
"""What of them a session sees."""


class Recorder:
    """A session that does nothing but remember, in one list for all of a test's sessions."""

    def __init__(self, stream: Stream, log: list[Any], number: int) -> None:
        self.stream = stream
        self._log = log
        self._number = number
        log.append((number, "open", dict(stream.metadata)))

    def message(self, data: bytes) -> None:
        self._log.append((self._number, "message", data))

    def half_closed(self) -> None:
        self._log.append((self._number, "half_closed"))

    def gone(self) -> None:
        self._log.append((self._number, "gone"))


class Book:
    """Opens recorders, and keeps them in the order of their streams."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.sessions: list[Recorder] = []

    def open(self, stream: Stream) -> Recorder:
        session = Recorder(stream, self.log, len(self.sessions))
        self.sessions.append(session)
        return session

    def what(self) -> list[str]:
        return [entry[1] for entry in self.log]


class Echo(Recorder):
    """Answers each message with itself, and ends when the client does."""

    def message(self, data: bytes) -> None:
        super().message(data)
        self.stream.send(data)

    def half_closed(self) -> None:
        super().half_closed()
        self.stream.finish()


class Peer:
    """A client and a connection, face to face. `now` is what the connection is told of the time."""

    def __init__(self, session: Open, limits: Limits | None = None, paths: Mapping[str, Open] | None = None) -> None:
        self.woken = 0
        self.now = 0.0
        self.connection = ServerConnection(paths or {PATH: session}, self._wake, limits)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        self.client = h2.connection.H2Connection(config)
        self.client.initiate_connection()
        self.events: list[h2.events.Event] = []

    def _wake(self) -> None:
        self.woken += 1

    def exchange(self) -> list[h2.events.Event]:
        """Carries bytes both ways until there are no more; gives what the client saw."""
        seen: list[h2.events.Event] = []
        while True:
            out = self.client.data_to_send()
            if out:
                feed(self.connection, out, self.now)
            back = self.connection.take()
            if back:
                seen += self.client.receive_data(back)
            elif not out:
                self.events += seen
                return seen

    def call(self, body: bytes | None = None, *, end: bool = False, headers: Any = None) -> int:
        """Opens a stream, with a message if there is one."""
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(number, headers or HEADERS, end_stream=end and body is None)
        if body is not None:
            self.client.send_data(number, message(body), end_stream=end)
        return number

    def messages(self, stream: int) -> list[bytes]:
        """The gRPC messages that have come on a stream."""
        data = b"".join(e.data for e in self.events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream)
        return split(data)

    def status(self, stream: int) -> dict[str, str]:
        """The trailers of a stream, or the headers where there was nothing else."""
        kinds = (h2.events.TrailersReceived, h2.events.ResponseReceived)
        last = [e for e in self.events if isinstance(e, kinds) and e.stream_id == stream][-1]
        return dict(last.headers)


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(body).to_bytes(4, "big") + body


def split(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        found.append(data[5 : 5 + size])
        data = data[5 + size :]
    return found


def frames_of(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of whole frames."""
    found = []
    while data:
        high, low, kind, flags, number = HEADER.unpack_from(data)
        end = HEADER_SIZE + (high << 16 | low)
        found.append((kind, flags, number, data[HEADER_SIZE:end]))
        data = data[end:]
    return found


def feed(connection: H2Connection[Any], data: bytes, now: float = 0.0) -> int:
    """Gives a connection all of what came, in as many turns as that takes; how many those were."""
    connection.receive(data, now)
    turns = 1
    while connection.behind:
        connection.go_on(now)
        turns += 1
    return turns


def raw(session: Callable[[Stream], Any], limits: Limits | None = None) -> ServerConnection:
    """A connection that has been greeted; what it said to that is taken."""
    connection = ServerConnection({PATH: session}, lambda: None, limits)
    connection.receive(PREFACE + settings_frame({Setting.ENABLE_PUSH: 0}), 0.0)
    connection.take()
    return connection
