"""The node's residency, published over HTTP: what edges follow, and the one thing that they may ask for.

`GET /residency` is a stream of lines (`mesh.residency.line`): the residency of every model first, then changes, and a
heartbeat line where nothing has changed. `POST /models/{model}/warm` loads a model that calls are about to come for;
it is answered once the model is available. With `?room=free` it is refused where another model would be evicted for
it, or for what it needs.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import ceil

from aiohttp import web

from ext_proc.errors import CallError, Reason
from ext_proc.node.refusals import refusal
from mesh.model_cache.errors import CacheError
from mesh.model_cache.feed import ResidencyReport
from mesh.model_cache.manager import Manager
from mesh.residency.line import Heard, write_line

MAX_WATCHERS = 1024
"""Residency streams at once: so many to edges, and as many to people."""
MAX_WARMING = 64
"""Requests to warm a model that may wait at once."""
_WRITE_SECONDS = 10.0
"""A watcher that takes nothing for so long is disconnected; an edge connects again."""


class ResidencyPublisher:
    """The HTTP handlers. A slow watcher gets the last state of each model, never a backlog."""

    def __init__(self, manager: Manager, heartbeat_seconds: float) -> None:
        self._commands = manager.commands
        self._node_report = manager.node_report
        self._heartbeat_seconds = heartbeat_seconds
        self._warming = 0
        self.leaving = False
        """The node drains: nothing is warmed any more."""
        self._streams = Counter[bool]()  # open residency streams, by whether they count as watchers

    @property
    def watchers(self) -> int:
        """Edges that follow this node, and so may still send calls to it."""
        return self._streams[True]

    def routes(self, counted: bool = True) -> list[web.RouteDef]:
        """What edges may ask. With `counted` False, for people: the stream alone, and who reads it is no watcher."""

        async def get_residency(request: web.Request) -> web.StreamResponse:
            return await self._get_residency(request, counted)

        stream = web.get("/residency", get_residency)
        return [stream, web.post("/models/{model}/warm", self._post_warm)] if counted else [stream]

    async def _get_residency(self, request: web.Request, counted: bool) -> web.StreamResponse:
        if self._streams[counted] >= MAX_WATCHERS:
            return web.Response(status=503, text="too many watchers\n")
        self._streams[counted] += 1
        reply = web.StreamResponse(headers={"content-type": "application/x-ndjson", "cache-control": "no-store"})
        try:
            await reply.prepare(request)
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    async with asyncio.timeout(_WRITE_SECONDS):
                        await reply.write(line)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()  # what is buffered for it is of no use to anybody
        finally:
            self._streams[counted] -= 1
        return reply

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        """The lines of one stream, for ever."""
        reports = self._node_report.subscribe()
        coming: asyncio.Task[ResidencyReport] | None = None
        report = ResidencyReport({})
        try:
            while True:
                coming = coming or asyncio.create_task(anext(reports))
                arrived, _ = await asyncio.wait((coming,), timeout=self._heartbeat_seconds)
                if arrived:
                    report, coming = coming.result(), None
                else:
                    report = ResidencyReport({}, leaving=report.leaving)
                yield write_line(self._line_of(report))
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait((coming,))
            await reports.aclose()

    def _line_of(self, report: ResidencyReport) -> Heard:
        free, forecast = self._node_report.free(), self._node_report.forecast(report)
        return Heard(
            report.models,
            report.full,
            report.leaving,
            free.models,
            free.memory_bytes,
            forecast.models,
            forecast.default,
        )

    async def _post_warm(self, request: web.Request) -> web.Response:
        if self.leaving:
            return _refused(CallError(Reason.UNAVAILABLE, "This node is leaving."))
        if self._warming >= MAX_WARMING:
            return _refused(CallError(Reason.UNAVAILABLE, "Too many models are to be warmed at once."))
        self._warming += 1
        try:
            free = request.query.get("room") == "free"
            await self._commands.warm(request.match_info["model"], into_free_room=free)
        except CacheError as error:
            return _refused(refusal(error))
        finally:
            self._warming -= 1
        return web.json_response({"model": request.match_info["model"]})


def _refused(error: CallError) -> web.Response:
    headers = {} if error.retry_after is None else {"retry-after": f"{ceil(error.retry_after)}"}
    return web.json_response({"error": error.message}, status=error.reason.http, headers=headers)
