"""What Envoy reads of a gRPC message: the name that the server would read of the same bytes, or nothing."""

import random
import struct
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx
import pytest
import pytest_asyncio
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import RouteMatch, VirtualHost

from ext_proc.contract import NAMED_HEADER, NAMING_METHODS
from ext_proc.envoy_config import EnvoySettings
from ext_proc.envoy_config.bootstrap.assembly import assembled
from ext_proc.envoy_config.bootstrap.clusters import GRPC_CLUSTER, node_clusters
from ext_proc.envoy_config.bootstrap.grpc_name_routes import grpc_name_routes
from ext_proc.envoy_config.bootstrap.listeners import listener
from ext_proc.envoy_config.bootstrap.routes import routed
from ext_proc.envoy_config.parts.grpc_names import READ_BYTES, grpc_name_filters, routed_name_filters
from ext_proc.envoy_config.parts.headers import FROM_CLIENTS
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.parts.text import to_yaml
from ext_proc.errors import CallError
from ext_proc.wire.call import Call
from ext_proc.wire.naming import Unnamed, name_call, write_model
from ext_proc.wire.protobuf.fields import len_field, varint, varint_field
from integration.peers.answerer import answerer
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from tests.integration.conftest import need_envoy
from tests.integration.raw import rest_client

pytestmark = pytest.mark.envoy

PREDICT, INFER = NAMING_METHODS[0], NAMING_METHODS[-1]
MIB = 1 << 20
LIMIT = 80 * MIB
PIECE = 16384
GRPC = {"content-type": "application/grpc", "te": "trailers"}

NAME = len_field(1, b"acme")
SIGNATURE = len_field(3, b"serving_default")
VERSION = len_field(2, varint_field(1, 3))
LABEL = len_field(4, b"stable")


def spec(*fields: bytes) -> bytes:
    return len_field(1, b"".join(fields))


def tensor(size: int) -> bytes:
    """The input of a Predict request, as `x` with so many bytes."""
    return len_field(2, len_field(1, b"x") + len_field(2, len_field(4, b"\xff" * size)))


def frame(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="session",
    params=[("1.40", True), ("1.38", True), ("1.38", False), ("1.36", True)],
    ids=str,
)
async def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where an Envoy of some version tells in its replies what it read of a call.

    Which calls it reads is told by routes, or by matchers as in a mesh.
    """
    version, by_routes = request.param
    need_envoy(version)
    folder = tmp_path_factory.mktemp(f"names-{version}")
    port, admin = free_ports(2)
    settings = EnvoySettings(listen=f"127.0.0.1:{port}", admin=f"127.0.0.1:{admin}")
    told = {"named": NAMED_HEADER, "length": "content-length"}
    grpc, any_call = (routed(GRPC_CLUSTER, RouteMatch(prefix="/"), is_grpc) for is_grpc in (True, False))
    routes = VirtualHost(
        name="reader",
        domains=["*"],
        routes=[*grpc_name_routes(grpc, LIMIT, version), any_call] if by_routes else [any_call],
        response_headers_to_add=[
            HeaderValueOption(header=HeaderValue(key=key, value=f"%REQ({name})%")) for key, name in told.items()
        ],
    )
    filters = routed_name_filters(version) if by_routes else grpc_name_filters(LIMIT)
    reading = listener("reader", settings.listen, settings, filters, FROM_CLIENTS, routes, local_replies(), 30)
    bootstrap = folder / "envoy.yaml"
    command = [envoy_binary(version), "--config-path", bootstrap, "--concurrency", "1", "--disable-hot-restart"]
    envoy = Process(f"Envoy {version}", [*command, "--log-level", "warning"], folder / "envoy.log")
    async with answerer(folder) as upstream:
        clusters = node_clusters(settings, f"unix:{folder}/nobody.sock", version, grpc=upstream, rest=upstream)
        bootstrap.write_text(to_yaml(assembled(settings, [reading], clusters)))
        try:
            await envoy.start(answers(f"http://127.0.0.1:{admin}/ready"))
            yield f"http://127.0.0.1:{port}"
            assert "lua" not in envoy.log.read_text().lower(), "an error of the script"
        finally:
            await envoy.stop()


async def pieces(body: bytes | Sequence[bytes]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):  # what is cut small is sent fast
        body = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    for piece in body:
        yield piece


async def read(
    client: httpx.AsyncClient, path: str, body: bytes | Sequence[bytes], headers: dict[str, str] | None = None
) -> str | None:
    """What Envoy read. A body that comes in pieces has no length."""

    reply = await client.post(path, content=pieces(body), headers=GRPC | (headers or {}))
    assert (reply.status_code, reply.headers.get("grpc-status", "0")) == (200, "0"), reply.headers
    own = (headers or {}).get("content-length")
    assert reply.headers.get("length") in (None, own), "Envoy's own note of the length goes no further"
    return reply.headers.get("named")


def servers_reading(path: str, body: bytes) -> Call | None:
    """The call that the server makes of the same bytes; None where it refuses them."""
    unnamed = name_call({":path": path, "content-type": "application/grpc"}, LIMIT)
    assert isinstance(unnamed, Unnamed)
    try:
        return unnamed.feed(body, True)
    except CallError:
        return None


NAMED = {
    "name": (PREDICT, spec(NAME)),
    "signature": (PREDICT, spec(NAME, SIGNATURE) + tensor(1000)),
    "signature first": (PREDICT, spec(SIGNATURE, NAME)),
    "classify": (NAMING_METHODS[1], spec(NAME) + len_field(2, b"")),
    "regress": (NAMING_METHODS[2], spec(NAME) + len_field(2, b"")),
    "tail is not read": (PREDICT, spec(NAME) + b"\xff\xff\xff"),
    "unknown fields": (PREDICT, spec(NAME) + len_field(99, b"new") + varint_field(50, 7) + tensor(10)),
    "v2": (INFER, NAME + len_field(5, b"x")),
    "v2 with an id": (INFER, NAME + len_field(3, b"42") + len_field(5, b"x")),
    "v2 alone": (INFER, NAME),
}


@pytest.mark.parametrize("case", NAMED)
async def test_a_name_is_read(reader: str, case: str) -> None:
    path, message = NAMED[case]
    async with rest_client(reader, http2=True) as client:
        assert await read(client, path, frame(message)) == "acme"
    found = servers_reading(path, frame(message))
    assert found is not None
    assert (found.model, found.version, found.label) == ("acme", None, None)


@pytest.mark.parametrize("name", ["a", "A-b_c.d~9", "!$&'()*+,;=@:", "...", "n" * 255])
@pytest.mark.parametrize("path", [PREDICT, INFER])
async def test_names_are_written_as_the_server_writes_them(reader: str, path: str, name: str) -> None:
    field = len_field(1, name.encode())
    async with rest_client(reader, http2=True) as client:
        assert await read(client, path, frame(field if path == INFER else spec(field))) == write_model(name) == name


@pytest.mark.parametrize("size", [0, 1024, MIB, 4 * MIB, 20 * MIB, 64 * MIB])
async def test_messages_of_every_size(reader: str, size: int) -> None:
    async with rest_client(reader, http2=True) as client:
        assert await read(client, PREDICT, frame(spec(NAME) + (tensor(size) if size else b""))) == "acme"


async def test_a_message_in_pieces(reader: str) -> None:
    body = frame(spec(NAME, SIGNATURE) + tensor(100))
    async with rest_client(reader, http2=True) as client:
        assert await read(client, PREDICT, [bytes([byte]) for byte in body]) == "acme"
        assert await read(client, PREDICT, [body, b""]) == "acme"


OTHERS = {
    "no body": (PREDICT, b""),
    "half a head": (PREDICT, b"\0\0\0"),
    "an empty message": (PREDICT, frame(b"")),
    "cut off": (PREDICT, frame(spec(NAME) + tensor(100))[:-5]),
    "more behind it": (PREDICT, frame(spec(NAME)) + b"xyz"),
    "two messages": (PREDICT, frame(spec(NAME)) + frame(spec(NAME))),
    "packed": (PREDICT, frame(spec(NAME), flag=1)),
    "an impossible flag": (PREDICT, frame(spec(NAME), flag=2)),
    "no spec": (PREDICT, frame(tensor(10))),
    "no name": (PREDICT, frame(spec(SIGNATURE))),
    "an empty name": (PREDICT, frame(spec(len_field(1, b"")))),
    "a version": (PREDICT, frame(spec(NAME, VERSION))),
    "version 0": (PREDICT, frame(spec(NAME, len_field(2, b"")))),
    "a version before the name": (PREDICT, frame(spec(VERSION, NAME))),
    "a version in a spec before": (PREDICT, frame(spec(VERSION) + spec(NAME))),
    "a label": (PREDICT, frame(spec(NAME, LABEL))),
    "the name twice": (PREDICT, frame(spec(NAME, len_field(1, b"other")))),
    "an unknown field beside the name": (PREDICT, frame(spec(NAME, len_field(9, b"new")))),
    "a signature that is no text": (PREDICT, frame(spec(NAME, len_field(3, b"\xff")))),
    "the name behind a tensor": (PREDICT, frame(tensor(MIB) + spec(NAME))),
    "a spec that is cut off": (PREDICT, frame(b"\x0a\x7f" + NAME)),
    "a spec too long to be read": (PREDICT, frame(spec(NAME, len_field(3, b"s" * READ_BYTES)))),
    "a spec that is a number": (PREDICT, frame(b"\x08" + varint(len(NAME)) + NAME)),
    "a name that is a number": (PREDICT, frame(spec(b"\x08\x01a"))),
    "a longer tag": (PREDICT, frame(b"\x8a\x00" + varint(len(NAME)) + NAME)),
    "a group": (PREDICT, frame(b"\x0b\x0c" + spec(NAME))),
    "multi-inference": ("/tensorflow.serving.PredictionService/MultiInference", frame(spec(spec(NAME)))),
    "metadata": ("/tensorflow.serving.PredictionService/GetModelMetadata", frame(spec(NAME))),
    "a stream": ("/inference.GRPCInferenceService/ModelStreamInfer", frame(NAME)),
    "a query": (f"{PREDICT}?x", frame(spec(NAME))),
    "v2 version": (INFER, frame(NAME + len_field(2, b"1"))),
    "v2 empty version": (INFER, frame(NAME + len_field(2, b""))),
    "v2 version first": (INFER, frame(len_field(2, b"1") + NAME)),
    "v2 the name twice": (INFER, frame(NAME + len_field(1, b"other"))),
    "v2 malformed behind the name": (INFER, frame(NAME + b"\x2a\x7f")),
}


@pytest.mark.parametrize("case", OTHERS)
async def test_of_every_other_message_nothing_is_said(reader: str, case: str) -> None:
    path, body = OTHERS[case]
    async with rest_client(reader, http2=True) as client:
        assert await read(client, path, body) is None


@pytest.mark.parametrize(
    "name",
    [
        *(
            b".",
            b"..",
            b"a b",
            b"a/b",
            b"a\\b",
            b'a"b',
            b'a"],["b',
            b"a%41",
            b"%DOWNSTREAM_REMOTE_ADDRESS%",
            b"a<b>",
            b" a",
        ),
        *(b"a\r\nx: y", b"a\x00", b"a\x7f", "é".encode(), b"\xff\xfe", b"n" * 256, b"n" * MIB, b"^a", b"[a]"),
    ],
    ids=lambda name: ascii(name[:20]),
)
@pytest.mark.parametrize("path", [PREDICT, INFER])
async def test_names_that_need_escapes_are_the_servers(reader: str, path: str, name: bytes) -> None:
    field = len_field(1, name)
    async with rest_client(reader, http2=True) as client:
        assert await read(client, path, frame(field if path == INFER else spec(field))) is None


@pytest.mark.parametrize("header", ["tloc", "grpc-encoding"])
async def test_calls_whose_headers_say_more_are_left_alone(reader: str, header: str) -> None:
    async with rest_client(reader, http2=True) as client:
        assert await read(client, PREDICT, frame(spec(NAME)), {header: "identity"}) is None


async def test_nobody_forges_the_header(reader: str) -> None:
    forged = {NAMED_HEADER: "other"}
    async with rest_client(reader, http2=True) as client:
        assert await read(client, PREDICT, frame(spec(NAME)), forged) == "acme"
        assert await read(client, PREDICT, frame(spec(NAME, VERSION)), forged) is None
        assert await read(client, PREDICT, frame(spec(NAME)), {**forged, "tloc": "5"}) is None


@pytest.mark.parametrize("size", [1024, 4 * MIB])
async def test_grpc_over_http1(reader: str, size: int) -> None:
    body = frame(spec(NAME) + tensor(size))
    async with rest_client(reader) as client:
        assert await read(client, PREDICT, body) == "acme"
        assert await read(client, PREDICT, body, {"content-length": str(len(body))}) == "acme"


async def test_a_call_without_a_body_is_not_held(reader: str) -> None:
    async with rest_client(reader, http2=True) as client:
        reply = await client.get(PREDICT, headers=GRPC)
        assert (reply.status_code, reply.headers.get("named")) == (200, None)
        reply = await client.post(PREDICT, headers={**GRPC, "content-length": "0"})
        assert (reply.status_code, reply.headers.get("named")) == (200, None)


async def test_a_message_over_the_limit(reader: str) -> None:
    async with rest_client(reader, http2=True) as client:
        reply = await client.post(PREDICT, content=pieces(frame(spec(NAME) + tensor(LIMIT))), headers=GRPC)
    assert (reply.status_code, reply.headers["grpc-status"]) == (200, "2"), reply.headers
    assert reply.headers["grpc-message"] == "Payload Too Large"


def mutations(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Messages that a client could send, with some of their bytes changed, left out, doubled or put elsewhere."""
    chance = random.Random(seed)
    parts = [
        NAME,
        len_field(1, b"other"),
        SIGNATURE,
        VERSION,
        LABEL,
        len_field(9, b"new"),
        b"\x08\x04",
        b"\x0d",
        b"\x1b",
    ]
    for _ in range(number):
        path = chance.choice([PREDICT, INFER])
        fields = b"".join(chance.choices(parts, [9, 1, 3, 1, 1, 1, 1, 1, 1], k=chance.randint(1, 3)))
        message = bytearray(fields if path == INFER else spec(fields))
        message += chance.choice([b"", tensor(3), spec(VERSION), NAME, len_field(2, b"1"), len_field(5, b"x")])
        for _ in range(chance.choice([0, 0, 1, 2])):
            at = chance.randrange(len(message) + 1)
            what = chance.randrange(3)
            if what == 0:
                message[at : at + 1] = bytes([chance.choice([0, 1, 2, 4, 8, 9, 10, 11, 13, 18, 26, 34, 97, 128, 255])])
            elif what == 1:
                del message[at : at + chance.randint(1, 3)]
            else:
                message[at:at] = chance.choice(parts)
        yield path, frame(bytes(message))


async def test_what_is_said_is_what_the_server_reads(reader: str) -> None:
    said = 0
    async with rest_client(reader, http2=True) as client:
        for path, body in mutations(seed=12, number=1500):
            name = await read(client, path, body)
            if name is not None:
                said += 1
                call = servers_reading(path, body)
                assert call is not None, (path, body)
                assert (call.model, call.version, call.label) == (name, None, None), (path, body)
    assert said > 150
