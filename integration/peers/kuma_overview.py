"""The part of a Kuma control plane's API that discovery reads: the overview of dataplanes, with labels as filters,
pages of `size` from `offset` on, `next` and `total`, and a bearer token where one is set. It is not Kuma: what control
planes of three versions really said is read by the tests as well."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from integration.peers.http_service import http_service

Item = dict[str, Any]


class Overview:
    """`items`, the dataplanes, and `services`, the MeshServices, may be changed at any time. `url` is where it is
    reached, `before_page` is called at each page.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.services: list[Item] = []
        self.token: str | None = None
        self.url = ""
        self.pages = 0
        self.before_page: Callable[[], None] = lambda: None

    async def answer(self, request: web.Request) -> web.Response:
        """One page of the dataplanes of the mesh."""
        self.pages += 1
        self.before_page()
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"title": "Could not authenticate", "status": 401, "detail": "no"}, status=401)
        kind = self.services if request.match_info["kind"] == "meshservices" else self.items
        chosen = [item for item in kind if item["mesh"] == request.match_info["mesh"]]
        for name, value in request.query.items():
            if name.startswith("filter[labels."):
                label = name.removeprefix("filter[labels.").removesuffix("]")
                chosen = [item for item in chosen if item["labels"].get(label) == value]
        size, offset = int(request.query.get("size", 100)), int(request.query.get("offset", 0))
        more = offset + size < len(chosen)
        following = f"{self.url}{request.path}?offset={offset + size}&size={size}" if more else None
        return web.json_response({"total": len(chosen), "items": chosen[offset : offset + size], "next": following})


def dataplane(name: str, address: str, inbounds: dict[str, int], **labels: str) -> Item:
    """A dataplane whose proxy is connected, as a control plane lists it."""
    return {
        "name": name,
        "mesh": "default",
        "labels": labels,
        "dataplane": {
            "networking": {
                "address": address,
                "inbound": [{"name": inbound, "port": port} for inbound, port in inbounds.items()],
            }
        },
        "dataplaneInsight": {"subscriptions": [{"connectTime": "2026-11-22T03:57:29Z"}]},
    }


def service(name: str, zone: str, ports: dict[str, int], **labels: str) -> Item:
    """A MeshService of another zone, as the control plane of this one lists it."""
    synced = {"kuma.io/display-name": name, "kuma.io/zone": zone, "kuma.io/origin": "global"}
    return {
        "name": f"{name}-6dwcxz28zv4wv6w9",
        "mesh": "default",
        "labels": {**synced, **labels},
        "spec": {"ports": [{"name": port, "port": number} for port, number in ports.items()], "state": "Available"},
    }


@asynccontextmanager
async def overview() -> AsyncIterator[Overview]:
    """A control plane at a free port of this machine."""
    plane = Overview()
    paths = "/meshes/{mesh}/{kind:dataplanes/_overview|meshservices}"
    async with http_service({f"GET {paths}": plane.answer}) as plane.url:
        yield plane
