"""What Envoy 1.36 can and cannot do: REST calls are raced; gRPC calls are routed plainly, and that is told."""

from collections.abc import Awaitable, Callable

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from ext_proc.wire.call import InferenceProtocol
from tests.integration import calls
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part

REST, GRPC = (
    (InferenceProtocol.TFS_REST, InferenceProtocol.V2_REST),
    (InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC),
)
BACKED = {"tloc": "400;est=20", "backup": "svm;est=200"}


@pytest_asyncio.fixture(loop_scope="session")
async def old(stage_of: Callable[[str], Awaitable[Stage]]) -> Stage:
    built = await stage_of("1.36")
    built.plays()
    await built.until_alive()
    return built


async def unbrokered(stage: Stage, protocol: InferenceProtocol) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{stage.edge.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    name = f'tbms_calls_unbrokered_total{{envoy="1.36",protocol="{protocol}"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("protocol", REST)
async def test_rest_calls_are_raced(old: Stage, protocol: InferenceProtocol) -> None:
    old.plays(bert=Part(seconds=None), svm=Part(2))
    got = await old.client.call(protocol, "bert", BACKED)
    assert (got.value, got.tell("why")) == (2, "overdue")
    old.plays(known=Part(seconds=None), svm=Part(2))
    assert (await old.client.call(protocol, "known")).value == 2
    big = np.zeros((calls.rows_of(4 << 20), 64), np.float32)
    old.plays(bert=Part(1))
    assert (await old.client.call(InferenceProtocol.V2_REST, "bert", {"tloc": "20000"}, images=big)).value == 1


@pytest.mark.parametrize("protocol", GRPC)
async def test_grpc_calls_are_routed_and_it_is_told(old: Stage, protocol: InferenceProtocol) -> None:
    before = await unbrokered(old, protocol)
    old.plays(bert=Part(1, seconds=0.3), svm=Part(2), known=Part(3))
    got = await old.client.call(protocol, "bert", BACKED)
    assert (got.value, got.answer) == (1, ""), "the limit is not kept here"
    assert (await old.client.call(protocol, "known")).value == 3
    assert [call.model for call in old.puppet.calls] == ["bert", "known"]
    assert await unbrokered(old, protocol) == before + 2
    assert old.edge.server.log.read_text().count("cannot hold gRPC calls") == 1


@pytest.mark.parametrize("protocol", GRPC)
async def test_names_still_lead_to_models(old: Stage, protocol: InferenceProtocol) -> None:
    old.plays(bert=Part(5))
    assert (await old.client.call(protocol, "prod")).value == 5
    assert (await old.client.call(protocol, "assistant")).value == 5
    assert [(call.model, call.version) for call in old.puppet.calls] == [("bert", "7"), ("bert", "")]
