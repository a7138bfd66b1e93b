"""What Envoy tells of calls that have ended, on real Envoys: each counts once, whatever becomes of it or of the log.

`known` calls are counted by the log alone, all others when the server decided about them: so the sum over all outcomes
is the number of calls, exactly.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest

from ext_proc.contract import ACCESS_LOG_METHOD
from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.stack import Stack
from tests.integration import calls
from tests.integration.conftest import need_envoy

IMAGE = np.full((1, 64), 8, dtype=np.float32)
VERSIONS = ["1.40", "1.38", "1.36"]
OLDEST_AND_NEWEST = ["1.40", "1.36"]
UNHURRIED = {"envoy": {"server_wait_seconds": 30.0}}


@asynccontextmanager
async def edge_of(
    version: str, repository: Path, names: list[str], delay_ms: float = 0.0, **sections: Any
) -> AsyncIterator[Stack[EmbeddedNode]]:
    need_envoy(version)
    specs = [NodeSpec(name, models=frozenset(names), delay_ms=delay_ms) for name in ("node-a", "node-b")]
    async with Stack(repository, specs, envoy=version, sections={**UNHURRIED, **sections}) as stack:
        yield stack


async def until(stack: Stack[EmbeddedNode], held: Any, what: str) -> dict[str, Any]:
    """The status for which `held` is true; waits for it."""
    for _ in range(400):
        status = await stack.edge.status()
        if held(status):
            return status
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: {status['calls']}, {status['logs']} logs, {status.get('known')}")


async def ask(client: aiohttp.ClientSession, call: calls.Rest, **headers: str) -> int:
    async with client.post(call.path, data=call.body, headers={**call.headers, **headers}) as reply:
        await reply.read()
        return reply.status


async def make_known(stack: Stack[EmbeddedNode], client: aiohttp.ClientSession, call: calls.Rest) -> int:
    """Returns once Envoy carries the call by itself; so many calls were made for it."""
    assert await ask(client, call) == 200
    await until(stack, lambda status: status["known"]["models"] and status["known"]["taken"], "taken")
    return 1


def total(status: dict[str, Any]) -> int:
    return sum(status["calls"].values())


def is_idle(status: dict[str, Any]) -> bool:
    return all(node["load"] < 0.05 for node in status["nodes"])


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_of_a_model_that_is_called_often_some_calls_are_told_of_and_all_that_fail(
    version: str, repository: Path, names: list[str]
) -> None:
    often = {"known": {"sampled_from": 1.0}}
    async with edge_of(version, repository, names, **often) as stack, aiohttp.ClientSession(stack.edge.http) as client:
        call = calls.tfs_rest(names[0], IMAGE)
        made = await make_known(stack, client, call)
        before = (await stack.edge.status())["known"]["version"]
        for _ in range(60):
            assert await ask(client, call) == 200
        await until(stack, lambda status: total(status) == made + 60, "all told")
        changed = await until(stack, lambda status: status["known"]["version"] != before, "another map")
        await until(stack, lambda status: status["known"]["taken"], "taken")
        wrong = replace(call, body=b"{")
        for _ in range(30):
            assert await ask(client, wrong) == 400
        await until(stack, lambda status: total(status) == total(changed) + 30, "all that fail are told of")
        for _ in range(800):
            assert await ask(client, call) == 200
        await asyncio.sleep(0.3)  # Envoy keeps the last ones for a tenth of a second
        told = total(await stack.edge.status()) - total(changed) - 30
        assert told % 16 == 0
        assert 240 < told < 1600, "by chance, one in 16 of 800, each for 16"


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_call_is_counted_once(version: str, repository: Path, names: list[str]) -> None:
    async with edge_of(version, repository, names) as stack, aiohttp.ClientSession(stack.edge.http) as client:
        call = calls.tfs_rest(names[0], IMAGE)
        made = await make_known(stack, client, call)
        for _ in range(50):
            assert await ask(client, call) == 200
            assert await ask(client, call, **{"tbms-key": "k"}) == 200, "says more than the name: the server's"
        status = await until(stack, lambda status: total(status) >= made + 100, "all told")
        await asyncio.sleep(0.5)
        status = await stack.edge.status()
        assert status["calls"] == {"routed": made + 50, "known": 50}
        assert status["logs"] == 1


@pytest.mark.parametrize(
    ("version", "by"), [("1.40", "message"), ("1.38", "message"), ("1.36", "message"), ("1.40", "header")]
)
async def test_grpc_calls_are_too(version: str, by: str, repository: Path, names: list[str]) -> None:
    async with edge_of(version, repository, names) as stack, grpc.aio.insecure_channel(stack.edge.target) as channel:
        call = calls.tfs_grpc(names[0], IMAGE)
        predict = channel.unary_unary(call.method)
        named = (("x-tbms-model", names[0]),) if by == "header" else ()
        await predict(call.message, metadata=named)
        await until(stack, lambda status: status["known"]["models"] and status["known"]["taken"], "taken")
        for _ in range(40):
            await predict(call.message, metadata=named)
        await until(stack, lambda status: total(status) >= 41, "all told")
        await asyncio.sleep(0.5)
        assert (await stack.edge.status())["calls"] == {"routed": 1, "known": 40}
        async with aiohttp.ClientSession(stack.edge.admin) as admin, admin.get("/metrics") as reply:
            told = 'tbms_calls_total{outcome="known",protocol="tfs-grpc",verb="predict"} 40.0'
            assert told in await reply.text()


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_calls_whose_callers_leave_are_counted_once(version: str, repository: Path, names: list[str]) -> None:
    async with (
        edge_of(version, repository, names, delay_ms=600.0) as stack,
        aiohttp.ClientSession(stack.edge.http) as client,
    ):
        call = calls.tfs_rest(names[0], IMAGE)
        made = await make_known(stack, client, call)

        async def leave() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await ask(client, call)

        await asyncio.gather(*[leave() for _ in range(20)])
        await until(stack, lambda status: total(status) >= made + 20, "all told")
        await asyncio.sleep(0.5)
        assert (await stack.edge.status())["calls"] == {"routed": made, "known": 20}
        await until(stack, is_idle, "idle")


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_calls_that_no_node_takes_are_counted_once(version: str, repository: Path, names: list[str]) -> None:
    async with edge_of(version, repository, names) as stack, aiohttp.ClientSession(stack.edge.http) as client:
        call = calls.tfs_rest(names[0], IMAGE)
        made = await make_known(stack, client, call)
        for node in stack.nodes.values():
            node.kill()
        statuses = [await ask(client, call) for _ in range(20)]
        assert set(statuses) == {503}
        await until(stack, lambda status: total(status) >= made + 20, "all told")
        await asyncio.sleep(0.5)
        counts = (await stack.edge.status())["calls"]
        assert sum(counts.values()) == made + 20, counts
        await until(stack, is_idle, "idle")


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
async def test_a_log_that_breaks_counts_nothing_twice_and_leaves_nothing(
    version: str, repository: Path, names: list[str]
) -> None:
    """The server is killed under load and comes back; calls that it decides and known ones, all the time."""
    async with (
        edge_of(version, repository, names, delay_ms=20.0) as stack,
        aiohttp.ClientSession(stack.edge.http) as client,
    ):
        call = calls.tfs_rest(names[0], IMAGE)
        await make_known(stack, client, call)
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
            stack.edge.server.kill()
            await asyncio.sleep(1.0)
            await stack.edge.start_server()
            before = made
            await until(stack, lambda status: status["logs"] == 1 and status["calls"].get("known", 0) > 50, "is back")
            on = False
        status = await stack.edge.status()
        await asyncio.sleep(0.5)
        later = await stack.edge.status()
        # What waited in Envoy's buffer while the server was away may come, or be lost; none comes twice.
        assert 50 < later["calls"]["known"] <= made, (before, made, later["calls"])
        assert later["calls"]["known"] - status["calls"]["known"] <= made
        await until(stack, is_idle, "idle")


async def test_a_known_call_is_as_long_a_load_as_it_lasts(repository: Path, names: list[str]) -> None:
    """16 callers of a model that takes 100 ms: as many as that are seen at the nodes, though nobody was asked.

    On a busy machine the callers are slower: rate x 100 ms is what there is at least.
    """
    async with (
        edge_of("1.40", repository, names, delay_ms=100.0) as stack,
        aiohttp.ClientSession(stack.edge.http) as client,
    ):
        call = calls.tfs_rest(names[0], IMAGE)
        await make_known(stack, client, call)
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
                status = await stack.edge.status()
                seen.append(sum(node["load"] for node in status["nodes"]))
                await asyncio.sleep(0.05)
            least = (made - before) / (clock() - began) * 0.1
            on = False
        assert 0.6 * least <= sum(seen) / len(seen) <= 1.4 * 16, (least, seen)
        await until(stack, is_idle, "idle")


async def test_a_stream_of_garbage_ends_alone(repository: Path, names: list[str]) -> None:
    async with edge_of("1.40", repository, names) as stack, aiohttp.ClientSession(stack.edge.http) as client:
        call = calls.tfs_rest(names[0], IMAGE)
        made = await make_known(stack, client, call)
        listen = f"unix:{stack.edge.config.parent}/ext_proc.sock"
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
        await until(stack, lambda status: total(status) >= made + 20, "all told")
        await asyncio.sleep(0.5)
        status = await stack.edge.status()
        assert (status["calls"], status["logs"]) == ({"routed": made, "known": 20}, 1)


async def test_a_drain_does_not_wait_for_the_log(repository: Path, names: list[str]) -> None:
    async with edge_of("1.40", repository, names) as stack, aiohttp.ClientSession(stack.edge.http) as client:
        call = calls.tfs_rest(names[0], IMAGE)
        await make_known(stack, client, call)
        assert await ask(client, call) == 200
        await until(stack, lambda status: status["logs"] == 1, "a log is open")
        stack.edge.server.signal(signal.SIGTERM)
        async with asyncio.timeout(8.0):  # the drain is allowed 10 s
            while stack.edge.server.running:
                await asyncio.sleep(0.05)
