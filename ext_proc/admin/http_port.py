"""One HTTP port for people and for other processes of ours: the admin port, and what a node publishes."""

from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from ext_proc.errors import TbmsError
from mesh.address import parse_address
from mesh.system_words import system_words

MAX_BODY = 1024
"""Bytes of a request: everything is said by paths and queries."""
_LAST_WORDS = 0.5
"""Seconds that an answer under way has at the stop."""


def from_a_page(request: web.Request) -> bool:
    """Whether a page in the operator's browser sends it: that reaches this port, and may only look."""
    return "origin" in request.headers


class HttpListener:
    """Binds an address (`ip:port` or `unix:/path`) and answers there. `setting` is named where that fails."""

    def __init__(self, setting: str, address: str, routes: Iterable[web.AbstractRouteDef]) -> None:
        self._setting = setting
        self._address = address
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(list(routes))
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_LAST_WORDS, keepalive_timeout=15.0
        )

    async def start(self) -> None:
        """Binds and serves. Raises TbmsError if the address cannot be had."""
        await self._runner.setup()
        try:
            await self._site().start()
        except OSError as error:
            await self._runner.cleanup()
            raise TbmsError(f"{self._setting}: cannot listen on {self._address}: {system_words(error)}") from error

    async def stop(self) -> None:
        """Closes the port, and ends what is still being answered."""
        await self._runner.cleanup()

    def _site(self) -> web.BaseSite:
        address = parse_address(self._address, listening=True)
        if address.path:
            Path(address.path).unlink(missing_ok=True)
            return web.UnixSite(self._runner, address.path)
        return web.TCPSite(self._runner, address.host, address.port, reuse_port=True)
