"""TF Serving's REST API, called by a plain HTTP client."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    graphs.scaling(tmp_path / "m" / "1", 2)
    graphs.two(tmp_path / "two" / "1")
    graphs.scaling(tmp_path / "a b%é" / "1", 2)
    async with running(tmp_path, max_message_bytes=100_000) as made:
        yield made


async def call(server: Running, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = URL(f"http://{server.rest}{path}", encoded=True)
    async with aiohttp.ClientSession() as session, session.request(method, url, data=data, headers=headers) as reply:
        return reply.status, await reply.text()


async def test_predict(server: Running) -> None:
    expected = '{\n    "predictions": [[2.0, 4.0]\n    ]\n}'
    for path in ("/v1/models/m:predict", "/v1/models/m/versions/1:predict", "/V1/Models/m:predict"):
        assert await call(server, "POST", path, {"instances": [[1, 2]]}) == (200, expected)
    status, text = await call(server, "POST", "/v1/models/m:predict", {"inputs": [[1, 2]]})
    assert (status, json.loads(text)) == (200, {"outputs": [[2, 4]]})
    both = {"instances": [{"a": 1, "b": 2}], "signature_name": "serving_default"}
    status, text = await call(server, "POST", "/v1/models/two:predict", both)
    assert (status, json.loads(text)) == (200, {"predictions": [{"sum": 3, "difference": -1}]})


async def test_escaped_names_are_decoded(server: Running) -> None:
    status, _ = await call(server, "POST", "/v1/models/a%20b%25%C3%A9:predict", {"instances": [[1, 2]]})
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/v1/models/no:predict", {"inputs": 1}, 404, "Servable not found for request: Latest(no)"),
        (
            "POST",
            "/v1/models/m/versions/9:predict",
            {"inputs": 1},
            404,
            "Servable not found for request: Specific(m, 9)",
        ),
        ("POST", "/v1/models/..%2Fm:predict", {"inputs": 1}, 404, "Servable not found for request: Latest(../m)"),
        ("POST", "/v1/models/m/labels/x:predict", {"inputs": 1}, 400, "Unrecognized servable version label: x"),
        (
            "POST",
            "/v1/models/m/versions/99999999999999999999:predict",
            {},
            400,
            "Failed to convert version: 99999999999999999999 to numeric.",
        ),
        ("POST", "/v1/models/m:predict", b"", 400, "JSON Parse error: The document is empty"),
        (
            "POST",
            "/v1/models/no:predict",
            b"{",
            400,
            "JSON Parse error: Missing a name for object member. at offset: 1",
        ),
        ("POST", "/v1/models/m:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (
            "POST",
            "/v1/models/m:predict",
            {"signature_name": "s"},
            400,
            'Serving signature name: "s" not found in signature def',
        ),
        (
            "POST",
            "/v1/models/m:predict",
            {"signature_name": 1},
            400,
            'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            "POST",
            "/v1/models/m:classify",
            {"examples": [{}]},
            400,
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            "Was: tensorflow/serving/predict",
        ),
        (
            "POST",
            "/v1/models/m:regress",
            {},
            400,
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        ("GET", "/v1/models/no", b"", 404, "Could not find any versions of model no"),
        ("GET", "/v1/models/m/versions/9", b"", 404, "Could not find version 9 of model m"),
        ("GET", "/v1/models/no/metadata", b"", 404, "Servable not found for request: Latest(no)"),
        ("GET", "/v1/models", b"", 400, "Missing model name in request."),
        ("GET", "/v1/models/m:predict", b"", 400, "Malformed request: GET /v1/models/m:predict"),
        ("POST", "/v1/models/m", b"", 400, "Malformed request: POST /v1/models/m"),
        ("DELETE", "/v1/models/m", b"", 400, "Malformed request: DELETE /v1/models/m"),
        ("POST", "/v1/models/m:PREDICT", b"", 400, "Malformed request: POST /v1/models/m:PREDICT"),
    ],
)
async def test_refusals_are_tf_servings(
    server: Running, method: str, path: str, body: Any, status: int, error: str
) -> None:
    got, text = await call(server, method, path, body)
    assert (got, json.loads(text)) == (status, {"error": error})
    assert text.startswith('{\n    "error": "')


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/", "/V1/models/m/versions/x", "/v1/models/m:predict/more", "/v1/models/m:predict?x=1"]
)
async def test_every_other_path_of_v1_is_malformed(server: Running, path: str) -> None:
    """A query is a part of the path there."""
    for method in ("GET", "POST", "DELETE"):
        status, text = await call(server, method, path)
        assert (status, json.loads(text)) == (400, {"error": f"Malformed request: {method} {path}"})


async def test_a_web_page_may_ask_whether_it_may_call(server: Running) -> None:
    assert await call(server, "OPTIONS", "/v1/models/m:predict", Origin="https://example.org") == (200, "")
    assert await call(server, "OPTIONS", "/v1/models/m:predict", Origin="null") == (400, "")
    assert await call(server, "OPTIONS", "/v1/models/m:predict") == (400, "")


async def test_a_bad_shape(server: Running) -> None:
    status, text = await call(server, "POST", "/v1/models/m:predict", {"instances": [[1, 2, 3]]})
    assert status == 400
    assert "invalid dimensions for input: x" in json.loads(text)["error"]


async def test_status(server: Running) -> None:
    assert await call(server, "GET", "/v1/models/m") == (
        200,
        '{\n "model_version_status": [\n  {\n   "version": "1",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n',
    )


async def test_metadata(server: Running) -> None:
    status, text = await call(server, "GET", "/v1/models/m/versions/1/metadata")
    metadata = json.loads(text)
    assert status == 200
    assert metadata["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False},
        "name": "x:0",
    }


async def test_bodies_too_large(server: Running) -> None:
    for body, headers in ((b" " * 100_001, {}), (gzip.compress(b" " * 100_001), {"Content-Encoding": "gzip"})):
        status, text = await call(server, "POST", "/v1/models/m:predict", body, **headers)
        assert (status, json.loads(text)) == (413, {"error": "the request's body is larger than 100000 bytes"})


@pytest.mark.parametrize("cut", [0, 5])
async def test_bodies_badly_compressed(server: Running, cut: int) -> None:
    body = gzip.compress(b'{"instances": [[1, 2]]}')[:-cut] if cut else b"junk"
    status, text = await call(server, "POST", "/v1/models/m:predict", body, **{"Content-Encoding": "gzip"})
    assert status == 400
    assert "the request's body" in json.loads(text)["error"]
