"""etcd v3 through its JSON gateway, which every etcd since 3.4 serves on its client port under /v3.

Keys and values are base64 in it, numbers of 64 bits are text, and fields that are zero are absent.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mesh.errors import MeshError
from mesh.json_http import BaseUrl, ClientTls, JsonHttp, read_secret
from mesh.settings import Settings


class EtcdConnection(Settings):
    """How an etcd is reached."""

    endpoints: Annotated[tuple[BaseUrl, ...], Field(min_length=1, max_length=16)] = Field(
        description="http:// or https:// of its members; where one fails the next is asked."
    )
    tls: ClientTls | None = None
    user: str | None = Field(None, max_length=255, description="Where etcd asks for a user.")
    password_file: Path | None = Field(None, description="File with the password of `user`.")
    timeout: float = Field(3.0, gt=0, le=60, description="Seconds for one answer.")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.user is None) is not (self.password_file is None):
            raise ValueError("user and password_file go together")
        return self


def b64(data: bytes) -> str:
    """Bytes as the gateway writes them."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: Any) -> bytes:
    """Raises MeshError."""
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise MeshError("etcd: a key or a value is not base64") from None


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`, as etcd's clients compute it."""
    for place in range(len(prefix) - 1, -1, -1):
        if prefix[place] < 0xFF:
            return prefix[:place] + bytes([prefix[place] + 1])
    return b"\0"


def integer(value: Any) -> int:
    """A number of 64 bits as the gateway writes it; absent: 0. Raises MeshError."""
    if value is None:
        return 0
    try:
        return int(value)
    except (TypeError, ValueError):
        raise MeshError("etcd: a number is none") from None


@asynccontextmanager
async def connected(settings: EtcdConnection, attempt: int) -> AsyncIterator[JsonHttp]:
    """A session with the member whose turn it is at this attempt, logged in where that is asked for."""
    base = settings.endpoints[attempt % len(settings.endpoints)]
    tls = None if settings.tls is None else await asyncio.to_thread(settings.tls.context)
    async with JsonHttp(base, settings.timeout, tls=tls) as http:
        if settings.user is not None and settings.password_file is not None:
            login = {"name": settings.user, "password": await asyncio.to_thread(read_secret, settings.password_file)}
            reply = mapping((await http.send("POST", "/v3/auth/authenticate", login)).document)
            http.headers["Authorization"] = str(reply.get("token", ""))
        yield http


def mapping(document: Any) -> dict[str, Any]:
    """Raises MeshError for what is no JSON object."""
    if not isinstance(document, dict):
        raise MeshError("etcd: an object was expected")
    return document
