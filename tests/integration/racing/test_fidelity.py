"""A race changes nothing of the winner's answer but one header, and leaves nothing running when its client goes."""

import asyncio
import gzip
import time

import grpc
import httpx
import numpy as np
import pytest

from ext_proc.wire.call import InferenceProtocol
from tests.integration import calls
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part, reply
from tests.integration.racing.racing import IMAGE
from tests.integration.raw import unary

PROTOCOLS = tuple(InferenceProtocol)
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
LONG = {"tloc": "20000;est=10000", "backup": "svm;est=1000"}


async def rest(stage: Stage, **more: str) -> httpx.Response:
    asked = calls.tfs_rest("bert", IMAGE)
    return await stage.client.http.post(asked.path, content=asked.body, headers={**asked.headers, **LONG, **more})


async def test_headers_of_a_rest_winner(stage: Stage) -> None:
    cookies = (("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"))
    stage.plays(bert=Part(1, headers=(*cookies, ("x-mine", "one"), ("x-mine", "two"), ("content-type", "text/csv"))))
    got = await rest(stage)
    assert got.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    assert got.headers.get_list("x-mine") == ["one", "two"]
    assert got.headers["content-type"] == "text/csv"
    assert int(got.headers["content-length"]) == len(got.content)
    assert {"x-tbms-hop", "transfer-encoding"}.isdisjoint(got.headers)


@protocols
async def test_an_answer_without_a_body_or_a_type(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(body=b"", headers=(("content-type", ""),) if not protocol.is_grpc else ()))
    if protocol.is_grpc:
        asked = (
            calls.tfs_grpc("bert", IMAGE) if protocol is InferenceProtocol.TFS_GRPC else calls.v2_grpc("bert", IMAGE)
        )
        got = await unary(stage.client.channel, asked.method, asked.message, list(LONG.items()))
        assert (got.code, got.message) == ("OK", b"")
    else:
        reply_ = await rest(stage)
        assert (reply_.status_code, reply_.content, reply_.headers.get("content-type")) == (200, b"", None)


async def test_a_packed_reply_stays_packed(stage: Stage) -> None:
    packed = gzip.compress(reply(InferenceProtocol.TFS_REST, "bert", 4.0))
    stage.plays(bert=Part(body=packed, headers=(("content-encoding", "gzip"), ("etag", '"7"'))))
    got = await rest(stage, **{"accept-encoding": "gzip"})
    assert (got.headers["content-encoding"], got.headers["etag"]) == ("gzip", '"7"')
    assert int(got.headers["content-length"]) == len(packed)
    assert got.json() == {"predictions": [4.0]}
    assert stage.puppet.calls[0].header("accept-encoding") == "gzip"


@pytest.mark.parametrize("protocol", [InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC])
async def test_metadata_of_a_grpc_winner(stage: Stage, protocol: InferenceProtocol) -> None:
    initial = (("x-initial", "1"), ("x-initial-bin", b"\x00\xff\x80"), ("x-two", "a"), ("x-two", "b"))
    trailing = (("x-trailing", "2"), ("x-trailing-bin", bytes(range(256))))
    stage.plays(bert=Part(1, headers=initial, trailers=trailing))
    write = calls.tfs_grpc if protocol is InferenceProtocol.TFS_GRPC else calls.v2_grpc
    asked = write("bert", IMAGE)
    metadata = [*LONG.items(), ("x-sent-bin", b"\x00\x01\xff")]
    got = await unary(stage.client.channel, asked.method, asked.message, metadata)
    assert got.code == "OK"
    assert got.message == reply(protocol, "bert", 1)
    # Envoy has room for one line of each name in a streamed answer; joined, they mean the same.
    assert {*initial[:2], ("x-two", "a, b")} <= set(got.initial)
    assert sorted(trailing) == sorted(pair for pair in got.trailing if pair[0].startswith("x-"))
    assert stage.puppet.calls[0].header("x-sent-bin") == str(b"\x00\x01\xff")


@pytest.mark.parametrize("protocol", [InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC])
async def test_repeated_metadata_reach_every_candidate_value_by_value(
    stage: Stage, protocol: InferenceProtocol
) -> None:
    stage.plays(bert=Part(status=(500, grpc.StatusCode.INTERNAL)), svm=Part(2))
    write = calls.tfs_grpc if protocol is InferenceProtocol.TFS_GRPC else calls.v2_grpc
    asked = write("bert", IMAGE)
    sent = [("x-sent-bin", b"\x00\xff"), ("x-sent", "a"), ("x-sent-bin", b"\x01, \x02"), ("x-sent", "b, c")]
    got = await unary(stage.client.channel, asked.method, asked.message, [*LONG.items(), *sent])
    assert got.code == "OK"
    assert [seen.model for seen in stage.puppet.calls] == ["bert", "svm"]
    for seen in stage.puppet.calls:
        for name in ("x-sent-bin", "x-sent"):
            values = [value for key, value in seen.headers if key == name]
            assert values == [str(value) for key, value in sent if key == name]


async def test_of_repeated_binary_metadata_in_a_reply_the_last_value_stays(stage: Stage) -> None:
    twice = (("x-a-bin", b"\x01"), ("x-a-bin", b"\x02"))
    stage.plays(bert=Part(1, headers=twice, trailers=(("x-b-bin", b"\x03"), ("x-b-bin", b"\x04"))))
    asked = calls.tfs_grpc("bert", IMAGE)
    got = await unary(stage.client.channel, asked.method, asked.message, list(LONG.items()))
    assert got.code == "OK"
    assert [value for key, value in got.initial if key == "x-a-bin"] == [b"\x02"]
    assert [value for key, value in got.trailing if key == "x-b-bin"] == [b"\x04"]


async def test_a_packed_grpc_call(stage: Stage) -> None:
    stage.plays(bert=Part(seconds=None), svm=Part(2))
    images = np.zeros((100, 64), np.float32)
    asked = calls.tfs_grpc("bert", images)
    headers = [("tloc", "400;est=20"), ("backup", "svm;est=200")]
    got = await unary(stage.client.channel, asked.method, asked.message, headers, compression=grpc.Compression.Gzip)
    assert got.code == "OK"
    assert stage.puppet.of("bert")[0].body == asked.message
    assert stage.puppet.of("svm")[0].body == calls.tfs_grpc("svm", images).message


@protocols
async def test_bodies_of_4_mib_are_raced(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(status=(500, grpc.StatusCode.INTERNAL)), svm=Part(2))
    images = np.random.default_rng(1).random((calls.rows_of(4 << 20), 64), np.float32)
    if protocol is InferenceProtocol.TFS_REST:
        images = images[: len(images) // 5].round(3)
    got = await stage.client.call(protocol, "bert", {"tloc": "20000", "backup": "svm;est=20"}, images=images)
    assert (got.value, got.tell("why")) == (2, "failed")
    bert, svm = stage.puppet.calls
    assert len(svm.body) > 4_000_000 or protocol is InferenceProtocol.TFS_REST
    if not protocol.is_grpc:
        assert bert.body == svm.body


@protocols
async def test_everything_ends_when_the_client_goes(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(seconds=None), svm=Part(seconds=None))
    headers = {"tloc": "30000;est=1", "backup": "svm;est=20"}
    call = asyncio.create_task(stage.client.call(protocol, "bert", headers))
    await stage.puppet.until(lambda: len(stage.puppet.calls) == 2)
    left = time.monotonic()
    call.cancel()
    await stage.puppet.until(lambda: [seen.end for seen in stage.puppet.calls] == ["cancelled"] * 2)
    last = max(seen.ended for seen in stage.puppet.calls)
    print(f"{protocol} on Envoy {stage.edge.version}: all candidates cancelled after {1000 * (last - left):.1f} ms")
    with pytest.raises(asyncio.CancelledError):
        await call
    # The server is not left with a race, nor with the load of its calls.
    async with asyncio.timeout(60):
        while (await stage.edge.status())["nodes"][0]["load"]:
            await asyncio.sleep(0.02)
