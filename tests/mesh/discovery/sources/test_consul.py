import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from integration.peers.consul_agent import ConsulAgent, consul_agent
from mesh.discovery.sources.consul import ConsulSettings, ConsulSource, nodes_of
from mesh.errors import MeshError
from mesh.node import Node
from tests.mesh.discovery.etcd import ids, until


@pytest.fixture
async def agent() -> AsyncIterator[ConsulAgent]:
    async with consul_agent() as agent:
        yield agent


def settings(url: str = "http://127.0.0.1:8500", **fields: object) -> ConsulSettings:
    basic = {"kind": "consul", "url": url, "service": "models", "wait_seconds": 1, "timeout": 2}
    return ConsulSettings.model_validate({**basic, **fields})


async def test_instances_join_and_leave_and_nothing_new_keeps_the_source_young(agent: ConsulAgent) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500", rest="8501", residency="9903", zone="west", weight="2")
    async with aclosing(ConsulSource(settings(agent.url)).snapshots()) as snapshots:
        assert (await anext(snapshots)).nodes == (
            Node("a", "10.0.0.1:8500", "10.0.0.1:8501", "west", 2.0, residency="10.0.0.1:9903"),
        )
        await agent.put("b", "fd00::2", grpc="8500")
        found = await until(snapshots, lambda found: len(found.nodes) == 2)
        assert found.nodes[1] == Node("b", "[fd00::2]:8500")
        await agent.delete("a")
        await until(snapshots, lambda found: ids(found) == ["b"])
        assert ids(await anext(snapshots)) == ["b"]
        assert agent.asked[:1] == [0]
        assert 0 not in agent.asked[1:]


async def test_an_index_that_goes_backwards_starts_again(agent: ConsulAgent) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500")
    async with aclosing(ConsulSource(settings(agent.url)).snapshots()) as snapshots:
        await anext(snapshots)
        await agent.restore()
        await until(snapshots, lambda _: agent.asked.count(0) == 2)
        await agent.put("b", "10.0.0.2", grpc="8500")
        await until(snapshots, lambda found: ids(found) == ["a", "b"])


async def test_what_tf_serving_cache_registers_is_read(agent: ConsulAgent) -> None:
    await agent.put("cache-1", "10.0.0.1", tags=("rest:8093", "grpc:8100"))
    await agent.put("broken", "10.0.0.2", tags=("rest:x",))
    async with aclosing(ConsulSource(settings(agent.url, layout="tfservingcache")).snapshots()) as snapshots:
        found = await anext(snapshots)
        assert found.nodes == (Node("cache-1", "10.0.0.1:8100", "10.0.0.1:8093"),)
        assert len(found.conflicts) == 1


async def test_an_agent_that_hangs_is_noticed(agent: ConsulAgent) -> None:
    agent.hangs = True
    async with aclosing(ConsulSource(settings(agent.url, timeout=1.5)).snapshots()) as snapshots:
        await anext(snapshots)
        with pytest.raises(MeshError, match="TimeoutError"):
            await anext(snapshots)


async def test_a_wrong_token_is_an_error_that_does_not_show_it(agent: ConsulAgent, tmp_path: Path) -> None:
    agent.token, file = "good", tmp_path / "token"
    file.write_text("evil\n")
    source = ConsulSource(settings(agent.url, token_file=str(file)))
    with pytest.raises(MeshError) as refused:
        await anext(source.snapshots())
    assert "403" in str(refused.value)
    assert "evil" not in str(refused.value)
    file.write_text("good\n")
    async with aclosing(source.snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == []


async def test_a_token_that_may_read_nothing_is_an_error_and_no_fleet_without_nodes(agent: ConsulAgent) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500")
    agent.blind = True
    with pytest.raises(MeshError, match="does not allow to read all instances"):
        await anext(ConsulSource(settings(agent.url)).snapshots())


async def test_a_token_that_is_revoked_under_a_query_is_an_error_and_no_fleet_without_nodes(
    agent: ConsulAgent, tmp_path: Path
) -> None:
    agent.token, file = "good", tmp_path / "token"
    file.write_text("good")
    await agent.put("a", "10.0.0.1", grpc="8500")
    async with aclosing(ConsulSource(settings(agent.url, token_file=str(file), wait_seconds=600)).snapshots()) as found:
        assert ids(await anext(found)) == ["a"]
        following = asyncio.ensure_future(anext(found))
        await agent.waits.wait()
        await agent.revoke()
        with pytest.raises(MeshError, match="403"):
            await following


@pytest.mark.parametrize(
    "entry",
    [None, 3, {}, {"Service": {"ID": "a"}}, {"Service": {"ID": "a", "Address": "10.0.0.1", "Meta": {"grpc": "-1"}}},
     {"Service": {"ID": "a", "Address": "models.test", "Meta": {"grpc": "1"}}},
     {"Service": {"ID": "../a", "Address": "10.0.0.1", "Meta": {"grpc": "1"}}},
     {"Service": {"ID": "a", "Address": "10.0.0.1", "Meta": {"grpc": "1", "weight": "inf"}}}],
)  # fmt: skip
def test_what_makes_no_node_is_left_out(entry: Any) -> None:
    good = {"Service": {"ID": "good", "Address": "10.0.0.2", "Meta": {"grpc": "1"}}}
    found = nodes_of([entry, good], settings())
    assert ids(found) == ["good"]
    assert len(found.conflicts) == 1


@pytest.mark.parametrize("document", [None, {}, 3])
def test_what_is_no_list_is_an_error(document: Any) -> None:
    with pytest.raises(MeshError):
        nodes_of(document, settings())
