"""What Envoy tells of calls that have ended, on real Envoys: each counts once, whatever becomes of it or of the log.

`known` calls are counted by the log alone, all others when the server decided about them: so the sum over all outcomes
is the number of calls, exactly.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest

from ext_proc.contract import ACCESS_LOG_METHOD
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.racing.puppet import Part, Puppet, puppet

IMAGE = np.full((1, 64), 8, dtype=np.float32)
MODEL = "bert"
VERSIONS = ["1.40", "1.38", "1.36"]
OLDEST_AND_NEWEST = ["1.40", "1.36"]
UNHURRIED = {"envoy": {"server_wait_seconds": 30.0}}


@dataclass
class Scene:
    """An edge, and two nodes that hold the model."""

    edge: Sidecar
    nodes: list[Puppet]
    _running: AsyncExitStack

    def plays(self, part: Part) -> None:
        for node in self.nodes:
            node.plays(**{MODEL: part})

    def arrived(self) -> int:
        return sum(len(node.calls) for node in self.nodes)

    async def stop_nodes(self) -> None:
        await self._running.aclose()


@asynccontextmanager
async def scene_of(version: str, folder: Path, **sections: Any) -> AsyncIterator[Scene]:
    need_envoy(version)
    async with AsyncExitStack() as running:
        nodes = [await running.enter_async_context(puppet(name)) for name in ("node-a", "node-b")]
        holders = [replace(node.node, models=frozenset({MODEL})) for node in nodes]
        async with Sidecar(folder, holders, envoy=version, sections={**UNHURRIED, **sections}) as edge:
            yield Scene(edge, nodes, running)


async def until(scene: Scene, held: Any, what: str) -> dict[str, Any]:
    """The status for which `held` is true; waits for it."""
    for _ in range(400):
        status = await scene.edge.status()
        if held(status):
            return status
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: {status['calls']}, {status['logs']} logs, {status.get('known')}")


async def settled(scene: Scene) -> dict[str, Any]:
    """The status once Envoy has told of all that has ended: it keeps the last ones for a tenth of a second."""
    before, status = -1, await scene.edge.status()
    while total(status) != before:
        before = total(status)
        await asyncio.sleep(0.5)
        status = await scene.edge.status()
    return status


async def ask(client: aiohttp.ClientSession, call: calls.Rest, **headers: str) -> int:
    async with client.post(call.path, data=call.body, headers={**call.headers, **headers}) as reply:
        await reply.read()
        return reply.status


async def make_known(scene: Scene, client: aiohttp.ClientSession, call: calls.Rest) -> int:
    """Returns once Envoy carries the call by itself; so many calls were made for it."""
    assert await ask(client, call) == 200
    await until(scene, lambda status: status["known"]["models"] and status["known"]["taken"], "taken")
    return 1


def total(status: dict[str, Any]) -> int:
    return sum(status["calls"].values())


def is_idle(status: dict[str, Any]) -> bool:
    return all(node["load"] < 0.05 for node in status["nodes"])


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_of_a_model_that_is_called_often_some_calls_are_told_of_and_all_that_fail(
    version: str, tmp_path: Path
) -> None:
    often = {"known": {"sampled_from": 1.0}}
    async with scene_of(version, tmp_path, **often) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        call = calls.tfs_rest(MODEL, IMAGE)
        await make_known(scene, client, call)
        before = known = (await scene.edge.status())["known"]
        while known["version"] == before["version"] or not known["taken"]:
            for _ in range(10):
                assert await ask(client, call) == 200
            known = (await scene.edge.status())["known"]
        changed = await settled(scene)
        scene.plays(Part(status=(400, grpc.StatusCode.INVALID_ARGUMENT)))
        for _ in range(30):
            assert await ask(client, call) == 400
        scene.plays(Part())
        await until(scene, lambda status: total(status) == total(changed) + 30, "all that fail are told of")
        for _ in range(800):
            assert await ask(client, call) == 200
        last = await settled(scene)
        told = total(last) - total(changed) - 30
        if last["known"]["version"] == known["version"]:  # or they were so seldom that all were told for a while
            assert told % 16 == 0
        assert 240 < told < 1600, "by chance, one in 16 of 800, each for 16"


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_call_is_counted_once(version: str, tmp_path: Path) -> None:
    async with scene_of(version, tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        call = calls.tfs_rest(MODEL, IMAGE)
        made = await make_known(scene, client, call)
        for _ in range(50):
            assert await ask(client, call) == 200
            assert await ask(client, call, **{"tbms-key": "k"}) == 200, "says more than the name: the server's"
        status = await until(scene, lambda status: total(status) >= made + 100, "all told")
        await asyncio.sleep(0.5)
        status = await scene.edge.status()
        assert status["calls"] == {"routed": made + 50, "known": 50}
        assert status["logs"] == 1


@pytest.mark.parametrize(
    ("version", "by"), [("1.40", "message"), ("1.38", "message"), ("1.36", "message"), ("1.40", "header")]
)
async def test_grpc_calls_are_too(version: str, by: str, tmp_path: Path) -> None:
    async with scene_of(version, tmp_path) as scene, grpc.aio.insecure_channel(scene.edge.target) as channel:
        call = calls.tfs_grpc(MODEL, IMAGE)
        predict = channel.unary_unary(call.method)
        named = (("x-tbms-model", MODEL),) if by == "header" else ()
        await predict(call.message, metadata=named)
        await until(scene, lambda status: status["known"]["models"] and status["known"]["taken"], "taken")
        for _ in range(40):
            await predict(call.message, metadata=named)
        await until(scene, lambda status: total(status) >= 41, "all told")
        await asyncio.sleep(0.5)
        assert (await scene.edge.status())["calls"] == {"routed": 1, "known": 40}
        async with aiohttp.ClientSession(scene.edge.admin) as admin, admin.get("/metrics") as reply:
            told = 'tbms_calls_total{outcome="known",protocol="tfs-grpc",verb="predict"} 40.0'
            assert told in await reply.text()


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_calls_whose_callers_leave_are_counted_once(version: str, tmp_path: Path) -> None:
    async with scene_of(version, tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        call = calls.tfs_rest(MODEL, IMAGE)
        made = await make_known(scene, client, call)
        scene.plays(Part(seconds=None))
        callers = [asyncio.create_task(ask(client, call)) for _ in range(20)]
        async with asyncio.timeout(60):
            while scene.arrived() < len(callers):
                await asyncio.sleep(0.01)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        await until(scene, lambda status: total(status) >= made + 20, "all told")
        await asyncio.sleep(0.5)
        assert (await scene.edge.status())["calls"] == {"routed": made, "known": 20}
        await until(scene, is_idle, "idle")


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_calls_that_no_node_takes_are_counted_once(version: str, tmp_path: Path) -> None:
    async with scene_of(version, tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        call = calls.tfs_rest(MODEL, IMAGE)
        made = await make_known(scene, client, call)
        await scene.stop_nodes()
        statuses = [await ask(client, call) for _ in range(20)]
        assert set(statuses) == {503}
        await until(scene, lambda status: total(status) >= made + 20, "all told")
        await asyncio.sleep(0.5)
        counts = (await scene.edge.status())["calls"]
        assert sum(counts.values()) == made + 20, counts
        await until(scene, is_idle, "idle")


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_a_log_that_breaks_counts_nothing_twice_and_leaves_nothing(version: str, tmp_path: Path) -> None:
    """The server is killed under load and comes back; calls that it decides and known ones, all the time."""
    async with scene_of(version, tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        scene.plays(Part(seconds=0.02))
        call = calls.tfs_rest(MODEL, IMAGE)
        await make_known(scene, client, call)
        on, made = True, 0

        async def load(**headers: str) -> None:
            nonlocal made
            while on:
                status = await ask(client, call, **headers)
                made += 1
                assert status == 200

        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(load())
            await asyncio.sleep(1.0)
            scene.edge.server.kill()
            await asyncio.sleep(1.0)
            await scene.edge.start_server()
            before = made
            await until(scene, lambda status: status["logs"] == 1 and status["calls"].get("known", 0) > 50, "is back")
            on = False
        status = await scene.edge.status()
        await asyncio.sleep(0.5)
        later = await scene.edge.status()
        # What waited in Envoy's buffer while the server was away may come, or be lost; none comes twice.
        assert 50 < later["calls"]["known"] <= made, (before, made, later["calls"])
        assert later["calls"]["known"] - status["calls"]["known"] <= made
        await until(scene, is_idle, "idle")


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_what_one_server_was_told_of_the_next_one_is_not_told_again(version: str, tmp_path: Path) -> None:
    """The stream of the log breaks with the server, and what it carried is not sent once more, as a call's would be."""
    async with scene_of(version, tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        scene.plays(Part(seconds=0))
        call = calls.tfs_rest(MODEL, IMAGE)
        await make_known(scene, client, call)
        for _ in range(100):
            assert await ask(client, call) == 200
        await until(scene, lambda status: status["calls"].get("known", 0) >= 100, "told of all")
        scene.edge.server.kill()
        await scene.edge.start_server()
        asked = 0
        async with asyncio.timeout(20):
            while (await scene.edge.status())["logs"] == 0:  # the end of a known call opens the log again
                assert await ask(client, call) == 200
                asked += 1
                await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)
        told = (await scene.edge.status())["calls"]
        assert asked < 100
        assert told.get("known", 0) <= asked, told


async def test_a_known_call_is_as_long_a_load_as_it_lasts(tmp_path: Path) -> None:
    """16 callers of a model that takes 100 ms: as many as that are seen at the nodes, though nobody was asked.

    On a busy machine the callers are slower: rate x 100 ms is what there is at least.
    """
    async with scene_of("1.40", tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        scene.plays(Part(seconds=0.1))
        call = calls.tfs_rest(MODEL, IMAGE)
        await make_known(scene, client, call)
        on, made, clock = True, 0, asyncio.get_running_loop().time

        async def load() -> None:
            nonlocal made
            while on:
                await ask(client, call)
                made += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(16):
                tasks.create_task(load())
            await asyncio.sleep(2.0)
            seen, before, began = [], made, clock()
            for _ in range(40):
                status = await scene.edge.status()
                seen.append(sum(node["load"] for node in status["nodes"]))
                await asyncio.sleep(0.05)
            least = (made - before) / (clock() - began) * 0.1
            on = False
        assert 0.6 * least <= sum(seen) / len(seen) <= 1.4 * 16, (least, seen)
        await until(scene, is_idle, "idle")


async def test_a_stream_of_garbage_ends_alone(tmp_path: Path) -> None:
    async with scene_of("1.40", tmp_path) as scene, aiohttp.ClientSession(scene.edge.http) as client:
        call = calls.tfs_rest(MODEL, IMAGE)
        made = await make_known(scene, client, call)
        listen = f"unix:{scene.edge.config.parent}/ext_proc.sock"
        async with grpc.aio.insecure_channel(listen) as channel:
            method = channel.stream_unary(ACCESS_LOG_METHOD)
            for garbage, why in (
                (b"\xff" * 100, "not a StreamAccessLogsMessage"),
                (b"", "the log has the name b''"),
                (bytes(300_000), "over the limit of 262144 bytes"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await method(iter([garbage]))
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert why in (refused.value.details() or "")
        for _ in range(20):
            assert await ask(client, call) == 200
        await until(scene, lambda status: total(status) >= made + 20, "all told")
        await asyncio.sleep(0.5)
        status = await scene.edge.status()
        assert (status["calls"], status["logs"]) == ({"routed": made, "known": 20}, 1)


async def test_a_drain_does_not_wait_for_the_log(tmp_path: Path) -> None:
    patient = {"server": {"drain_seconds": 100}}
    async with (
        scene_of("1.40", tmp_path, **patient) as scene,
        aiohttp.ClientSession(scene.edge.http) as client,
    ):
        call = calls.tfs_rest(MODEL, IMAGE)
        await make_known(scene, client, call)
        assert await ask(client, call) == 200
        await until(scene, lambda status: status["logs"] == 1, "a log is open")
        scene.edge.server.signal(signal.SIGTERM)
        async with asyncio.timeout(50):
            while scene.edge.server.running:
                await asyncio.sleep(0.05)
