"""A scripted server in memory: the `h2` package as an independent codec, against our client's side."""

from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes

from ext_proc.http2.client_connection import ClientConnection
from ext_proc.http2.client_stream import Broken, ClientStream, HttpResponse
from ext_proc.http2.hpack_literals import literal
from ext_proc.http2.limits import Limits
from tests.ext_proc.http2.peer import feed

BLOCK = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/v1/models/m:predict"),
        (b":authority", b"models"),
        (b"x-mine", b"1"),
    )
)
OK = [(":status", "200"), ("content-type", "application/json")]


@dataclass
class Asked:
    """A request as the server saw it."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None


class Service:
    """A client and a server, face to face."""

    def __init__(self, limits: Limits | None = None, **settings: int) -> None:
        self.woken = 0
        self.now = 0.0
        self.connection = ClientConnection(self._wake, limits)
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_outbound_headers=False)
        self.server = h2.connection.H2Connection(config)
        self.server.initiate_connection()
        self.server.update_settings({SettingCodes[name.upper()]: value for name, value in settings.items()})
        self.asked: dict[int, Asked] = {}
        self.outcomes: dict[int, HttpResponse | Broken] = {}
        self.grants = True
        self.exchange()

    def _wake(self) -> None:
        self.woken += 1

    def ask(self, *body: bytes, limit: int = 1 << 20, block: bytes = BLOCK) -> ClientStream:
        """Sends a request; its outcome comes into `outcomes` by the number of its stream."""
        exchange: ClientStream | None = None

        def ended(outcome: HttpResponse | Broken) -> None:
            assert exchange is not None
            assert exchange.id not in self.outcomes
            self.outcomes[exchange.id] = outcome

        exchange = self.connection.request(block, body, limit, ended)
        return exchange

    def reply(self, number: int, headers: Any = OK, body: bytes = b"", trailers: Any = None) -> None:
        """Answers a request whole."""
        self.server.send_headers(number, headers, end_stream=not body and trailers is None)
        for start in range(0, len(body), 16384):
            last = start + 16384 >= len(body)
            self.server.send_data(number, body[start : start + 16384], end_stream=last and trailers is None)
            self.exchange()
        if trailers is not None:
            self.server.send_headers(number, trailers, end_stream=True)
        self.exchange()

    def exchange(self) -> None:
        """Carries bytes both ways until there are no more."""
        while True:
            out = self.connection.take()
            if out:
                self._note(self.server.receive_data(out))
            back = self.server.data_to_send()
            if back:
                feed(self.connection, back, self.now)
            elif not out:
                return

    def raw(self, data: bytes) -> None:
        """Bytes that no honest server would send."""
        self.exchange()
        feed(self.connection, data, self.now)

    def _note(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                self.asked[event.stream_id] = Asked(list(event.headers))
            elif isinstance(event, h2.events.DataReceived):
                self.asked[event.stream_id].body += event.data
                if self.grants:
                    self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.asked[event.stream_id].ended = True
            elif isinstance(event, h2.events.StreamReset):
                self.asked[event.stream_id].reset = int(event.error_code)
