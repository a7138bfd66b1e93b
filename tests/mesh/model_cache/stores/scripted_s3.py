"""An S3 that does what a test tells it to: real HTTP, hostile or unlucky replies.

Google Cloud Storage is played by it, too: what obstore asks of it (its XML API: list-type=2, ranged reads with
If-Match) is the same. There is no emulator of that API to be had here; what Google's own service does is not tested.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

from mesh.model_cache.stores import StoreSettings


@dataclass
class ScriptedS3:
    """`bodies` are the files by key (in the bucket `models`, below the prefix `p`), with their etags."""

    bodies: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    extra: list[tuple[str, int]] = field(default_factory=list)
    """Keys and sizes that are listed besides the bodies."""
    endless: bool = False
    """Every page of the list says that there is another."""
    on_read: Callable[[str, int], Awaitable[web.StreamResponse | None]] | None = None
    """Called with key and offset before a read; what it returns is the reply."""
    reads: list[tuple[str, int, int]] = field(default_factory=list)
    """Key, first and last byte of every read that was answered with bytes."""
    authorization: list[str] = field(default_factory=list)
    """What each request said of that header."""
    pages: int = 0
    settings: StoreSettings = field(init=False)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.authorization.append(request.headers.get("Authorization", ""))
        if "list-type" in request.query:
            return self._list(request.query.get("prefix", ""))
        key = request.path.removeprefix("/models/")
        bounds = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert bounds
        first, last = int(bounds[1]), int(bounds[2])
        if self.on_read and (reply := await self.on_read(key, first)) is not None:
            return reply
        body, etag = self.bodies[key]
        if request.headers["If-Match"] != etag:
            return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
        piece = body[first : last + 1]
        self.reads.append((key, first, last))
        span = f"bytes {first}-{first + len(piece) - 1}/{len(body)}"
        headers = {"ETag": etag, "Content-Range": span, "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
        return web.Response(status=206, body=piece, headers=headers)

    def _list(self, prefix: str) -> web.Response:
        self.pages += 1
        listed = [(key, len(body), etag) for key, (body, etag) in self.bodies.items() if key.startswith(prefix)]
        listed += [(f"{key}{self.pages if self.endless else ''}", size, '"e"') for key, size in self.extra]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-02T10:00:00.000Z</LastModified>"
            f"<ETag>{escape(etag)}</ETag><Size>{size}</Size></Contents>"
            for key, size, etag in listed
        )
        more = "<NextContinuationToken>more</NextContinuationToken>" if self.endless else ""
        entries = f"<IsTruncated>{str(self.endless).lower()}</IsTruncated>{more}{entries}"
        xml = f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>{entries}</ListBucketResult>'
        return web.Response(text=xml, content_type="application/xml")


@asynccontextmanager
async def scripted_s3() -> AsyncIterator[ScriptedS3]:
    store = ScriptedS3()
    async with _serving(store.answer) as endpoint:
        store.settings = StoreSettings(
            url="s3://models/p", endpoint=endpoint, region="us-east-1", part_bytes=64 << 10, concurrency=2
        )
        yield store


@asynccontextmanager
async def scripted_gcs() -> AsyncIterator[ScriptedS3]:
    """The same as Google Cloud Storage, public."""
    async with scripted_s3() as store:
        same = {**store.settings.model_dump(), "url": "gs://models/p", "region": None, "anonymous": True}
        store.settings = StoreSettings(**same)
        yield store


@asynccontextmanager
async def fixed_reply(status: int, text: str) -> AsyncIterator[str]:
    """A server that says the same to everything; its URL."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type="application/xml")

    async with _serving(answer) as endpoint:
        yield endpoint


@asynccontextmanager
async def _serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Takes connections, reads, and never says a word."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()
