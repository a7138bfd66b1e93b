"""The part of a Consul agent that discovery uses: healthy instances of a service, by blocking queries with an index, a
wait and a token. It is not Consul: the test against a real agent is still to come.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from integration.peers.http_service import http_service


class ConsulAgent:
    """`put` and `delete` change instances; `restore` is a server that comes back with a lower index."""

    def __init__(self) -> None:
        self.url = ""
        self.token: str | None = None
        self.hangs = False
        self.asked: list[int] = []
        """The index of each query."""
        self._index = 50
        self._instances: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Condition()

    async def put(self, name: str, ip: str, *, tags: tuple[str, ...] = (), **meta: str) -> None:
        """An instance that passes its checks."""
        service = {"ID": name, "Service": "models", "Address": "", "Port": 0, "Meta": meta, "Tags": list(tags)}
        self._instances[name] = {"Node": {"Node": "vm", "Address": ip}, "Service": service, "Checks": []}
        await self._next(self._index + 1)

    async def delete(self, name: str) -> None:
        """One that went, or fails a check."""
        del self._instances[name]
        await self._next(self._index + 1)

    async def restore(self) -> None:
        """The index goes backwards."""
        await self._next(5)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One blocking query."""
        if self.token is not None and request.headers.get("X-Consul-Token") != self.token:
            return web.Response(status=403, text="Permission denied: token lacks permission 'service:read'")
        index, wait = int(request.query["index"]), float(request.query["wait"].removesuffix("s"))
        assert request.query["passing"] == "true"
        self.asked.append(index)
        try:
            async with asyncio.timeout(None if self.hangs else wait), self._changed:
                while index and self._index == index:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return web.json_response(list(self._instances.values()), headers={"X-Consul-Index": str(self._index)})

    async def _next(self, index: int) -> None:
        async with self._changed:
            self._index = index
            self._changed.notify_all()


@asynccontextmanager
async def consul_agent() -> AsyncIterator[ConsulAgent]:
    """An agent at a free port of this machine."""
    agent = ConsulAgent()
    async with http_service("/v1/health/service/models", agent.answer) as agent.url:
        yield agent
