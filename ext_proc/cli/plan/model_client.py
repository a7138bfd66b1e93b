"""The client of a model server: sends it one request after the other, and says in a sentence what went wrong.

What answers may be another program or another protocol: every failure is a TbmsError. Not encrypted, as model servers
on their own machine are asked.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from difflib import get_close_matches
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp
import grpc
import grpc.aio

from ext_proc.admin.client import printable
from ext_proc.errors import TbmsError
from ext_proc.wire.batch import Written
from ext_proc.wire.call import InferenceProtocol
from mesh.system_words import system_words

_MOST_BYTES = 1 << 30  # of a reply
_MOST_WORDS = 300  # characters of a server's own words in an error
_INDEX = "/inference.GRPCInferenceService/RepositoryIndex"
_INDEX_SECONDS = 5.0


class Reply(NamedTuple):
    """What came back; for gRPC the bare message, without headers."""

    headers: Mapping[str, str]
    body: bytes


class ModelClient(Protocol):
    """One model's side of a model server."""

    async def ask(self, request: Written) -> Reply:
        """Sends one request and reads its reply. Raises TbmsError for everything but an answer."""

    async def known_models(self) -> list[str]:
        """Names of models that the server has, where its protocol tells them."""


@asynccontextmanager
async def model_client(
    protocol: InferenceProtocol, server: str, path: str, seconds: float
) -> AsyncIterator[ModelClient]:
    """A client of `host:port`; `seconds` is the longest time that one reply may take. Raises TbmsError."""
    target = _target(server)
    if protocol.is_grpc:
        options = [("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(target, options) as channel:
            yield _OverGrpc(channel, target, path, seconds, protocol is InferenceProtocol.V2_GRPC)
    else:
        timeout = aiohttp.ClientTimeout(total=seconds)
        plain = {"accept-encoding": "identity"}  # packing is not what is to be timed
        async with aiohttp.ClientSession(timeout=timeout, headers=plain) as session:
            yield _OverRest(session, f"http://{target}", path, protocol is InferenceProtocol.V2_REST)


async def hint(client: ModelClient, model: str) -> str:
    """What may help whoever asked for a model in vain: the models of a similar name, or those that there are."""
    try:
        async with asyncio.timeout(_INDEX_SECONDS):
            known = await client.known_models()
    except (TbmsError, TimeoutError):
        return ""
    if not known or model in known:
        return ""
    near = get_close_matches(model, known, n=1, cutoff=0.5)
    return f" --model: did you mean {near[0]}?" if near else f" --model: the server has {', '.join(sorted(known)[:8])}."


class _OverRest:
    def __init__(self, session: aiohttp.ClientSession, base: str, path: str, index: bool) -> None:
        self._session, self._base, self._path, self._index = session, base, path, index

    async def ask(self, request: Written) -> Reply:
        return await self._post(self._path, request.body, dict(request.headers))

    async def known_models(self) -> list[str]:
        if not self._index:
            return []
        reply = await self._post("/v2/repository/index", b"{}", {"content-type": "application/json"})
        try:
            return [str(entry["name"]) for entry in json.loads(reply.body)]
        except (ValueError, TypeError, KeyError):
            return []

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        url = self._base + path
        try:
            async with self._session.post(url, data=body, headers=headers) as reply:
                answer = bytearray()
                async for chunk in reply.content.iter_any():
                    answer += chunk
                    if len(answer) > _MOST_BYTES:
                        raise TbmsError(f"{url}: the reply is larger than {_MOST_BYTES} bytes.")
        except TimeoutError:
            raise TbmsError(f"{url}: no answer in time; --timeout-seconds allows it more.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TbmsError(
                f"{url}: cannot be asked: {_words(system_words(error))} --server names host:port of its REST API."
            ) from None
        if reply.status != 200:
            raise TbmsError(f"{url}: the server answers {reply.status}: {_words(answer.decode(errors='replace'))}")
        return Reply({key.lower(): value for key, value in reply.headers.items()}, bytes(answer))


class _OverGrpc:
    def __init__(self, channel: grpc.aio.Channel, target: str, path: str, seconds: float, index: bool) -> None:
        self._channel, self._target, self._path, self._seconds = channel, target, path, seconds
        self._index = index

    async def ask(self, request: Written) -> Reply:
        return Reply({}, await self._unary(self._path, request.body))

    async def known_models(self) -> list[str]:
        if not self._index:
            return []
        from tritonclient.grpc import service_pb2

        index = service_pb2.RepositoryIndexResponse.FromString(await self._unary(_INDEX, b""))
        return [entry.name for entry in index.models]

    async def _unary(self, path: str, message: bytes) -> bytes:
        try:
            answer: bytes = await self._channel.unary_unary(path)(message, timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            code, words = error.code(), _words(error.details() or "")
            if code is grpc.StatusCode.UNAVAILABLE:
                words += " --server names host:port of its gRPC API."
            elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
                words += " --timeout-seconds allows it more."
            raise TbmsError(f"{self._target}: the server answers {code.name}: {words}") from None
        return answer


def _target(server: str) -> str:
    """`host:port` of that, or of a URL. Raises TbmsError."""
    text = urlsplit(server).netloc if server.startswith("http://") else server
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536 or "/" in host:
        raise TbmsError(f"--server: host:port was expected (found {server!r})")
    return text


def _words(text: str) -> str:
    """A server's own words, of its JSON where they stand in one, as one sentence."""
    with suppress(ValueError, TypeError, KeyError):
        text = str(json.loads(text)["error"])
    text = printable(" ".join(text.split()))[:_MOST_WORDS] or "nothing"
    return text if text.endswith((".", "?", "!")) else f"{text}."
