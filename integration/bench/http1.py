"""HTTP/1.1 for a load generator: as little of it as answers from Envoy need, and so in hardly any time of its own.

What a client spends before a call is sent, and after its answer is there, would be measured as the time of the answer.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

_HEAD_END = b"\r\n\r\n"


class HttpError(Exception):
    """The connection ended in the middle of an answer, or what came is no HTTP/1.1."""


def post(authority: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", f"host: {authority}", f"content-length: {len(body)}"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


class Answer:
    """One answer as it comes in. Bodies have a length, or come in chunks; their bytes are passed over."""

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is there."""
        self.keeps_open = True
        """Whether the connection can be used again."""
        self._held = bytearray()
        self._left = 0  # bytes of the body, or of a chunk and the line end behind it
        self._chunked = False
        self._chunks_end = False

    def feed(self, data: bytes) -> bool:
        """Takes more bytes; whether the answer is whole now. Raises HttpError."""
        self._held += data
        if not self.status and not self._read_head():
            return False
        while True:
            passed = min(self._left, len(self._held))
            del self._held[:passed]
            self._left -= passed
            if self._left:
                return False
            if not self._chunked or self._chunks_end:
                return True
            line, found, rest = self._held.partition(b"\r\n")
            if not found:
                return False
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise HttpError(f"{bytes(line[:20])!r} is no size of a chunk") from None
            self._held = rest
            self._left, self._chunks_end = size + 2, size == 0  # without trailers an empty line ends it all

    def _read_head(self) -> bool:
        head, found, rest = self._held.partition(_HEAD_END)
        if not found:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, told = first.partition(" ")
        if version != "HTTP/1.1" or not told[:3].isdecimal():
            raise HttpError(f"{first[:40]!r} begins no answer")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.status = int(told[:3])
        self.keeps_open = headers.get("connection", "").lower() != "close"
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else int(headers.get("content-length", "0"))
        self._held = rest
        return True


class Connections:
    """Connections to one place. Each carries one call at a time; where none is free, one is made."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def call(self, request: bytes) -> int:
        """The status of the answer, once that is whole. Raises HttpError, OSError."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                break
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
            self._all.add(connection)
        try:
            answer = await connection.ask(request)
        except BaseException:
            self._all.discard(connection)
            connection.close()
            raise
        if answer.keeps_open:
            self._free.append(connection)
        else:
            self._all.discard(connection)
            connection.close()
        return answer.status

    def close(self) -> None:
        """Closes all connections."""
        for connection in self._all:
            connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_open = True
        self._transport: asyncio.Transport | None = None
        self._answer = Answer()
        self._whole: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of a class of its own

    def data_received(self, data: bytes) -> None:
        if self._whole is None or self._whole.done():
            self.close()
            return
        try:
            if self._answer.feed(data):
                self._whole.set_result(self._answer)
        except HttpError as error:
            self._whole.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(HttpError("the connection ended before the answer"))

    async def ask(self, request: bytes) -> Answer:
        assert self._transport is not None
        self._answer = Answer()
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._whole

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
