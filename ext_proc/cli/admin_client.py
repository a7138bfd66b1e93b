"""The client of admin ports: asks a node or an edge for its status, and sends a node a command.

What answers may be another program, another version, a broken one or none at all: every failure is a TbmsError. The
wait for a status and the size of an answer are bounded.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from ext_proc.admin import DEFAULT_ADDRESS
from ext_proc.admin.documents import CommandDone, StatusDocument, read_done, read_status
from ext_proc.errors import TbmsError

_ANSWER_SECONDS = 5.0
_MOST_BYTES = 64 * 1024 * 1024


def base_url(admin: str) -> str:
    """`http://host:port` of `host:port` or of a URL. Raises TbmsError."""
    url = admin if "://" in admin else f"http://{admin}"
    if not url.startswith(("http://", "https://")):
        raise TbmsError(f"{admin}: an admin port is written http://host:port.")
    return url.rstrip("/")


def session() -> aiohttp.ClientSession:
    """For all that is asked in one go. A command may take as long as a load: only connecting is bounded."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS))


async def get_status(http: aiohttp.ClientSession, url: str) -> StatusDocument:
    """What the edge or the node at this port says of itself. Raises TbmsError."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), http.get(f"{url}/status") as reply:
            document = await _document(reply, url)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _not_there(url, error) from None
    try:
        return read_status(document)
    except TbmsError as error:
        raise _another_version(url, error) from None


async def post_command(http: aiohttp.ClientSession, path: str, params: Mapping[str, str]) -> CommandDone:
    """Has a node carry out a command, and waits until it has. Raises TbmsError, where possible in the node's words."""
    try:
        async with http.post(path, params=params) as reply:
            if reply.status == 404 and reply.content_type != "application/json":
                raise TbmsError(f"{path}: this is not the admin port of a node.{_hint(path)}")
            document = await _document(reply, path)
            if reply.status != 200:
                raise TbmsError(_complaint(document, reply.status))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _not_there(path, error) from None
    try:
        return read_done(document)
    except TbmsError as error:
        raise _another_version(path, error) from None


def _not_there(url: str, error: Exception) -> TbmsError:
    return TbmsError(f"{url}: cannot be asked: {str(error) or 'no answer in time'}.{_hint(url)}")


def _another_version(url: str, error: TbmsError) -> TbmsError:
    return TbmsError(f"{url}: this is not an admin port of this version of tbms: {error}.")


def _hint(url: str) -> str:
    """For whoever has named no port: another process than the one that was meant may have the default."""
    if not url.startswith(f"http://{DEFAULT_ADDRESS}"):
        return ""
    return " This is the default port; name the one that `server.admin` of the configuration has with --admin."


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
