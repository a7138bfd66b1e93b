"""JSON over HTTP, as control planes speak it: bounded replies, streams of lines, and errors that hold no secret.

Whatever goes wrong is a MeshError that names the method, the path and the status, and nothing that was sent: tokens
go in headers, and headers are never written anywhere.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import aiohttp
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from mesh.address import parse_address
from mesh.errors import MeshError
from mesh.names import quoted
from mesh.settings import Settings
from mesh.small_file import read_small
from mesh.system_words import safe_words

MOST_REPLY_BYTES = 32 << 20
"""Of one reply."""
MOST_LINE_BYTES = 4 << 20
"""Of one line of a stream."""
_PARSE_APART_BYTES = 256 << 10  # of JSON that is parsed beside the loop
_SHOWN = 200  # characters of what a service says about an error


def reachable(url: str) -> str:
    """The URL, if its host and port are such. Raises ValueError."""
    host = url.split("://", 1)[1].split("/", 1)[0]
    default = "80" if url.startswith("http:") else "443"
    parse_address(host if host.rpartition("]")[2].count(":") or host.count(":") == 1 else f"{host}:{default}")
    return url


BaseUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/@?#\s]+$", max_length=300), AfterValidator(reachable)]
"""http:// or https://, host and port; no path, and no password in it."""


class ClientTls(Settings):
    """How a service is known, and how it knows us. All are PEM files, read at each new start of the source."""

    ca: Path | None = Field(None, description="Authority of its certificate; without it the system's.")
    certificate: Path | None = Field(None, description="Our certificate, where the service asks for one.")
    key: Path | None = Field(None, description="The private key of that certificate.")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key go together")
        return self

    def context(self) -> ssl.SSLContext:
        """Raises MeshError for files that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            raise MeshError(f"The TLS files cannot be used: {type(error).__name__}: {quoted(str(error))}") from None
        return context


def read_secret(file: Path) -> str:
    """A token or password out of its file, read anew each time as it may be rotated. Raises MeshError."""
    try:
        secret = read_small(file).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MeshError(f"{file} cannot be read: {safe_words(error)}") from None
    if not secret or not secret.isprintable():
        raise MeshError(f"{file} holds no token: one line of printable ASCII is expected")
    return secret


@dataclass(frozen=True, slots=True)
class JsonReply:
    """A reply of status 200 to 299, or (with None for its document) of a status that the caller let pass. Names of
    headers are lower case."""

    status: int
    document: Any
    headers: Mapping[str, str]


class JsonLines:
    """The lines of a stream, each a JSON document."""

    def __init__(self, what: str, content: aiohttp.StreamReader) -> None:
        self._what = what
        self._content = content
        self._buffer = bytearray()
        self.ended = False
        """Whether the stream has ended where it `may_end`."""

    async def next(self, patience: float, *, may_end: bool = False) -> Any | None:
        """The next document; None if none came for `patience` seconds. At the end of the stream it raises MeshError, or
        is None and `ended` with `may_end`."""
        scanned = 0
        try:
            async with asyncio.timeout(patience):
                while (end := self._buffer.find(b"\n", scanned)) < 0:
                    scanned = len(self._buffer)
                    if scanned > MOST_LINE_BYTES:
                        raise MeshError(f"{self._what}: a line is longer than {MOST_LINE_BYTES} bytes")
                    chunk = await self._content.readany()
                    if not chunk and may_end:
                        self.ended = True
                        return None
                    if not chunk:
                        raise MeshError(f"{self._what}: the stream ended")
                    self._buffer += chunk
        except TimeoutError:
            return None
        except (aiohttp.ClientError, OSError) as error:
            raise MeshError(f"{self._what}: {_cause(error)}") from None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _parsed(self._what, line)


class JsonHttp:
    """One service, `async with`. `base` is a URL without path; `socket` a Unix socket that is connected to instead.
    `timeout` in seconds bounds a whole call, and the time until a stream begins; `most_bytes` one reply."""

    def __init__(
        self,
        base: str,
        timeout: float,
        *,
        tls: ssl.SSLContext | None = None,
        socket: str | None = None,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = MOST_REPLY_BYTES,
    ) -> None:
        self._base = base
        self._timeout = timeout
        self._tls = tls
        self._socket = socket
        self._most_bytes = most_bytes
        self.headers = dict(headers or {})
        """Sent with every call from now on."""
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of_envoy(cls, admin: str, timeout: float, most_bytes: int = MOST_REPLY_BYTES) -> Self:
        """Envoy's admin interface at `ip:port` or `unix:/path`."""
        address = parse_address(admin)
        base = "http://envoy" if address.path else f"http://{address}"
        return cls(base, timeout, socket=address.path or None, most_bytes=most_bytes)

    async def __aenter__(self) -> Self:
        tls: ssl.SSLContext | bool = True if self._tls is None else self._tls
        connector = aiohttp.TCPConnector(ssl=tls) if self._socket is None else aiohttp.UnixConnector(self._socket)
        # No cookies, no redirects, no proxy from the environment: a service answers for itself.
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, within: float | None = None, also: int = 200
    ) -> JsonReply:
        """GET. `within` seconds in place of `timeout`. `also`: a further status that is no error."""
        return await self._call("GET", path, params, None, within, also)

    async def send(self, method: str, path: str, body: Any) -> JsonReply:
        """POST or PUT of a JSON document."""
        return await self._call(method, path, None, body, None, 200)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None
    ) -> AsyncIterator[JsonLines]:
        """A reply that goes on and on, for the length of the block."""
        what = f"{method} {path}"
        try:
            async with asyncio.timeout(self._timeout) as opening, self._open(method, path, params, body) as reply:
                opening.reschedule(None)
                if reply.status != 200:
                    async with asyncio.timeout(self._timeout):
                        raise _refusal(what, reply.status, await _read(reply, self._most_bytes))
                yield JsonLines(what, reply.content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MeshError(f"{what}: {_cause(error)}") from None

    async def _call(
        self, method: str, path: str, params: Mapping[str, str] | None, body: Any, within: float | None, also: int
    ) -> JsonReply:
        what = f"{method} {path}"
        try:
            async with asyncio.timeout(within or self._timeout), self._open(method, path, params, body) as reply:
                text = await _read(reply, self._most_bytes)
                if not 200 <= reply.status < 300 and reply.status != also:
                    raise _refusal(what, reply.status, text)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MeshError(f"{what}: {_cause(error)}") from None
        if not text.strip() or not 200 <= reply.status < 300:
            document: Any = None
        elif len(text) > _PARSE_APART_BYTES:
            document = await asyncio.to_thread(_parsed, what, text)
        else:
            document = _parsed(what, text)
        return JsonReply(reply.status, document, {name.lower(): value for name, value in reply.headers.items()})

    def _open(
        self, method: str, path: str, params: Mapping[str, str] | None, body: Any
    ) -> "aiohttp.client._BaseRequestContextManager[aiohttp.ClientResponse]":
        assert self._session is not None
        return self._session.request(
            method, self._base + path, params=params, json=body, headers=self.headers, allow_redirects=False
        )


async def _read(reply: aiohttp.ClientResponse, most: int) -> bytes:
    text = bytearray()
    async for chunk in reply.content.iter_any():
        text += chunk
        if len(text) > most:
            raise MeshError(f"{reply.method} {reply.url.path}: the reply is longer than {most} bytes")
    return bytes(text)


def _parsed(what: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MeshError(f"{what}: the reply is not JSON") from None


def _cause(error: BaseException) -> str:
    """What went wrong below HTTP, with what TLS says of a certificate: an expired one is to be known from the log."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        refused = error.certificate_error
        said = refused.verify_message if isinstance(refused, ssl.SSLCertVerificationError) else str(refused)
        return f"its certificate is not accepted: {quoted(said, _SHOWN)}"
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLError) and below.reason:
            return f"TLS failed: {below.reason}"
        below = getattr(below, "os_error", None) or below.__cause__ or below.__context__
    return safe_words(error)


def _refusal(what: str, status: int, text: bytes) -> MeshError:
    """The status and what the service says of it: the message in a JSON object, or a line of plain text (Consul)."""
    said = ""
    try:
        document = json.loads(text[:65536])
        if isinstance(document, dict):
            said = str(document.get("message") or document.get("error") or document.get("detail") or "")
    except (ValueError, RecursionError):
        if not text.lstrip().startswith(b"<"):
            said = text[: 4 * _SHOWN].strip().partition(b"\n")[0].decode("utf-8", "replace")
    return MeshError(f"{what}: status {status}" + (f": {quoted(said, _SHOWN)}" if said else ""))
