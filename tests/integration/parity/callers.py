"""Sending the requests of rows, byte for byte, over HTTP/1.0, HTTP/1.1, HTTP/2 and gRPC; one connection each."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc.aio
import httpcore
from google.protobuf import json_format

from tests.integration.parity.row import CLOSED, Answer, Grpc, Http
from tests.integration.raw import channel

# Nothing here takes longer; a reply that never comes must not hold up the suite.
PATIENCE_SECONDS = 60
# Set by each hop for itself, or said of the form of the body, which is read here.
_OF_THE_HOP = frozenset({
    "connection", "content-length", "date", "keep-alive", "server", "transfer-encoding",
    "x-envoy-upstream-service-time", "x-tbms-upstream",
})  # fmt: skip
_STATISTICS = ("last_inference", "inference_stats", "batch_stats", "inference_count", "execution_count")

Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Caller:
    """One server, by its two ports."""

    host: str
    rest: int
    http2: httpcore.AsyncConnectionPool
    grpc: grpc.aio.Channel
    kept: Connection | None = None

    async def http(self, call: Http, version: str) -> Answer:
        """One REST call over HTTP "1.0", "1.1" or "2"."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            if version == "2":
                return await self._over_http2(call)
            if self.kept is not None and version == "1.1":
                try:
                    return await self._over_http1(call, self.kept, version)
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass  # the server has closed it before it had seen this call
            # A reader's limit holds for one line.
            connection = await asyncio.open_connection(self.host, self.rest, limit=1 << 20)
            try:
                return await self._over_http1(call, connection, version)
            except (ConnectionError, asyncio.IncompleteReadError):
                return Answer(CLOSED, {}, b"")

    async def unary(self, call: Grpc) -> Answer:
        """One gRPC call."""
        message = call.message if isinstance(call.message, bytes) else call.message.SerializeToString()
        made = self.grpc.unary_unary(call.method)(
            message, metadata=call.metadata, timeout=call.timeout, compression=call.compression
        )
        try:
            reply = await made
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name, _metadata(error.trailing_metadata()), error.details() or "")
        assert call.reply is not None, "a row that may succeed says what to read its reply as"
        document = json_format.MessageToDict(call.reply.FromString(reply), preserving_proto_field_name=True)
        headers = _metadata(await made.initial_metadata()) | _metadata(await made.trailing_metadata())
        return Answer("OK", headers, comparable(document))

    async def _over_http2(self, call: Http) -> Answer:
        url = httpcore.URL(scheme=b"http", host=self.host.encode(), port=self.rest, target=call.path.encode("latin-1"))
        host = f"{self.host}:{self.rest}".encode()
        headers = [(b"host", host), *((name.encode(), value.encode()) for name, value in call.pairs)]
        headers = [pair for pair in headers if pair[0].lower() not in (b"connection", b"upgrade")]
        if call.body and not call.chunked:
            headers.append((b"content-length", b"%d" % len(call.body)))
        reply = await self.http2.request(call.method, url, headers=headers, content=call.body)
        return _answer(reply.status, [(name.decode(), value.decode()) for name, value in reply.headers], reply.content)

    async def _over_http1(self, call: Http, connection: Connection, version: str) -> Answer:
        """On one connection, which is kept where both sides keep it."""
        reader, writer = connection
        more = False
        if self.kept is connection:
            self.kept = None
        try:
            writer.write(written(call, version, f"{self.host}:{self.rest}"))
            status, headers, body, more = await _read(reader, call.method)
        finally:
            if more and self.kept is None:
                self.kept = connection
            else:
                writer.close()
        return _answer(status, headers, body)


@asynccontextmanager
async def caller(rest: str, grpc_target: str) -> AsyncIterator[Caller]:
    """A caller of the server at these two `host:port`."""
    host, _, port = rest.rpartition(":")
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(httpcore.AsyncConnectionPool(http1=False, http2=True))
        made = Caller(host, int(port), pool, await stack.enter_async_context(channel(grpc_target)))
        try:
            yield made
        finally:
            if made.kept is not None:
                made.kept[1].close()


def written(call: Http, version: str, host: str) -> bytes:
    """The request as HTTP/1 writes it. HTTP/1.0 knows no chunks, and needs no Host."""
    chunked = call.chunked and version != "1.0"
    names = {name.lower() for name, _ in call.pairs}
    lines = [f"{call.method} {call.path} HTTP/{version}"]
    if version != "1.0" and "host" not in names:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in call.pairs]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif call.body or call.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
        lines.append(f"Content-Length: {len(call.body)}")
    body = call.body
    if chunked:
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _read(reader: asyncio.StreamReader, method: str) -> tuple[int, list[tuple[str, str]], bytes, bool]:
    """Status, headers, body, and whether the connection stays open."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status = head[0].split(" ")[0], int(head[0].split(" ")[1])
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in head[1:] if line)]
        if status >= 200:
            break
    fields = {name.lower(): value for name, value in headers}
    more = fields.get("connection", "close" if version == "HTTP/1.0" else "").lower() != "close"
    if method == "HEAD":
        return status, headers, b"", False  # Triton sends a body nevertheless
    if fields.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return status, headers, body, more
    if "content-length" in fields:
        return status, headers, await reader.readexactly(int(fields["content-length"])), more
    return status, headers, await reader.read(), False


def _answer(status: int, headers: list[tuple[str, str]], body: bytes) -> Answer:
    fields = {name.lower(): value for name, value in headers if name.lower() not in _OF_THE_HOP}
    coding = fields.get("content-encoding")
    if coding == "gzip":
        body = gzip.decompress(body)
    elif coding == "deflate":
        body = zlib.decompress(body)
    return Answer(status, fields, body)


def _metadata(pairs: grpc.aio.Metadata | None) -> dict[str, Any]:
    return {name: value for name, value in pairs or () if name not in _OF_THE_HOP}


def comparable(reply: dict[str, Any]) -> dict[str, Any]:
    """Without what differs by nature: times."""
    for statistics in reply.get("model_stats", []):
        for key in _STATISTICS:
            statistics.pop(key, None)
    return reply
