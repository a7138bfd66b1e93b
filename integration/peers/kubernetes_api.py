"""The part of a Kubernetes API that discovery uses: EndpointSlices of a namespace, listed by pages and watched.

It keeps to the API's rules: resourceVersions grow with every change, a watch begins after the one that it names, ends
after `timeoutSeconds`, sends bookmarks where they are allowed, and is an ERROR of code 410 where the version has been
compacted. It is not a kube-apiserver: tests/peers has a real one.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from integration.peers.http_service import http_service

Object = dict[str, Any]


class KubernetesApi:
    """`put` and `delete` change objects, `compact` forgets what happened before. `token`: what callers must show."""

    def __init__(self) -> None:
        self.url = ""
        self.token: str | None = None
        self.bookmark_seconds = 0.2
        self.hangs = False
        self.lists = 0
        self.watches: list[int] = []
        """The versions at which watches began."""
        self._objects: dict[str, Object] = {}
        self._events: list[tuple[int, str, Object]] = []
        self._version, self._oldest = 100, 100
        self._changed = asyncio.Condition()

    async def put(self, name: str, service: str, **fields: Any) -> None:
        """Writes an EndpointSlice of that Service."""
        self._version += 1
        labels = {"kubernetes.io/service-name": service}
        metadata = {"name": name, "namespace": "ml", "labels": labels, "resourceVersion": str(self._version)}
        kind = "MODIFIED" if name in self._objects else "ADDED"
        self._objects[name] = {"metadata": metadata, **fields}
        await self._tell(kind, self._objects[name])

    async def delete(self, name: str) -> None:
        """Deletes one."""
        self._version += 1
        gone = self._objects.pop(name)
        metadata = {**gone["metadata"], "resourceVersion": str(self._version)}
        await self._tell("DELETED", {**gone, "metadata": metadata})

    def compact(self) -> None:
        """Watches may begin at the version of now, or later."""
        self._oldest = self._version
        self._events.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A list, or a watch."""
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._status(401, "Unauthorized")
        label, _, service = request.query["labelSelector"].partition("=")
        assert label == "kubernetes.io/service-name"
        if request.query.get("watch") == "true":
            return await self._watch(request, service)
        self.lists += 1
        chosen = [each for each in self._objects.values() if each["metadata"]["labels"][label] == service]
        begin, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 0)) or len(chosen)
        limit = min(limit, 3)  # a server may give less than was asked for
        metadata = {"resourceVersion": str(self._version)}
        if begin + limit < len(chosen):
            metadata["continue"] = str(begin + limit)
        return web.json_response({"metadata": metadata, "items": chosen[begin : begin + limit]})

    async def _watch(self, request: web.Request, service: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        self.watches.append(version)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        if version < self._oldest:
            error = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await self._line(stream, "ERROR", error)
            return stream
        loop = asyncio.get_running_loop()
        end = loop.time() + int(request.query["timeoutSeconds"])
        while loop.time() < end or self.hangs:
            for at, kind, item in list(self._events):
                if at > version and item["metadata"]["labels"]["kubernetes.io/service-name"] == service:
                    await self._line(stream, kind, item)
                version = max(version, at)
            try:
                async with asyncio.timeout(self.bookmark_seconds), self._changed:
                    while self._version <= version:
                        await self._changed.wait()
            except TimeoutError:
                if request.query.get("allowWatchBookmarks") == "true" and not self.hangs:
                    version = self._version
                    bookmark = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(version)}}
                    await self._line(stream, "BOOKMARK", bookmark)
        return stream

    async def _line(self, stream: web.StreamResponse, kind: str, item: Object) -> None:
        await stream.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    async def _tell(self, kind: str, item: Object) -> None:
        async with self._changed:
            self._events.append((self._version, kind, item))
            self._changed.notify_all()

    def _status(self, code: int, message: str) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


def pod(name: str, ip: str, **conditions: bool) -> Object:
    """An endpoint of a slice."""
    return {"addresses": [ip], "conditions": conditions or {"ready": True}, "targetRef": {"kind": "Pod", "name": name}}


def ports(**named: int) -> list[Object]:
    """The ports of a slice."""
    return [{"name": name, "port": port, "protocol": "TCP"} for name, port in named.items()]


@asynccontextmanager
async def kubernetes_api(*, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[KubernetesApi]:
    """An API at a free port of this machine, or at that one."""
    api = KubernetesApi()
    path = "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices"
    async with http_service({f"GET {path}": api.answer}, tls=tls, port=port) as api.url:
        yield api
