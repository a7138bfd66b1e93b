"""Models that use other models, on a node before a real Triton: ensembles, and business logic scripting."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from integration.peers.triton import CALLING, DOUBLING, DOUBLING_CONFIG, missing, triton, write_ensemble, write_model
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from tests.integration.node.cache_node import until

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]  # each starts a Triton, and in it up to eight models

TENFOLD = DOUBLING.replace("* 2", "* 10")
BROKEN = DOUBLING.replace(
    "class TritonPythonModel:",
    "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('weights of another model')\n",
)
NEEDS = {"caller": ["first"]}


@asynccontextmanager
async def node_of(shelf: Path, folder: Path, **cache: Any) -> AsyncIterator[CachedNode]:
    if reason := missing():
        pytest.skip(reason)
    models = folder / "cache" / "models"
    models.mkdir(parents=True)
    async with triton(models) as server:
        spec = CachedSpec("node", cache={"needs": NEEDS, "missing_seconds": 0.2, **cache})
        async with CachedNode(spec, shelf, folder, Served(server.grpc, server.rest)) as node:
            yield node


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    shelf = tmp_path / "shelf"
    for name in ("first", "second", "third", "fourth"):
        write_model(shelf, name)
    write_ensemble(shelf, "pair", "first", "second")
    write_model(shelf, "caller", DOUBLING_CONFIG, CALLING.format(model="first"))
    return shelf


async def call(node: CachedNode, model: str) -> tuple[int, Any]:
    """Status, and `y` or the error's words."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
    url = f"http://{node.agent.target}/v2/models/{model}/infer"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as reply:
        answer = await reply.json()
        return reply.status, answer["outputs"][0]["data"] if reply.status == 200 else answer["error"]


async def answers(node: CachedNode, model: str) -> bool:
    return await call(node, model) == (200, [4.0, 8.0])


async def command(node: CachedNode, model: str, name: str) -> tuple[int, Mapping[str, Any]]:
    url = f"{node.agent.admin}/models/{model}/{name}"
    async with aiohttp.ClientSession() as http, http.post(url) as reply:
        return reply.status, await reply.json()


async def available(node: CachedNode) -> set[str]:
    return {key for key, state in (await node.states()).items() if state == "available"}


async def test_an_ensemble_comes_with_its_parts_and_goes_before_them(shelf: Path, tmp_path: Path) -> None:
    async with node_of(shelf, tmp_path / "node", capacity={"models": 3}, room_seconds=20) as node:
        assert await call(node, "pair") == (200, [4.0, 8.0])
        assert await available(node) == {"pair:1", "first:1", "second:1"}
        status, answer = await command(node, "first", "unload")
        assert (status, answer["error"]) == (409, "Model 'first' is needed by 'pair': unload that first.")
        assert await call(node, "second") == (200, [2.0, 4.0]), "its parts are models as any other"

        assert await call(node, "third") == (200, [2.0, 4.0])
        assert await available(node) == {"third:1", "first:1", "second:1"}, "the ensemble makes room, and no part of it"
        assert await call(node, "fourth") == (200, [2.0, 4.0])
        assert await available(node) == {"third:1", "fourth:1", "second:1"}, "and then its parts are as free to go"
        assert await call(node, "pair") == (200, [4.0, 8.0]), "once more, and in one go"
        assert await available(node) == {"pair:1", "first:1", "second:1"}


async def test_a_model_that_calls_another_one_by_itself(shelf: Path, tmp_path: Path) -> None:
    async with node_of(shelf, tmp_path / "node", capacity={"models": 2}) as node:
        assert await call(node, "caller") == (200, [2.0, 4.0])
        assert await available(node) == {"caller:1", "first:1"}
        (books,) = [each for each in await node.books() if each["model"] == "caller"]
        assert books["needs"] == ["first"]
        status, words = await call(node, "pair")
        assert (status, words) == (
            507,
            "Model 'pair' is too large for this node with the models that it needs: it takes 3 places, and the node "
            "has 2.",
        )
        assert await available(node) == {"caller:1", "first:1"}, "and nobody was evicted for it"


async def test_an_agent_that_restarts_knows_who_needs_whom(shelf: Path, tmp_path: Path) -> None:
    async with node_of(shelf, tmp_path / "node", capacity={"models": 3}, room_seconds=20) as node:
        assert await call(node, "pair") == (200, [4.0, 8.0])
        await node.agent.stop()
        await node.agent.__aenter__()
        assert await call(node, "first") == await call(node, "second") == (200, [2.0, 4.0])
        assert (await command(node, "first", "unload"))[0] == 409
        assert await call(node, "third") == (200, [2.0, 4.0])
        assert await available(node) == {"third:1", "first:1", "second:1"}


async def test_an_ensemble_of_an_ensemble_without_any_version_folder(shelf: Path, tmp_path: Path) -> None:
    write_ensemble(shelf, "outer", "pair", "third", folder=None)
    async with node_of(shelf, tmp_path / "node") as node:
        assert await call(node, "outer") == (200, [8.0, 16.0])
        assert await available(node) == {"outer:1", "pair:1", "first:1", "second:1", "third:1"}


async def test_a_newer_version_of_a_part_takes_over_under_the_ensemble(shelf: Path, tmp_path: Path) -> None:
    write_ensemble(shelf, "exact", "first:1", "second")
    async with node_of(shelf, tmp_path / "node", refresh_seconds=0.3, room_seconds=20) as node:
        assert await call(node, "exact") == await call(node, "pair") == (200, [4.0, 8.0])
        newer = shelf / "first" / ".2.upload"
        newer.mkdir()
        (newer / "model.py").write_text(TENFOLD)
        newer.rename(shelf / "first" / "2")
        answers = []
        while (answer := await call(node, "pair")) != (200, [20.0, 40.0]):
            answers.append(answer)
        assert all(answer == (200, [4.0, 8.0]) for answer in answers)
        assert await call(node, "exact") == (200, [4.0, 8.0]), "it names its version, and keeps it"
        assert {"first:1", "first:2"} <= await available(node)
        # A load of an ensemble leaves the versions of its parts as they are.
        write_ensemble(shelf, "late", "first:1", "second")
        assert await call(node, "late") == (200, [4.0, 8.0])
        assert await call(node, "pair") == (200, [20.0, 40.0])
        assert {"first:1", "first:2", "exact:1", "late:1"} <= await available(node)


async def test_what_cannot_be_had_is_named(shelf: Path, tmp_path: Path) -> None:
    write_model(shelf, "broken", DOUBLING_CONFIG, BROKEN)
    write_ensemble(shelf, "lame", "first", "broken")
    write_ensemble(shelf, "widow", "first", "nobody")
    write_ensemble(shelf, "round", "about")
    write_ensemble(shelf, "about", "round")
    (write_ensemble(shelf, "odd", "first") / "config.pbtxt").write_text("ensemble_scheduling { step [ {")
    async with node_of(shelf, tmp_path / "node", back_off={"first_seconds": 0.5}) as node:
        status, words = await call(node, "lame")
        assert status == 424
        assert words.startswith("Model 'lame' needs model 'broken': Model 'broken' does not load: ")
        assert "weights of another model" in words
        assert await call(node, "widow") == (424, "Model 'widow' needs model 'nobody': No store has a model 'nobody'.")
        circle = "models need each other in a circle, 'round' -> 'about' -> 'round'"
        assert await call(node, "round") == (424, f"Model 'round' does not load: {circle}.")
        assert (await call(node, "odd"))[0] == 424
        causes = (await node.agent.status())["store_failures"]
        assert causes["odd"].startswith("config.pbtxt cannot be read: 1:")

        write_model(shelf, "nobody")
        await until(lambda: answers(node, "widow"), seconds=60)
        (shelf / "broken" / "1" / "model.py").write_text(DOUBLING)
        await until(lambda: answers(node, "lame"), seconds=60)
