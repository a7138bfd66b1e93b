"""A few HTTP handlers at a free port of this machine: what the peers that stand for control planes are served by."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler


@asynccontextmanager
async def http_service(
    answers: Mapping[str, Handler], *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[str]:
    """Answers what the keys say, such as `GET /v1/agent/service/{id}`, for the length of the block; its base URL. Calls
    that wait at the end are cut short."""
    app = web.Application()
    for what, answer in answers.items():
        method, _, path = what.partition(" ")
        app.router.add_route(method, path, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        host, bound = runner.addresses[0][:2]
        yield f"{'http' if tls is None else 'https'}://{host}:{bound}"
    finally:
        await runner.cleanup()
