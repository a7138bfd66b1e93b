"""A cold primary with a backup, on a real node: the backup answers in time, and the load goes on."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio

from ext_proc.broker.record import RaceRecord
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.race_log import records
from integration.stack.stack import Stack
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import rest_client

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}).encode()
LOAD_MS, LIMIT_MS, DEFAULT_LOAD_MS = 3000, 500, 60_000
SECTIONS: dict[str, dict[str, Any]] = {
    "broker": {"default_load_ms": DEFAULT_LOAD_MS},
    "models": {"slow": {"limit_ms": LIMIT_MS, "estimate_ms": 20, "backups": ["quick;est=20"]}},
    "warm": {"enabled": False},
}


@pytest_asyncio.fixture(loop_scope="session")
async def stack(tmp_path: Path) -> AsyncIterator[Stack[CachedNode]]:
    need_envoy("1.40")
    for name, factor in (("slow", 2.0), ("quick", 3.0)):
        write_onnx(tmp_path, name, factor=factor)
    (tmp_path / "slow" / "tbms.json").write_text(json.dumps({"load_delay_ms": LOAD_MS}))
    async with Stack(tmp_path, [CachedSpec("a")], sections=SECTIONS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: Stack[CachedNode]) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(stack.edge.http) as client:
        yield client


async def tell(stack: Stack[CachedNode], model: str, command: str) -> None:
    url = f"{stack.nodes['a'].agent.admin}/models/{model}/{command}"
    async with aiohttp.ClientSession() as http, http.post(url) as reply:
        assert reply.status == 200, await reply.text()


async def known(stack: Stack[CachedNode]) -> dict[str, Any] | None:
    """What the edge has heard of each model; None while it does not hear the node."""
    status = await stack.edge.status()
    if not status["nodes"][0]["residency"]["heard"]:
        return None
    models: dict[str, Any] = status["models"]
    return {model: nodes["a"] for model, nodes in models.items()}


async def is_known(stack: Stack[CachedNode], **states: str) -> bool:
    return await known(stack) == states


async def call(http: httpx.AsyncClient, **headers: str) -> tuple[list[float], str]:
    """The outputs, and who answered."""
    reply = await http.post("/v2/models/slow/infer", content=BODY, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["outputs"][0]["data"], reply.headers["tbms-answer"]


async def raced(stack: Stack[CachedNode], count: int) -> RaceRecord:
    """The last of so many races."""

    def races() -> list[RaceRecord]:
        return records(stack.edge.server.log)

    await until(lambda: len(races()) == count)
    return races()[-1]


async def test_the_backup_answers_in_time_and_the_load_goes_on(
    stack: Stack[CachedNode], http: httpx.AsyncClient
) -> None:
    await tell(stack, "quick", "load")
    await tell(stack, "slow", "load")
    await tell(stack, "slow", "unload")
    await until(lambda: is_known(stack, quick="available"))

    # The node has measured the load: longer than the limit, so that the backup starts with the primary.
    outputs, answer = await call(http, tloc=f"{LIMIT_MS};answer=first")
    assert (outputs, answer.split(";")[:2]) == ([3.0, 6.0], ["quick", "rank=1"])
    first = await raced(stack, 1)
    cold, backup = (rank.models[0] for rank in first.candidates)
    assert (cold.cold, backup.cold) == (True, False)
    assert LOAD_MS <= cold.estimate_ms < DEFAULT_LOAD_MS
    starts = {rank: at for at, what, rank, _ in first.log if what == "start"}
    assert starts[1] == starts[0]
    assert first.outcome["elapsed_ms"] < LIMIT_MS

    # The call's end is not that of the load, and the next ones know how much of it is left.
    await until(lambda: is_known(stack, quick="available", slow="loading"))
    later = []
    for number in (2, 3):
        assert (await call(http))[1].startswith("quick;rank=1")
        later.append(await raced(stack, number))
    before, after = (race.candidates[0].models[0] for race in later)
    assert (before.cold, after.cold) == (True, True)
    passed_ms = 1000 * (later[1].arrival - later[0].arrival)
    assert passed_ms >= LIMIT_MS / 2
    assert before.estimate_ms - after.estimate_ms == pytest.approx(passed_ms, abs=200)

    await until(lambda: is_known(stack, quick="available", slow="available"))
    outputs, answer = await call(http)
    assert (outputs, answer.split(";")[:2]) == ([2.0, 4.0], ["slow", "rank=0"])
    last = (await raced(stack, 4)).candidates[0].models[0]
    assert (last.cold, last.estimate_ms) == (False, 20)


async def test_a_node_that_has_loaded_nothing_yet_says_nothing(
    stack: Stack[CachedNode], http: httpx.AsyncClient
) -> None:
    await until(lambda: is_known(stack))
    await http.post("/v2/models/slow/infer", content=BODY)
    record = await raced(stack, 1)
    slow, quick = (rank.models[0] for rank in record.candidates)
    assert (slow.cold, slow.estimate_ms) == (True, DEFAULT_LOAD_MS + 20)
    assert (quick.cold, quick.estimate_ms) == (True, DEFAULT_LOAD_MS + 20)
