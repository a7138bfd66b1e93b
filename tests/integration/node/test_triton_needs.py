"""Models that use other models, on a node before a real Triton: ensembles, and business logic scripting."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from integration.peers.triton import CALLING, DOUBLING, DOUBLING_CONFIG, missing, triton, write_ensemble, write_model
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from tests.integration.node.cache_node import until

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

TENFOLD = DOUBLING.replace("* 2", "* 10")
BROKEN = DOUBLING.replace(
    "class TritonPythonModel:",
    "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('weights of another model')\n",
)
NEEDS = {"caller": ["first"]}


@dataclass(frozen=True)
class Shelved:
    """A node before a Triton of its own, and the folder that is its store."""

    node: CachedNode
    shelf: Path


@asynccontextmanager
async def node_of(folder: Path, **cache: Any) -> AsyncIterator[Shelved]:
    if reason := missing():
        pytest.skip(reason)
    shelf = folder / "shelf"
    for name in ("first", "second", "third", "fourth"):
        write_model(shelf, name)
    write_ensemble(shelf, "pair", "first", "second")
    write_ensemble(shelf, "outer", "pair", "third", folder=None)
    write_model(shelf, "caller", DOUBLING_CONFIG, CALLING.format(model="first"))
    models = folder / "node" / "cache" / "models"
    models.mkdir(parents=True)
    async with triton(models) as server:
        spec = CachedSpec("node", cache={"needs": NEEDS, "missing_seconds": 0.2, **cache})
        async with CachedNode(spec, shelf, folder / "node", Served(server.grpc, server.rest)) as node:
            yield Shelved(node, shelf)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def with_three_places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CachedNode]:
    async with node_of(tmp_path_factory.mktemp("narrow"), capacity={"models": 3}, room_seconds=20) as made:
        yield made.node


@pytest_asyncio.fixture(loop_scope="session")
async def narrow(with_three_places: CachedNode) -> CachedNode:
    """With three places for models, and empty."""

    async def is_empty() -> bool:
        for key in await available(with_three_places):
            # Refused where another one needs it.
            await command(with_three_places, key.rpartition(":")[0], "unload")
        return not await available(with_three_places)

    await until(is_empty, seconds=60)
    return with_three_places


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def with_room(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shelved]:
    """With room for whatever the tests bring."""
    folder = tmp_path_factory.mktemp("wide")
    async with node_of(folder, refresh_seconds=0.3, back_off={"first_seconds": 0.5}, room_seconds=20) as made:
        yield made


@pytest.fixture
def wide(with_room: Shelved) -> CachedNode:
    return with_room.node


@pytest.fixture
def shelf(with_room: Shelved) -> Path:
    """The store of `wide`."""
    return with_room.shelf


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


async def test_an_ensemble_comes_with_its_parts_and_goes_before_them(narrow: CachedNode) -> None:
    assert await call(narrow, "pair") == (200, [4.0, 8.0])
    assert await available(narrow) == {"pair:1", "first:1", "second:1"}
    status, answer = await command(narrow, "first", "unload")
    assert (status, answer["error"]) == (409, "Model 'first' is needed by 'pair': unload that first.")
    assert await call(narrow, "second") == (200, [2.0, 4.0]), "its parts are models as any other"

    assert await call(narrow, "third") == (200, [2.0, 4.0])
    assert await available(narrow) == {"third:1", "first:1", "second:1"}, "the ensemble makes room, and no part of it"
    assert await call(narrow, "fourth") == (200, [2.0, 4.0])
    assert await available(narrow) == {"third:1", "fourth:1", "second:1"}, "and then its parts are as free to go"
    assert await call(narrow, "pair") == (200, [4.0, 8.0]), "once more, and in one go"
    assert await available(narrow) == {"pair:1", "first:1", "second:1"}


async def test_a_model_that_calls_another_one_by_itself(narrow: CachedNode) -> None:
    assert await call(narrow, "caller") == (200, [2.0, 4.0])
    assert await available(narrow) == {"caller:1", "first:1"}
    (books,) = [each for each in await narrow.books() if each["model"] == "caller"]
    assert books["needs"] == ["first"]
    status, words = await call(narrow, "outer")
    assert (status, words) == (
        507,
        "Model 'outer' is too large for this node with the models that it needs: it takes 5 places, and the node "
        "has 3.",
    )
    assert await available(narrow) == {"caller:1", "first:1"}, "and nobody was evicted for it"


async def test_an_agent_that_restarts_knows_who_needs_whom(narrow: CachedNode) -> None:
    assert await call(narrow, "pair") == (200, [4.0, 8.0])
    await narrow.agent.stop()
    await narrow.agent.__aenter__()
    assert await call(narrow, "first") == await call(narrow, "second") == (200, [2.0, 4.0])
    assert (await command(narrow, "first", "unload"))[0] == 409
    assert await call(narrow, "third") == (200, [2.0, 4.0])
    assert await available(narrow) == {"third:1", "first:1", "second:1"}


async def test_an_ensemble_of_an_ensemble_without_any_version_folder(wide: CachedNode) -> None:
    assert await call(wide, "outer") == (200, [8.0, 16.0])
    assert {"outer:1", "pair:1", "first:1", "second:1", "third:1"} <= await available(wide)


async def test_a_newer_version_of_a_part_takes_over_under_the_ensemble(wide: CachedNode, shelf: Path) -> None:
    write_model(shelf, "part")
    write_ensemble(shelf, "exact", "part:1", "second")
    write_ensemble(shelf, "newest", "part", "second")
    assert await call(wide, "exact") == await call(wide, "newest") == (200, [4.0, 8.0])
    newer = shelf / "part" / ".2.upload"
    newer.mkdir()
    (newer / "model.py").write_text(TENFOLD)
    newer.rename(shelf / "part" / "2")
    answers = []
    while (answer := await call(wide, "newest")) != (200, [20.0, 40.0]):
        answers.append(answer)
    assert all(answer == (200, [4.0, 8.0]) for answer in answers)
    assert await call(wide, "exact") == (200, [4.0, 8.0]), "it names its version, and keeps it"
    assert {"part:1", "part:2"} <= await available(wide)
    # A load of an ensemble leaves the versions of its parts as they are.
    write_ensemble(shelf, "late", "part:1", "second")
    assert await call(wide, "late") == (200, [4.0, 8.0])
    assert await call(wide, "newest") == (200, [20.0, 40.0])
    assert {"part:1", "part:2", "exact:1", "late:1"} <= await available(wide)


async def test_what_cannot_be_had_is_named(wide: CachedNode, shelf: Path) -> None:
    write_model(shelf, "broken", DOUBLING_CONFIG, BROKEN)
    write_ensemble(shelf, "lame", "first", "broken")
    write_ensemble(shelf, "widow", "first", "nobody")
    write_ensemble(shelf, "round", "about")
    write_ensemble(shelf, "about", "round")
    (write_ensemble(shelf, "odd", "first") / "config.pbtxt").write_text("ensemble_scheduling { step [ {")
    status, words = await call(wide, "lame")
    assert status == 424
    assert words.startswith("Model 'lame' needs model 'broken': Model 'broken' does not load: ")
    assert "weights of another model" in words
    assert await call(wide, "widow") == (424, "Model 'widow' needs model 'nobody': No store has a model 'nobody'.")
    circle = "models need each other in a circle, 'round' -> 'about' -> 'round'"
    assert await call(wide, "round") == (424, f"Model 'round' does not load: {circle}.")
    assert (await call(wide, "odd"))[0] == 424
    causes = (await wide.agent.status())["store_failures"]
    assert causes["odd"].startswith("config.pbtxt cannot be read: 1:")

    write_model(shelf, "nobody")
    await until(lambda: answers(wide, "widow"), seconds=60)
    (shelf / "broken" / "1" / "model.py").write_text(DOUBLING)
    await until(lambda: answers(wide, "lame"), seconds=60)
