"""The admin HTTP port: /healthz, /readyz, /metrics, /status, and what the role adds."""

from collections.abc import Callable, Iterable

from aiohttp import web

from ext_proc.admin.documents import StatusDocument
from ext_proc.admin.http_port import HttpListener


class Admin:
    """Answers operators and probes. Holds no state: everything is asked for when it is shown.

    `metrics` gives the text for a request with that Accept header, and its content type.
    """

    def __init__(
        self,
        address: str,
        ready: Callable[[], bool],
        metrics: Callable[[str], tuple[bytes, str]],
        status: Callable[[], StatusDocument],
        routes: Iterable[web.AbstractRouteDef] = (),
    ) -> None:
        self._ready = ready
        self._metrics = metrics
        self._status = status
        own = [
            web.get("/healthz", self._get_healthz),
            web.get("/readyz", self._get_readyz),
            web.get("/metrics", self._get_metrics),
            web.get("/status", self._get_status),
        ]
        self._listener = HttpListener("server.admin", address, [*own, *routes])

    async def start(self) -> None:
        """Binds and serves. Raises TbmsError if the address cannot be had."""
        await self._listener.start()

    async def stop(self) -> None:
        """Closes the port, and ends what is still being answered."""
        await self._listener.stop()

    async def _get_healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _get_readyz(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n") if self._ready() else web.Response(status=503, text="not ready\n")

    async def _get_metrics(self, request: web.Request) -> web.Response:
        text, kind = self._metrics(",".join(request.headers.getall("accept", ())))
        return web.Response(body=text, headers={"content-type": kind, "vary": "accept"})

    async def _get_status(self, _: web.Request) -> web.Response:
        return web.json_response(self._status())
