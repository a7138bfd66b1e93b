"""A model cache over a real model server, a real disk store and real models: what the cache's tests here share."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from onnx import TensorProto, helper

from mesh.model_cache.books.names import Key
from mesh.model_cache.loaders import open_loader
from mesh.model_cache.loaders.loader import Loaded, Loader
from mesh.model_cache.manager import Manager
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores import StoreSettings, open_store
from mesh.model_cache.stores.store import Remote

FACTOR = 2.0


class CountedStore:
    """A disk store, and how often each model was listed and each version fetched."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._store = open_store(StoreSettings(url=folder.as_uri()))
        self.listed: Counter[str] = Counter()
        self.fetched: Counter[Key] = Counter()

    async def versions(self, model: str) -> tuple[Remote, ...]:
        self.listed[model] += 1
        return await self._store.versions(model)

    async def fetch(self, remote: Remote, target: Path, progress: Callable[[int], None]) -> None:
        self.fetched[Key(remote.model, remote.version)] += 1
        await self._store.fetch(remote, target, progress)


class CountedLoader:
    """A real loader, and how often each version was loaded."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.loads: Counter[Key] = Counter()

    async def reads(self, folder: str) -> bool:
        return await self._loader.reads(folder)

    async def load(self, key: Key, folder: Path) -> Loaded:
        self.loads[key] += 1
        return await self._loader.load(key, folder)

    async def unload(self, key: Key, folder: Path) -> None:
        await self._loader.unload(key, folder)

    async def held(self, known: Iterable[Key]) -> frozenset[Key]:
        return await self._loader.held(known)

    async def batcher(self, key: Key) -> str:
        return await self._loader.batcher(key)

    async def lost(self) -> None:
        await self._loader.lost()


class CacheNode:
    """One node: its manager, and what it has been asking of store and server."""

    def __init__(self, manager: Manager, store: CountedStore, loader: CountedLoader, rest: str) -> None:
        self.manager = manager
        self.store = store
        self.loader = loader
        self._rest = rest

    def states(self) -> dict[str, str]:
        return {f"{each.model}:{each.version}": each.state for each in self.manager.status().models}

    async def call(self, model: str, version: int | None = None) -> tuple[int, Any]:
        """An inference straight to the model server: status and `y`, or status and the server's words."""
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version is not None else "") + "/infer"
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
        async with aiohttp.ClientSession() as http, http.post(f"{self._rest}{path}", json=body) as reply:
            text = await reply.text()
            return reply.status, json.loads(text)["outputs"][0]["data"] if reply.status == 200 else text


@asynccontextmanager
async def cache_node(folder: Path, shelf: Path, grpc: str, rest: str, **settings: Any) -> AsyncIterator[CacheNode]:
    """A running cache in `folder` over the store at `shelf`, for the model server at `grpc` and `rest`."""
    loader = {"address": grpc, **settings.pop("loader", {})}
    given = {"folder": folder, "loader": loader, "poll_seconds": 0.1, "min_age_seconds": 0, **settings}
    chosen = CacheSettings.model_validate(given)
    store = CountedStore(shelf)
    async with open_loader(chosen) as real:
        counted = CountedLoader(real)
        manager = Manager(chosen, store, counted)
        async with manager.running():
            yield CacheNode(manager, store, counted, rest)


def write_onnx(shelf: Path, name: str, version: int = 1, factor: float = FACTOR) -> None:
    """A model that multiplies its input `x` (FP32, [-1, 2]) by `factor` into `y`."""
    floats = TensorProto.FLOAT
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph(
        [node],
        "scaling",
        [helper.make_tensor_value_info("x", floats, ["n", 2])],
        [helper.make_tensor_value_info("y", floats, ["n", 2])],
        [helper.make_tensor("factor", floats, [1], [factor])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = shelf / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait for something that a real server brings about."""
    async with asyncio.timeout(seconds):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)
