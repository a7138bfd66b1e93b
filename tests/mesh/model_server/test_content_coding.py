"""Which content coding an answer gets (RFC 9110, section 12.5.3), and where bodies are packed and unpacked."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict, CIMultiDictProxy

from mesh.model_server.content_coding import preferred
from mesh.model_server.models import Models
from mesh.model_server.repository import Repository
from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.rest_server import application
from mesh.model_server.runner import Runner
from mesh.model_server.tfs.rest_api import TfServingRest


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
    assert preferred(accept) == coding


async def test_packing_is_handed_over() -> None:
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
        packed = await client.post("/v2/x", data=b"x" * 1000, headers={"accept-encoding": "gzip"})
        assert (await packed.read(), sizes) == (b"x" * 1000, [1000])


async def test_unpacking_is_handed_over_by_what_it_may_come_to(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Recording(Runner):
        async def offload(self, size: int, work: Callable[[], Any]) -> Any:
            sizes.append(size)
            return work()

    runner = Recording()
    headers = CIMultiDictProxy(CIMultiDict({"Content-Encoding": "gzip"}))
    call = RestCall("POST", "/v1/models/m:predict", headers, gzip.compress(b"{"), 1 << 20)
    answer = await TfServingRest(Models(Repository(tmp_path)), runner).answer(call)
    assert (answer.status, sizes) == (400, [1 << 20, 1])
    await runner.close()
