"""A host that is lost without a word: nothing refuses its calls, and nothing says that they are over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio

from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.host import Host
from integration.stack.process import ProcessError
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING, need_envoy, owner
from tests.integration.eventually import comes_to
from tests.integration.raw import GrpcReply, RestReply, channel, rest, rest_client, unary

pytestmark = pytest.mark.envoy

IMAGE = np.full((1, 64), 8, dtype=np.float32)
HOSTS = ("node-a", "node-b")
# Long enough for the link to be cut under its calls.
SLOW_MS = 20_000.0


@pytest_asyncio.fixture(loop_scope="session")
async def hosts(tmp_path: Path) -> AsyncIterator[list[Host]]:
    async with AsyncExitStack() as stack:
        try:
            yield [await stack.enter_async_context(Host(tmp_path)) for _ in HOSTS]
        except ProcessError as error:
            pytest.skip(str(error))


@pytest.mark.timeout(240)
async def test_calls_to_a_host_that_is_lost_are_answered_by_another(
    hosts: list[Host], repository: Path, names: list[str], tmp_path: Path
) -> None:
    need_envoy("1.40")
    slow, quick = hosts
    model = next(name for name in names if owner(name, HOSTS) == "node-a")
    specs = [
        NodeSpec("node-a", host=slow.address, enter=slow.enter, delay_ms=SLOW_MS),
        NodeSpec("node-b", host=quick.address, enter=quick.enter),
    ]
    nodes = [EmbeddedNode(spec, repository, tmp_path) for spec in specs]
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.push_async_callback(node.stop)
            await node.start()
        edge = await stack.enter_async_context(Sidecar(tmp_path, [node.node for node in nodes], sections=BY_THE_RING))
        on_rest, on_grpc = calls.tfs_rest(model, IMAGE), calls.tfs_grpc(model, IMAGE)
        client = await stack.enter_async_context(rest_client(edge.http))
        through = await stack.enter_async_context(channel(edge.target))

        async def over_rest() -> RestReply:
            return await rest(client, on_rest.path, on_rest.body, on_rest.headers)

        async def over_grpc() -> GrpcReply:
            return await unary(through, on_grpc.method, on_grpc.message)

        async def at_work() -> int:
            async with httpx.AsyncClient(trust_env=False) as http:
                found = await http.get(f"{edge.envoy_admin}/stats?filter=^cluster.models_.*upstream_rq_active$")
            return sum(int(line.rpartition(": ")[2]) for line in found.text.splitlines())

        waiting = [asyncio.create_task(over_rest()), asyncio.create_task(over_grpc())]
        assert await comes_to(at_work, 2) == 2
        await slow.cut()
        # One whose request goes out on the connection that is there, and is never acknowledged.
        waiting.append(asyncio.create_task(over_grpc()))
        first, second, third = await asyncio.gather(*waiting)
        assert (first.status, first.upstream) == (200, nodes[1].node.rest)
        assert (second.code, second.upstream) == ("OK", nodes[1].node.grpc)
        assert (third.code, third.upstream) == ("OK", nodes[1].node.grpc)

        async def alive() -> set[str]:
            return {node["id"] for node in (await edge.status())["nodes"] if node["alive"]}

        assert await comes_to(alive, {"node-b"}) == {"node-b"}
        await slow.mend()
        assert await comes_to(alive, set(HOSTS)) == set(HOSTS)
