"""The client of admin ports: asks a node or an edge what it knows, and sends a node a command.

What answers may be another program, another version, a broken one or none at all: every failure is a TbmsError. The
wait for what is only told, and the size of an answer, are bounded.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import aiohttp

from ext_proc.admin.documents import CommandDone, StatusDocument, read_done, read_status
from ext_proc.admin.explanation import CallToExplain, Explanation, read_explanation
from ext_proc.errors import AwayError, MissingError, TbmsError
from mesh.system_words import system_words

_ANSWER_SECONDS = 5.0
_MOST_BYTES = 64 * 1024 * 1024
Answer = TypeVar("Answer")


def base_url(admin: str) -> str:
    """`http://host:port` of `host:port` or of a URL; `unix:/path` stays. Raises TbmsError."""
    if admin.startswith("unix:/"):
        return admin
    url = admin if "://" in admin else f"http://{admin}"
    if not url.startswith(("http://", "https://")):
        raise TbmsError(f"{admin}: an admin port is written host:port, http://host:port or unix:/path.")
    return url.rstrip("/")


class AdminPort:
    """One admin port, for all that is asked of it in one go. `hint` ends the sentence where it cannot be asked."""

    def __init__(self, admin: str, *, hint: str = "") -> None:
        self.url = base_url(admin)
        self.name = self.url.removeprefix("http://")
        self._hint = f" {hint}" if hint else ""
        self._base = "http://admin" if self.url.startswith("unix:") else self.url
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        path = self.url.removeprefix("unix:")
        connector = aiohttp.UnixConnector(path) if path != self.url else None
        # A command may take as long as a load: only connecting is bounded.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def status(self) -> StatusDocument:
        """What the edge or the node at this port says of itself. Raises TbmsError."""
        return await self._asked("GET", "/status", read_status, within=_ANSWER_SECONDS)

    async def explain(self, call: CallToExplain) -> Explanation:
        """What it would do with a call. Raises TbmsError."""
        return await self._asked("POST", "/explain", read_explanation, within=_ANSWER_SECONDS, body=call)

    async def command(self, path: str, params: Mapping[str, str]) -> CommandDone:
        """Has a node carry out a command, and waits until it has. Raises TbmsError, if possible in the node's words;
        MissingError where it knows of no such model.
        """
        return await self._asked("POST", path, read_done, params=params)

    async def _asked(
        self,
        method: str,
        path: str,
        read: Callable[[object], Answer],
        *,
        within: float | None = None,
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Answer:
        assert self._session is not None
        url = f"{self._base}{path}"
        try:
            async with (
                asyncio.timeout(within),
                self._session.request(method, url, params=params, json=body, allow_redirects=False) as reply,
            ):
                if method == "POST" and reply.status == 404 and reply.content_type != "application/json":
                    raise TbmsError(f"{self.url}{path}: this is not the admin port of a node.{self._hint}")
                document = await _document(reply, self.url)
                if reply.status != 200 and method == "GET":
                    raise TbmsError(f"{self.url}: this is not an admin port of tbms: it answers {reply.status}.")
                if reply.status == 404:
                    raise MissingError(_complaint(document, reply.status))
                if reply.status != 200:
                    raise TbmsError(_complaint(document, reply.status))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            cause = system_words(error) or "no answer in time"
            raise AwayError(f"{self.url}: cannot be asked: {cause}.{self._hint}") from None
        try:
            return read(document)
        except TbmsError as error:
            told = f"{self.url}{path if method == 'POST' else ''}"
            raise TbmsError(f"{told}: this is not an admin port of this version of tbms: {error}.") from None


async def _document(reply: aiohttp.ClientResponse, url: str) -> Mapping[str, Any]:
    body = bytearray()
    async for chunk in reply.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise TbmsError(f"{url}: the answer is larger than {_MOST_BYTES} bytes.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise TbmsError(f"{url}: this is not an admin port of tbms.") from None
    if not isinstance(document, dict):
        raise TbmsError(f"{url}: this is not an admin port of tbms.")
    return document


def _complaint(document: Mapping[str, Any], status: int) -> str:
    error, cause = str(document.get("error", f"The node answers {status}.")), str(document.get("cause", ""))
    return printable(error if not cause or cause == error else f"{error} {cause}")


def printable(text: str) -> str:
    """A node's words, without what a terminal obeys."""
    return "".join(each if each.isprintable() else "?" for each in text)
