"""The probe for containers without curl."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from ext_proc.cli.health import healthy, main


@asynccontextmanager
async def admin(status: int) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/readyz", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "path", "well"), [(200, "/readyz", True), (503, "/readyz", False), (200, "/x", False)]
)
async def test_only_a_reply_of_200_is_well(status: int, path: str, well: bool) -> None:
    async with admin(status) as address:
        assert await asyncio.to_thread(healthy, address, path) is well


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no port:x", "nobody.invalid:1"])
def test_nobody_there_is_not_well(address: str) -> None:
    assert main([address]) == 1


def test_it_is_told_where() -> None:
    assert main([]) == 2


def test_it_imports_next_to_nothing() -> None:
    code = "import sys, ext_proc.cli.health; print('typer' in sys.modules, 'asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"
