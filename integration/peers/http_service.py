"""One HTTP handler at a free port of this machine: what the peers that stand for control planes are served by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler


@asynccontextmanager
async def http_service(path: str, answer: Handler) -> AsyncIterator[str]:
    """Answers GET on that path for the length of the block; its base URL. Calls that wait at the end are cut short."""
    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
