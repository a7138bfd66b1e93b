"""What the listeners' codec takes and refuses, byte for byte, beside the answer of the model server itself.

Requests are written as bytes, for no client would send most of them. See docs/limits-of-envoy.md.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from ext_proc.envoy_config import EnvoySettings, render
from ext_proc.envoy_config.parts.codec import MAX_HEADERS, MAX_HEADERS_KIB
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.embedded import EmbeddedNode
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_port, free_ports
from integration.stack.process import Process, answers
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from tests.integration.conftest import need_envoy
from tests.integration.raw import channel, rest, rest_client, unary

pytestmark = pytest.mark.envoy

VERSIONS = ("1.40", "1.38", "1.36")
PATH = b"/v1/models/acme-svm:predict"
BODY = json.dumps({"instances": [[0.0] * 64]}).encode()
KIB = 1024
# Nothing here takes longer; a reply that never comes must not hold up the suite.
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The text of `{"error": ...}`, which is all that the body may hold."""
        document = json.loads(self.body)
        assert list(document) == ["error"]
        assert self.headers["content-type"] == "application/json"
        text: str = document["error"]
        return text


def request(
    *lines: bytes, version: bytes = b"1.1", target: bytes = PATH, host: bytes | None = b"tbms.test", body: bytes = BODY
) -> bytes:
    """A POST with Content-Length, and these header lines."""
    head = [b"POST " + target + b" HTTP/" + version]
    head += [] if host is None else [b"Host: " + host]
    return b"\r\n".join([*head, *lines, b"Content-Length: %d" % len(body), b"", body])


def chunked(*lines: bytes, trailers: bytes = b"") -> bytes:
    """The same with its body in one chunk."""
    head = [b"POST " + PATH + b" HTTP/1.1", b"Host: tbms.test", *lines, b"Transfer-Encoding: chunked", b"", b""]
    return b"\r\n".join(head) + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailers)


@asynccontextmanager
async def talk(port: int, data: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which `data` has been sent."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        # A reader's limit holds for one line.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        try:
            writer.write(data)
            yield reader
        finally:
            writer.transport.abort()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    status = int(head[0].split(" ")[1])
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return Reply(status, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def ask(port: int, data: bytes) -> Reply:
    async with talk(port, data) as reader:
        return await read_reply(reader)


@dataclass(frozen=True)
class Front:
    """A port of Envoy, and that of the model server behind it."""

    envoy: int
    direct: int

    async def both(self, data: bytes) -> tuple[Reply, Reply]:
        return await ask(self.envoy, data), await ask(self.direct, data)


def _port(address: str | None) -> int:
    assert address is not None
    return int(address.rpartition(":")[2])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node_of(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[[str], object]]:
    """Gives the node with an Envoy of some version; each is started once."""
    started: dict[str, CachedNode] = {}
    async with AsyncExitStack() as stack:

        async def node(version: str) -> CachedNode:
            if version not in started:
                folder = tmp_path_factory.mktemp(f"http-node-{version}")
                made = CachedNode(CachedSpec("node", envoy=version), repository, folder)
                started[version] = await stack.enter_async_context(made)
            return started[version]

        yield node


@pytest_asyncio.fixture(
    loop_scope="session", params=[(role, version) for version in VERSIONS for role in ("edge", "node")], ids="-".join
)
async def front(
    request: pytest.FixtureRequest,
    nodes: dict[str, EmbeddedNode],
    edge_of: Callable[[str], object],
    node_of: Callable[[str], object],
) -> Front:
    role, version = request.param
    need_envoy(version)
    if role == "edge":
        edge: Sidecar = await edge_of(version)  # type: ignore[misc]
        return Front(_port(edge.target), _port(nodes["node-a"].node.rest))
    node: CachedNode = await node_of(version)  # type: ignore[misc]
    warm = Front(_port(node.agent.target), _port(node.served.rest))
    assert (await ask(warm.envoy, chunked())).status == 200  # so the model is there for those who ask directly, too
    return warm


# HTTP/1.0.


@pytest.mark.parametrize("host", [b"tbms.test", None], ids=["host", "no host"])
async def test_http_1_0(front: Front, host: bytes | None) -> None:
    for port in (front.envoy, front.direct):
        async with talk(port, request(version=b"1.0", host=host)) as reader:
            reply = await read_reply(reader)
            assert (reply.status, list(json.loads(reply.body))) == (200, ["predictions"])
            assert "transfer-encoding" not in reply.headers
            assert await reader.read() == b"", "closed by the server, as HTTP/1.0 has it"


async def test_http_1_0_keeps_the_connection_where_the_client_asks(front: Front) -> None:
    twice = 2 * request(b"Connection: keep-alive", version=b"1.0")
    for port in (front.envoy, front.direct):
        async with talk(port, twice) as reader:
            for _ in range(2):
                reply = await read_reply(reader)
                assert reply.status == 200
                assert reply.headers["connection"].lower() == "keep-alive"


async def test_http_1_0_is_raced_as_any_call(edge: Sidecar) -> None:
    reply = await ask(_port(edge.target), request(b"tloc: 5000", version=b"1.0", host=None))
    assert (reply.status, list(json.loads(reply.body))) == (200, ["predictions"])


# Taken, and answered as the model server answers it.

TAKEN = {
    "150 headers": request(*(b"x-h-%d: v" % number for number in range(150))),
    "a header of 70 KiB": request(b"x-long: " + b"v" * 70 * KIB),
    "70 KiB of headers": request(*(b"x-h-%d: " % number + b"v" * KIB for number in range(70))),
    "chunked": chunked(),
    "trailers": chunked(trailers=b"X-Trailer: 1\r\n"),
    "names of many kinds": request(b"x-lower: 1", b"X_UNDER: 2", b"x.dot: 3", b"X!#$%&'*+-.^_`|~: 4"),
    "value beyond ASCII": request("x-name: Zoë".encode()),
    "empty Host": request(host=b""),
    "upgrade to h2c": request(
        b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"
    ),
    "upgrade to websocket": request(b"Connection: Upgrade", b"Upgrade: websocket"),
    "upgrade to TLS": request(b"Connection: Upgrade", b"Upgrade: TLS/1.2"),
    "empty line first": b"\r\n" + request(),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_taken(front: Front, name: str) -> None:
    through, direct = await front.both(TAKEN[name])
    assert direct.status == 200, direct.body
    assert (through.status, through.body) == (direct.status, direct.body)


async def test_absolute_form(front: Front) -> None:
    """RFC 9112, 3.2.2: every server must take it."""
    for reply in await front.both(request(target=b"http://tbms.test" + PATH)):
        assert reply.status == 200


async def test_a_client_that_asks_first_is_told_to_go_on(front: Front) -> None:
    head, body = request(b"Expect: 100-continue").split(b"\r\n\r\n")
    for port in (front.envoy, front.direct):
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"\r\n\r\n")
            assert (await read_reply(reader)).status == 100
            writer.write(body)
            assert (await read_reply(reader)).status == 200
            writer.close()


async def test_a_long_path_is_read_to_its_end(front: Front) -> None:
    """To TF Serving a query belongs to the path, and so is malformed."""
    long = PATH + b"?q=" + b"a" * 70 * KIB
    for reply in await front.both(request(target=long)):
        assert (reply.status, reply.error) == (400, f"Malformed request: POST {long.decode()}")


async def test_what_the_model_server_refuses_is_refused_in_its_words(front: Front) -> None:
    through, direct = await front.both(request(b"Expect: something"))
    assert (through.status, through.body) == (direct.status, direct.body)
    assert direct.status == 417


# HTTP/2 with prior knowledge.


@pytest.mark.parametrize("count", [0, 70], ids=["plain", "70 KiB of headers"])
async def test_http_2(front: Front, count: int) -> None:
    headers = {f"x-h-{number}": "v" * KIB for number in range(count)}
    async with rest_client(f"http://127.0.0.1:{front.envoy}", http2=True) as client:
        reply = await rest(client, PATH.decode(), BODY, headers)
    assert (reply.status, reply.body) == (200, (await ask(front.direct, request())).body)


# Refused, and said as model servers say errors. First of all: what two readers could take for two different messages.

LENGTH = b"Content-Length: %d" % len(BODY)
REFUSED = {
    "both framings": (chunked(LENGTH), 400, "http1.content_length_and_chunked_not_allowed"),
    "one length twice": (request(LENGTH), 400, "http1.codec_error"),
    "two lengths": (request(b"Content-Length: 3"), 400, "http1.codec_error"),
    "a list of lengths": (request().replace(LENGTH, LENGTH + b", %d" % len(BODY)), 400, "http1.codec_error"),
    "a length with a sign": (request().replace(b"Length: ", b"Length: +"), 400, "http1.codec_error"),
    "a coding before chunked": (
        chunked().replace(b"Encoding: chunked", b"Encoding: gzip, chunked"),
        501,
        "http1.invalid_transfer_encoding",
    ),
    "space before the colon": (request(b"Content-Length : 3"), 400, "http1.codec_error"),
    "a zero byte": (request(b"x-h: a\0b"), 400, "http1.invalid_characters"),
    "no header name": (request(b": v"), 400, "http1.codec_error"),
    # What is merely no HTTP.
    "no Host": (request(host=None), 400, "missing_host_header"),
    "a Host with a space": (request(host=b"a b"), 400, "http.invalid_authority"),
    "a fragment": (request(target=PATH + b"#x"), 400, "path_normalization_failed"),
    "a path beyond ASCII": (request(target=PATH + "?q=ë".encode()), 400, "http1.codec_error"),
    "a path without a slash": (request(target=PATH[1:]), 400, "http1.codec_error"),
    "an unknown method": (request().replace(b"POST", b"PREDICT", 1), 400, "http1.codec_error"),
    "https without TLS": (
        request(target=b"https://tbms.test" + PATH),
        403,
        "http1.https_url_on_plaintext_connection",
    ),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 404, "route_not_found"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404, "absolute_path_rejected"),
}
TOO_LARGE = f"more than {MAX_HEADERS} headers, or {MAX_HEADERS_KIB} KiB of them"


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(front: Front, name: str) -> None:
    data, status, reason = REFUSED[name]
    reply = await ask(front.envoy, data)
    assert (reply.status, reply.error) == (status, f"Envoy refused the request: {reason}")


@pytest.mark.parametrize(
    "lines",
    [
        [b"x-h-%d: v" % number for number in range(MAX_HEADERS)],
        [b"x-h-%d: " % number + b"v" * KIB for number in range(MAX_HEADERS_KIB)],
    ],
    ids=["many", "large"],
)
async def test_more_headers_than_envoy_takes(front: Front, lines: list[bytes]) -> None:
    reply = await ask(front.envoy, request(*lines))
    assert (reply.status, reply.error) == (431, f"Envoy refused the request: {TOO_LARGE}")


async def test_a_body_that_breaks_off_is_never_a_second_call(front: Front) -> None:
    """The head has passed by then: the caller gets the words or, at a node, a closed connection."""
    broken = chunked().replace(b"\r\n\r\n", b"\r\n\r\nzz\r\n", 1)
    async with talk(front.envoy, broken + request()) as reader:
        got = await reader.read()
    assert b" 200 OK" not in got
    assert not got or b"Envoy refused the request: http1.codec_error" in got


async def test_both_framings_end_the_connection_s_use(front: Front) -> None:
    """What follows a message of doubtful length is never read as a second call."""
    async with talk(front.envoy, chunked(b"Content-Length: 3") + request()) as reader:
        assert (await read_reply(reader)).status == 400
        assert b"HTTP/1.1 200" not in await reader.read()


# In front of a node that takes anything and remembers its bytes.


@dataclass
class Wire:
    """What reached the node, as it was written, and the port of an edge's Envoy in front of it without its server."""

    port: int
    heads: list[bytes] = field(default_factory=list)
    reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(lengths[0].partition(b":")[2]))
                writer.write(self.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=VERSIONS)
async def wire(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp("wire")
    port, egress, admin, grpc = free_ports(4)
    here = Wire(port)
    node = await asyncio.start_server(here.serve, "127.0.0.1", free_port(), limit=1 << 20)
    where = node.sockets[0].getsockname()[1]
    settings = EnvoySettings(
        listen=f"127.0.0.1:{port}", egress=f"127.0.0.1:{egress}", admin=f"127.0.0.1:{admin}", health_seconds=0
    )
    nodes = [Node("wire", grpc=f"127.0.0.1:{grpc}", rest=f"127.0.0.1:{where}")]
    document = yaml.safe_load(render(settings, version=request.param, server=f"unix:{folder}/nobody", nodes=nodes))
    for listener in document["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["request_headers_timeout"] = "0.3s"  # the rendered half a minute is too long for a test
    config = folder / "envoy.yaml"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [envoy_binary(request.param), "-c", config, "--concurrency", "1", "--disable-hot-restart"]
    envoy = Process("Envoy", [*command, "--log-level", "error"], folder / "envoy.log")
    async with node:
        await envoy.start(answers(f"http://127.0.0.1:{admin}/ready"))
        try:
            yield here
        finally:
            await envoy.stop()


async def arrived(wire: Wire, data: bytes) -> bytes:
    """The head of this request as the node got it."""
    assert (await ask(wire.port, data)).status == 200
    return wire.heads[-1]


async def test_hundreds_of_headers_arrive(wire: Wire) -> None:
    """Triton and TF Serving count none."""
    for count in (150, 900):
        head = await arrived(wire, request(*(b"X-H-%d: v" % number for number in range(count))))
        assert head.count(b"X-H-") == count
    large = b"X-Large: " + b"v" * 200 * KIB
    assert large in await arrived(wire, request(large))


async def test_http_1_0_arrives_as_http_1_1(wire: Wire) -> None:
    head = (await arrived(wire, request(version=b"1.0", host=None))).lower().split(b"\r\n")
    assert head[0].endswith(b"http/1.1")
    assert b"host: tbms" in head


async def test_an_offer_to_upgrade_ends_at_envoy(wire: Wire) -> None:
    head = await arrived(wire, request(b"Connection: Upgrade", b"Upgrade: websocket"))
    assert b"upgrade" not in head.lower()


@pytest.mark.parametrize(
    "data",
    [
        request(b"x-h: a\rContent-Length: 3"),
        request(b"x-h: a\r\n b"),
        request(b"x-h: a\r\n Content-Length: 3"),
        b"\n".join(request().split(b"\r\n")),
    ],
    ids=["bare CR", "folded line", "folded length", "bare LF"],
)
async def test_lines_of_old_spelling_are_written_anew(wire: Wire, data: bytes) -> None:
    """Envoy takes them; what a node gets has one reading."""
    head = await arrived(wire, data)
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or line[:1].isspace() for line in lines)
    assert sum(line.lower().startswith(b"content-length:") for line in lines) == 1


async def test_a_client_that_never_ends_its_headers(wire: Wire) -> None:
    async with talk(wire.port, b"POST " + PATH + b" HTTP/1.1\r\nHost: a\r\n") as reader:
        reply = await read_reply(reader)
    assert (reply.status, reply.error) == (408, "Envoy refused the request: request_header_timeout")


async def test_a_node_that_answers_no_http(wire: Wire) -> None:
    wire.reply = b"garbage\r\n\r\n"
    reply = await ask(wire.port, request())
    assert reply.status == 502
    assert "protocol error" in reply.error
    wire.reply = Wire.reply


async def test_grpc_is_told_in_its_own_way(edge: Sidecar) -> None:
    """Too many headers: HTTP/2 has no words for it, the call is reset."""
    metadata = [(f"x-h-{number}", "v") for number in range(MAX_HEADERS + 1)]
    async with channel(edge.target) as through:
        reply = await unary(through, "/inference.GRPCInferenceService/ServerLive", b"", metadata)
        assert reply.code == "INTERNAL"
        assert (await unary(through, "/inference.GRPCInferenceService/ServerLive", b"")).code == "OK"
