"""The dashboard's routes: the page, its few files, and the stream that brings it up to date. All of it only shows."""

import asyncio
import functools
from contextlib import aclosing
from pathlib import Path

from aiohttp import web

from ext_proc.admin.ui.watching import TooManyPages, Watching

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SAFE = {
    # No script but those files, nothing from elsewhere, and in nobody's frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_FROM_HERE = ("same-origin", "none")
_WRITTEN_AT_ONCE = 64 * 1024
_TAKE_SECONDS = 20.0  # for a page to take a piece of an update


def dashboard_routes(watching: Watching) -> list[web.RouteDef]:
    """For the admin port."""
    return [
        web.get("/", _to_the_page),
        web.get("/ui", _to_the_page),
        web.get("/ui/events", functools.partial(_get_events, watching), allow_head=False),
        web.get(r"/ui/{file:(?:uplot/)?[A-Za-z_.]*}", _get_file),
    ]


@functools.cache
def _files() -> dict[str, Path]:
    found = {str(path.relative_to(_FOLDER)): path for path in _FOLDER.rglob("*") if path.suffix in _TYPES}
    return {"": found["index.html"], **found}


async def _to_the_page(_: web.Request) -> web.Response:
    return web.Response(status=308, headers={**_SAFE, "location": "ui/"})


async def _get_file(request: web.Request) -> web.StreamResponse:
    files = await asyncio.to_thread(_files)
    path = files.get(request.match_info["file"])
    if path is None:
        return web.Response(status=404, headers=_SAFE, text="There is no such file.\n")
    content_type = f"{_TYPES[path.suffix]}; charset=utf-8"
    return web.FileResponse(path, headers={**_SAFE, "content-type": content_type, "cache-control": "no-cache"})


async def _get_events(watching: Watching, request: web.Request) -> web.StreamResponse:
    if request.headers.get("sec-fetch-site", "none") not in _FROM_HERE or "origin" in request.headers:
        return _refused(403, "Pages of other origins may not look.")
    if watching.closed:
        return _refused(503, "This process is draining.")
    headers = {**_SAFE, "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
    response = web.StreamResponse(headers=headers)
    try:
        with watching.page():
            await response.prepare(request)
            async with aclosing(watching.events()) as events:
                async for event in events:
                    await _write(response, event)
    except TooManyPages as error:
        return _refused(503, str(error))
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write(response: web.StreamResponse, event: bytes) -> None:
    """A piece at a time: what a slow page has not taken yet lies here once, and not in each connection."""
    for start in range(0, len(event), _WRITTEN_AT_ONCE):
        async with asyncio.timeout(_TAKE_SECONDS):
            await response.write(event[start : start + _WRITTEN_AT_ONCE])


def _refused(status: int, why: str) -> web.Response:
    return web.Response(status=status, headers={**_SAFE, "cache-control": "no-store"}, text=f"{why}\n")
