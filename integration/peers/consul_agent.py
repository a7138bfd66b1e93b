"""The part of a Consul agent that discovery uses: healthy instances of a service by blocking queries with an index, a
wait and a token; and instances that register themselves with a TTL check. It is not Consul: tests/peers has a real one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from integration.peers.http_service import http_service


class ConsulAgent:
    """`put` and `delete` change instances; `restore` is a server that comes back with a lower index, `forget` an agent
    that has lost what was registered with it."""

    def __init__(self) -> None:
        self.url = ""
        self.token: str | None = None
        self.blind = False
        """Whether the token is one that may read nothing, which Consul does not call an error."""
        self.hangs = False
        self.waits = asyncio.Event()
        """Set once a query waits for a change."""
        self.asked: list[int] = []
        """The index of each query."""
        self.registered: list[dict[str, Any]] = []
        """The body of each registration."""
        self.renewals = 0
        self._index = 50
        self._instances: dict[str, dict[str, Any]] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._changed = asyncio.Condition()

    @property
    def instances(self) -> list[str]:
        """The IDs of those that pass their checks."""
        return list(self._instances)

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

    async def forget(self) -> None:
        """Nothing is registered any more."""
        self._instances.clear()
        await self._next(self._index + 1)

    async def revoke(self) -> None:
        """The token is good no more. A query that waits for a change ends in an empty list, as Consul's do."""
        self.token = "another"
        await self._next(self._index + 1)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One blocking query."""
        if (refused := self._refused(request)) is not None:
            return refused
        index, wait = int(request.query["index"]), float(request.query["wait"].removesuffix("s"))
        assert request.query["passing"] == "true"
        self.asked.append(index)
        try:
            async with asyncio.timeout(None if self.hangs else wait), self._changed:
                while index and self._index == index:
                    self.waits.set()
                    await self._changed.wait()
        except TimeoutError:
            pass
        headers = {"X-Consul-Index": str(self._index)}
        if self._refused(request) is not None:
            return web.json_response([], headers=headers)
        if self.blind:
            return web.json_response([], headers={**headers, "X-Consul-Results-Filtered-By-ACLs": "true"})
        return web.json_response(list(self._instances.values()), headers=headers)

    async def register(self, request: web.Request) -> web.StreamResponse:
        """An instance, with a TTL check that passes."""
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        self.registered.append(body)
        check = body["Check"]
        service = {"ID": body["ID"], "Service": body["Name"], "Meta": body["Meta"], "Tags": []}
        service |= {"Address": body["Address"], "Port": body["Port"]}
        self._instances[body["ID"]] = {
            "Node": {"Node": "vm", "Address": "10.0.0.9"},
            "Service": service,
            "Check": check,
        }
        self._renew(body["ID"])
        await self._next(self._index + 1)
        return web.Response()

    async def service(self, request: web.Request) -> web.StreamResponse:
        """What the agent knows of one instance."""
        known = self._instances.get(request.match_info["id"])
        if known is None:
            return web.Response(status=404, text=f"unknown service ID: {request.match_info['id']}")
        return web.json_response(known["Service"])

    async def update(self, request: web.Request) -> web.StreamResponse:
        """A TTL check is renewed."""
        asked = request.match_info["id"]
        assert (await request.json())["Status"] == "passing"
        for name, instance in self._instances.items():
            if instance.get("Check", {}).get("CheckID") == asked:
                self.renewals += 1
                self._renew(name)
                return web.Response()
        return web.Response(status=404, text=f'Unknown check ID "{asked}". Ensure that the check ID is passed.')

    async def deregister(self, request: web.Request) -> web.StreamResponse:
        """An instance is taken back."""
        await self.delete(request.match_info["id"])
        return web.Response()

    def _renew(self, name: str) -> None:
        seconds = float(self._instances[name]["Check"]["TTL"].removesuffix("s"))
        if (before := self._expiries.get(name)) is not None:
            before.cancel()
        self._expiries[name] = asyncio.get_running_loop().call_later(seconds, self._expire, name)

    def _expire(self, name: str) -> None:
        if self._instances.pop(name, None) is not None:
            self._index += 1

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.token is None or request.headers.get("X-Consul-Token") == self.token:
            return None
        return web.Response(status=403, text="Permission denied: token lacks permission 'service:read'")

    async def _next(self, index: int) -> None:
        async with self._changed:
            self._index = index
            self._changed.notify_all()


@asynccontextmanager
async def consul_agent(*, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[ConsulAgent]:
    """An agent at a free port of this machine, or at that one."""
    agent = ConsulAgent()
    answers = {
        "GET /v1/health/service/models": agent.answer,
        "PUT /v1/agent/service/register": agent.register,
        "GET /v1/agent/service/{id}": agent.service,
        "PUT /v1/agent/check/update/{id}": agent.update,
        "PUT /v1/agent/service/deregister/{id}": agent.deregister,
    }
    async with http_service(answers, tls=tls, port=port) as agent.url:
        yield agent
