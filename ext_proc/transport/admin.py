"""The admin HTTP port: /healthz, /readyz, /metrics, /status."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from ext_proc.errors import TbmsError


class Admin:
    """Answers operators and probes. Holds no state: everything is asked for when it is shown."""

    def __init__(
        self,
        address: str,
        ready: Callable[[], bool],
        metrics: Callable[[], bytes],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._address = address
        self._ready = ready
        self._metrics = metrics
        self._status = status
        app = web.Application()
        app.router.add_get("/healthz", self._get_healthz)
        app.router.add_get("/readyz", self._get_readyz)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/status", self._get_status)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Binds and serves. Raises TbmsError if the address cannot be had."""
        await self._runner.setup()
        try:
            await self._site().start()
        except OSError as error:
            raise TbmsError(f"server.admin: cannot listen on {self._address}: {error}") from error

    async def stop(self) -> None:
        """Closes the port."""
        await self._runner.cleanup()

    def _site(self) -> web.BaseSite:
        if self._address.startswith("unix:"):
            path = Path(self._address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            return web.UnixSite(self._runner, str(path))
        host, _, port = self._address.rpartition(":")
        return web.TCPSite(self._runner, host.strip("[]"), int(port), reuse_port=True)

    async def _get_healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _get_readyz(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n") if self._ready() else web.Response(status=503, text="not ready\n")

    async def _get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _get_status(self, _: web.Request) -> web.Response:
        return web.json_response(self._status(), dumps=lambda value: json.dumps(value, default=str))
