"""Classify and Regress of TensorFlow's own client, answered by TensorFlow: merged, and alone."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ext_proc.wire.call import Call, InferenceProtocol, Verb
from integration.peers.tf_client import PYTHON, RUNNER, TfClient
from mesh.protos import tfs_pb2 as tfs
from tests.integration.batching.merging import merging

SERVICE = "/tensorflow.serving.PredictionService/"
REPLIES = {Verb.CLASSIFY: tfs.ClassificationResponse, Verb.REGRESS: tfs.RegressionResponse}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tensorflow: TfClient) -> AsyncIterator[str]:
    runner = RUNNER.with_name("tf_examples_runner.py")
    process = await asyncio.create_subprocess_exec(str(PYTHON), str(runner), stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = (await process.stdout.readline()).decode().strip()
        assert port
        yield f"127.0.0.1:{port}"
        process.stdin.close()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def example(first: float, second: float, *words: str) -> dict[str, tuple[str, Any]]:
    made: dict[str, tuple[str, Any]] = {"x": ("float", [first, second])}
    return made | {"words": ("bytes", words)} if words else made


LISTS = [
    [example(0.1, 2.0, "cat", "dog")],
    [example(3.0, 4.0), example(-1.0, 0.7, "é" * 100, "")],
    [example(0.0, 0.0, "a", "b"), example(1e30, 1e-30, "c"), example(5, 6, "d", "e")],
]
SCALE: dict[str, tuple[str, Any]] = {"scale": ("float", [0.3])}


@pytest.mark.parametrize("verb", REPLIES)
@pytest.mark.parametrize("context", [None, SCALE, {}])
async def test_calls_get_what_they_get_alone(
    server: str, tensorflow: TfClient, verb: Verb, context: dict[str, tuple[str, Any]] | None
) -> None:
    method = verb.value.capitalize()

    async def ask(target: str, examples: list[dict[str, tuple[str, Any]]]) -> Any:
        reply = await tensorflow.examples(method, target, "m", examples, context=context, signature="s")
        assert (reply.code, reply.details) == (0, "")
        return reply.response

    alone = [await ask(server, examples) for examples in LISTS]
    call = Call(InferenceProtocol.TFS_GRPC, verb, "m")
    async with merging(server, call, SERVICE + method, len(LISTS)) as (target, merger):
        merged = await asyncio.gather(*(ask(target, examples) for examples in LISTS))
    assert merger.rows == [1, 2, 3]
    assert merged == alone
    results = [REPLIES[verb].FromString(reply).result for reply in merged]
    numbers = [
        [[each.score for each in one.classes] for one in result.classifications]
        if isinstance(result, tfs.ClassificationResult)
        else [each.value for each in result.regressions]
        for result in results
    ]
    assert len({str(number) for each in numbers for number in each}) == 6  # each got its own
