"""Consul's HTTP API, as a source and a registration use it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field

from mesh.json_http import BaseUrl, ClientTls, JsonHttp, read_secret
from mesh.settings import Settings

PORTS = ("grpc", "rest", "residency")
"""The meta data that name ports of an instance."""


class ConsulConnection(Settings):
    """How Consul is reached, and which of its services the nodes are."""

    url: BaseUrl = Field("http://127.0.0.1:8500", description="Of the local agent, or of a server.")
    service: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        max_length=128,
        description="The service whose instances are the nodes.",
    )
    token_file: Path | None = Field(None, description="File with an ACL token; read at each new start.")
    tls: ClientTls | None = None
    timeout: float = Field(3.0, gt=0, le=60, description="Seconds for an answer, beyond those that it hangs.")


@asynccontextmanager
async def connected(settings: ConsulConnection) -> AsyncIterator[JsonHttp]:
    """A session with the agent, with our token."""
    headers = {}
    if settings.token_file is not None:
        headers["X-Consul-Token"] = await asyncio.to_thread(read_secret, settings.token_file)
    tls = None if settings.tls is None else await asyncio.to_thread(settings.tls.context)
    async with JsonHttp(settings.url, settings.timeout, tls=tls, headers=headers) as http:
        yield http
