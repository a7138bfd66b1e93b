"""The dashboard's routes over real HTTP: headers, files, the stream and its bounds, peers that are away, the drain."""

import asyncio
import base64
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ext_proc.admin.documents import StatusDocument
from ext_proc.admin.ui import routes, watching
from ext_proc.admin.ui.routes import dashboard_routes
from ext_proc.admin.ui.watching import Watching
from ext_proc.errors import AwayError
from tests.integration.dashboard import documents

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECONDS = 0.01


@dataclass
class Scripted:
    """A peer that says what it is told to, or raises it; None: it does not answer. Counts."""

    name: str = "10.0.0.1:9904"
    says: StatusDocument | Exception | None = None
    asked: int = 0
    open: int = 0

    async def __aenter__(self) -> Self:
        self.open += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.open -= 1

    async def status(self) -> StatusDocument:
        self.asked += 1
        if self.says is None:
            await asyncio.Event().wait()
        if isinstance(self.says, Exception):
            raise self.says
        assert self.says is not None
        return self.says


@dataclass
class Scene:
    """A port with the dashboard. `looks` counts how often the process was asked about itself."""

    http: "TestClient[Any, Any]"
    watching: Watching
    own: list[StatusDocument] = field(default_factory=list)
    looks: int = 0

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """The events of one page: (name, data)."""
        async with self.http.get("/ui/events") as reply:
            assert reply.status == 200
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield events(reply)


async def events(reply: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """As a browser reads them: lines `field: value`, and an empty line that ends an event."""
    text = bytearray()
    async for chunk in reply.content.iter_any():
        text += chunk
        while (end := text.find(b"\n\n")) >= 0:
            lines = bytes(text[:end]).decode().split("\n")
            del text[: end + 2]
            fields = dict(line.split(":", 1) for line in lines)
            data = fields["data"].strip()
            yield fields["event"].strip(), json.loads(data) if data else None


@asynccontextmanager
async def scene(peers: Sequence[Scripted] = ()) -> AsyncIterator[Scene]:
    def look() -> StatusDocument:
        found.looks += 1
        return found.own[0]

    app, dashboard = web.Application(), Watching(look, lambda: peers, SECONDS, time.monotonic)
    app.add_routes(dashboard_routes(dashboard))
    async with TestClient(TestServer(app, handler_cancellation=True)) as http:
        found = Scene(http, dashboard, [documents.edge(2, 3)])
        task = asyncio.create_task(dashboard.run())
        try:
            yield found
        finally:
            task.cancel()
            await dashboard.close()
            await asyncio.wait([task])


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/app.js", "text/javascript; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/uplot/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_files_come_with_a_strict_policy_and_their_type(path: str, content_type: str) -> None:
    async with scene() as port, port.http.get(path) as reply:
        assert reply.status == 200
        assert reply.headers["content-type"] == content_type
        assert reply.headers["content-security-policy"] == POLICY
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert await reply.read()


async def test_the_page_has_no_script_and_no_style_within() -> None:
    async with scene() as port, port.http.get("/ui/") as reply:
        text = await reply.text()
    assert "<style" not in text
    assert " style=" not in text
    assert " on" not in text.replace(" on ", " ").replace(" one", " ")
    assert text.count("<script") == text.count('<script src="')


async def test_its_address_ends_with_a_slash() -> None:
    async with scene() as port:
        for path in ("/", "/ui"):
            async with port.http.get(path, allow_redirects=False) as reply:
                assert (reply.status, reply.headers["location"]) == (308, "ui/")
            async with port.http.get(path) as reply:
                assert (reply.status, reply.url.path) == (200, "/ui/")


@pytest.mark.parametrize("path", ["/ui/routes.py", "/ui/uplot/LICENSE", "/ui/..%2froutes.py", "/ui/uplot/", "/ui/x.js"])
async def test_other_files_are_not_there(path: str) -> None:
    async with scene() as port, port.http.get(path) as reply:
        assert reply.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_nothing_can_be_changed_here(method: str) -> None:
    async with scene() as port:
        for path in ("/ui/", "/ui/events") if method != "HEAD" else ("/ui/events",):
            async with port.http.request(method, path) as reply:
                assert reply.status in (404, 405)


def test_the_library_of_charts_is_the_one_that_was_published() -> None:
    # Of npm's uplot-1.6.32.tgz, dist/.
    script = (routes._FOLDER / "uplot/uPlot.iife.min.js").read_bytes()
    assert base64.b64encode(hashlib.sha256(script).digest()).decode() == "GcjUxq2Ikpp59K5J1vcWFWbf0Lo9FcxJXpdPeH63jx8="
    assert "MIT License" in (routes._FOLDER / "uplot/LICENSE").read_text()


async def test_a_page_is_told_all_then_what_has_changed() -> None:
    async with scene() as port, port.stream() as events:
        name, first = await anext(events)
        assert (name, first["address"], first["whole"]) == ("update", "", True)
        assert len(first["models"]) == 3
        assert first["document"]["role"] == "edge"
        port.own[0] = documents.edge(2, 4)
        changed: dict[str, Any] = {}
        while not changed:
            _, update = await anext(events)
            assert update["whole"] is False
            changed = update["models"]
        assert list(changed) == ["model-00003"]


async def test_with_nobody_looking_nothing_is_asked() -> None:
    peer = Scripted(says=documents.node(1, 1))
    async with scene([peer]) as port:
        await asyncio.sleep(0)
        assert (port.looks, peer.asked, peer.open) == (0, 0, 0)
        async with port.stream() as events:
            await anext(events)
            assert peer.open == 1
        while peer.open:
            await asyncio.sleep(SECONDS)
        looks = port.looks, peer.asked
        for _ in range(5):
            await asyncio.sleep(SECONDS)
        assert (port.looks, peer.asked) == looks


async def test_peers_are_shown_beside_and_one_that_is_away_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PEER_SECONDS", 0.02)
    there, silent = Scripted("a:1", documents.node(1, 2)), Scripted("c:1", None)
    gone = Scripted("b:1", AwayError("b:1: cannot be asked: " + "x" * 999))
    async with scene([there, gone, silent]) as port, port.stream() as events:
        found = {update["address"]: update for update in [(await anext(events))[1] for _ in range(4)]}
        assert found["a:1"]["document"]["role"] == "node"
        assert found["b:1"]["away"].startswith("b:1: cannot be asked")
        assert len(found["b:1"]["away"]) == 300
        assert found["c:1"]["away"] == "no answer in time"
        gone.says = documents.node(2, 1)
        while found["b:1"]["away"] is not None:
            _, update = await anext(events)
            found[update["address"]] = update
        assert found["b:1"]["whole"] is True


async def test_a_status_that_cannot_be_shown_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_EVENT_BYTES", 20_000)
    odd = documents.node(1, 1)
    odd["uptime_seconds"] = math.nan
    async with scene([Scripted("a:1", odd), Scripted("b:1", documents.node(2, 500))]) as port, port.stream() as events:
        found = {update["address"]: update for update in [(await anext(events))[1] for _ in range(3)]}
    assert found["a:1"]["away"] == "its status has numbers that JSON has not"
    assert found["b:1"]["away"] == "its status is too large to be shown"
    assert found[""]["away"] is None


async def test_a_look_that_fails_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "_LONGEST_PAUSE", SECONDS)
    peer = Scripted("a:1", ValueError("a fault of ours"))
    async with scene([peer]) as port, port.stream() as events:
        while peer.asked < 2:
            await asyncio.sleep(SECONDS)
        peer.says = documents.node(1, 1)
        assert [(await anext(events))[1]["address"] for _ in range(2)] == ["", "a:1"]
    assert "a fault of ours" in caplog.text


async def test_streams_are_few_and_one_that_ends_makes_room() -> None:
    async with scene() as port:
        open_ones = [await port.http.get("/ui/events") for _ in range(watching.MAX_PAGES)]
        async with port.http.get("/ui/events") as reply:
            assert reply.status == 503
            assert f"{watching.MAX_PAGES} pages" in await reply.text()
        open_ones.pop().close()
        status = 503
        while status == 503:
            async with port.http.get("/ui/events") as reply:
                status = reply.status
        assert status == 200
        for each in open_ones:
            each.close()


async def test_a_drain_ends_streams_and_lets_no_other_begin() -> None:
    async with scene() as port:
        async with port.stream() as events:
            await anext(events)
            await port.watching.close()
            told = [name async for name, _ in events]
        assert told[-1] == "draining"
        async with port.http.get("/ui/events") as reply:
            assert (reply.status, await reply.text()) == (503, "This process is draining.\n")


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)
async def test_pages_of_other_origins_get_no_stream(headers: dict[str, str]) -> None:
    async with scene() as port, port.http.get("/ui/events", headers=headers) as reply:
        assert reply.status == 403


async def test_a_slow_page_misses_updates_and_is_told_all_instead() -> None:
    async with scene() as port:
        with port.watching.page():
            events = port.watching.events()
            await anext(events)
            looks = port.looks
            while port.looks < looks + 3:
                await asyncio.sleep(SECONDS)
            late = json.loads((await anext(events)).split(b"data: ")[1])
            assert late["whole"] is True
            await events.aclose()
