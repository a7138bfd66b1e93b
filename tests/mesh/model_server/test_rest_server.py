"""Which content coding an answer gets (RFC 9110, section 12.5.3), and where bodies are packed and unpacked."""

import gzip
from collections.abc import Callable

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.rest_server import application, preferred_coding


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0.5, identity", None),
        ("gzip, identity;q=0.5", "gzip"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=2", None),
        ("gzip;q=nonsense", None),
        ("gzip;level=9", None),
        ("br, gzipped", None),
    ],
)
def test_the_coding_that_the_client_wants_most(accept: str, coding: str | None) -> None:
    assert preferred_coding(accept) == coding


async def test_packing_and_unpacking_are_handed_over_by_what_they_may_come_to() -> None:
    sizes: list[int] = []

    async def offload(size: int, work: Callable[[], bytes]) -> bytes:
        sizes.append(size)
        return work()

    async def echo(call: RestCall) -> RestAnswer:
        return RestAnswer(200, call.body, compressible=True)

    server = TestServer(application(echo, echo, 1 << 20, offload))
    await server.start_server(auto_decompress=False)
    async with TestClient(server) as client:
        plain = await client.post("/v2/x", data=b"x" * 100, headers={"accept-encoding": "identity"})
        assert (await plain.read(), sizes) == (b"x" * 100, [])
        headers = {"content-encoding": "gzip", "accept-encoding": "gzip"}
        packed = await client.post("/v2/x", data=gzip.compress(b"x" * 1000), headers=headers)
        assert (await packed.read(), sizes) == (b"x" * 1000, [1 << 20, 1000])
