"""A headless Chromium, as Debian has it, and pages that keep account of what goes wrong in them."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from ext_proc.admin.documents import StatusDocument
from ext_proc.admin.http_port import HttpListener
from ext_proc.admin.ui.routes import dashboard_routes
from ext_proc.admin.ui.watching import Watching
from integration.stack.ports import free_port

LOOK_SECONDS = 0.25


@dataclass
class Tab:
    """A page, what its console said that is wrong, and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def origins(self) -> set[str]:
        return {urlsplit(url).netloc for url in self.asked if not url.startswith("data:")}


OpenTab = Callable[..., AbstractAsyncContextManager[Tab]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def open_tab() -> AsyncIterator[OpenTab]:
    """Opens an address in a tab of its own; a complaint of the page at its end is a failure."""
    api = pytest.importorskip("playwright.async_api", reason="no Playwright: `integration/setup.sh chromium`")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: `integration/setup.sh chromium`")
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])

        @asynccontextmanager
        async def tab(url: str, **options: Any) -> AsyncIterator[Tab]:
            context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            context.set_default_timeout(60_000)
            page = await context.new_page()
            found = Tab(page)
            page.on("console", lambda said: found.complaints.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: found.complaints.append(str(error)))
            page.on("request", lambda request: found.asked.append(request.url))
            try:
                await page.goto(url)
                yield found
                assert found.complaints == []
            finally:
                await context.close()

        yield tab
        await browser.close()


class HandMade:
    """A peer that says what it is told to."""

    def __init__(self, name: str, say: Callable[[], StatusDocument]) -> None:
        self.name = name
        self._say = say

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def status(self) -> StatusDocument:
        return self._say()


@asynccontextmanager
async def served(
    own: Callable[[], StatusDocument], peers: Sequence[HandMade] = (), address: str = ""
) -> AsyncIterator[str]:
    """The dashboard of a process that says `own` of itself; yields the page's address."""
    address = address or f"127.0.0.1:{free_port()}"
    watching = Watching(own, lambda: peers, LOOK_SECONDS, time.monotonic)
    listener = HttpListener("server.admin", address, dashboard_routes(watching))
    await listener.start()
    task = asyncio.create_task(watching.run())
    try:
        yield f"http://{address}/ui"
    finally:
        await watching.close()
        await listener.stop()
        task.cancel()
