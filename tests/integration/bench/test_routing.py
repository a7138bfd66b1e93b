"""The parts of the routing benchmark: the load generator's numbers, and what a body of the benchmark is."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from integration.bench.routing.benchmark import Pair, Round, framed_predict
from integration.bench.routing.h2load import Load, LoadError, Request, h2load
from integration.peers.answerer import answerer
from mesh.protos import tfs_pb2

needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="no h2load: apt-get install nghttp2-client")


@pytest_asyncio.fixture(loop_scope="session")
async def upstream(tmp_path: Path) -> AsyncIterator[str]:
    async with answerer(tmp_path) as address:
        yield f"http://{address}"


@needs_h2load
async def test_h2load_counts_every_request(upstream: str, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(framed_predict(1 << 20))
    grpc = Request("/tensorflow.serving.PredictionService/Predict", {"content-type": "application/grpc"}, body)
    for request in (Request("/v1/models/a", {}), grpc):
        load = await h2load(upstream, request, 40, 2, 4)
        assert load.requests == len(load.latencies) == 40
        assert load.rate > 0
        assert 0 < load.quantile(0.5) <= load.quantile(0.99) <= load.latencies[-1]


@needs_h2load
async def test_h2load_does_not_count_refusals(upstream: str, tmp_path: Path) -> None:
    too_large = tmp_path / "body"
    with too_large.open("wb") as file:
        file.truncate(129 << 20)
    with pytest.raises(LoadError, match="Not every answer"):
        await h2load(upstream, Request("/v1/models/a", {}, too_large), 1, 1, 1)


def test_a_body_names_the_model_first() -> None:
    body = framed_predict(4096)
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    assert body[5] == 0x0A  # field 1, length-delimited: model_spec
    request = tfs_pb2.PredictRequest.FromString(body[5:])
    assert request.model_spec.name == "bench"
    assert len(request.inputs["x"].tensor_content) == 4096


def test_ratios_are_medians_of_neighbouring_rounds() -> None:
    def rounds(*rates: float) -> list[Round]:
        return [Round(Load(100, rate, (1.0, 2.0, rate)), envoy_cpu=1.0, server_cpu=rate) for rate in rates]

    pair = Pair(direct=rounds(10, 100, 1000), tbms=rounds(5, 40, 900))
    assert pair.throughput == 0.5  # of 0.5, 0.4 and 0.9
    assert pair.server_cpu == 40
    assert pair.added(0.99) == -60  # of -5, -60 and -100
