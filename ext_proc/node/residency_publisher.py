"""What a node tells the edges, and what it lets them ask for.

`GET /residency` is a stream of lines (`mesh.residency.line`): everything first, then changes, and a line
every few seconds in any case. `POST /models/{model}/warm` has a model loaded that calls are about to come for; it is
answered when the model is there. With `?room=free` no other model has to go for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import ceil

from aiohttp import web

from ext_proc.errors import CallError, Reason
from ext_proc.node.refusals import refusal
from mesh.model_cache.errors import CacheError
from mesh.model_cache.feed import Report
from mesh.model_cache.manager import Manager
from mesh.residency.line import Heard, write_line

MAX_WATCHERS = 1024
MAX_WARMING = 64
"""Requests to warm a model that may wait at once."""
_WRITE_SECONDS = 10.0
"""A watcher that takes nothing for so long is given up; it will come again."""


class Publisher:
    """Answers edges. A slow one gets the last state of each model, never a backlog. `heartbeat` is in seconds."""

    def __init__(self, manager: Manager, heartbeat: float) -> None:
        self._commands = manager.commands
        self._node_report = manager.node_report
        self._heartbeat = heartbeat
        self._warming = 0
        self.leaving = False
        """No model is brought any more."""
        self.watchers = 0
        """Edges that follow this node, and so may still send calls to it."""

    def routes(self) -> list[web.RouteDef]:
        """For the listener that edges reach."""
        return [web.get("/residency", self._get_residency), web.post("/models/{model}/warm", self._post_warm)]

    async def _get_residency(self, request: web.Request) -> web.StreamResponse:
        if self.watchers >= MAX_WATCHERS:
            return web.Response(status=503, text="too many watchers\n")
        reply = web.StreamResponse(headers={"content-type": "application/x-ndjson", "cache-control": "no-store"})
        self.watchers += 1
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
            self.watchers -= 1
        return reply

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        reports = self._node_report.subscribe()
        coming: asyncio.Task[Report] | None = None
        report = Report({})
        try:
            while True:
                coming = coming or asyncio.create_task(anext(reports))
                arrived, _ = await asyncio.wait((coming,), timeout=self._heartbeat)
                if arrived:
                    report, coming = coming.result(), None
                else:
                    report = Report({}, leaving=report.leaving)
                yield write_line(self._heard(report))
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait((coming,))
            await reports.aclose()

    def _heard(self, report: Report) -> Heard:
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
        free = self._node_report.free()
        if request.query.get("room") == "free" and (free.models < 1 or free.memory_bytes <= 0):
            return _refused(CallError(Reason.UNAVAILABLE, "Another model would have to go."))
        self._warming += 1
        try:
            await self._commands.warm(request.match_info["model"])
        except CacheError as error:
            return _refused(refusal(error))
        finally:
            self._warming -= 1
        return web.json_response({"model": request.match_info["model"]})


def _refused(error: CallError) -> web.Response:
    headers = {} if error.retry_after is None else {"retry-after": f"{ceil(error.retry_after)}"}
    return web.json_response({"error": error.message}, status=error.reason.http, headers=headers)
