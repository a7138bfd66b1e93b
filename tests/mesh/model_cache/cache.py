"""A manager on a store and a server in memory, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from integration.virtual_time import VirtualLoop
from mesh.model_cache.manager import Manager
from mesh.model_cache.settings import CacheSettings
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore

START = 1000.0
"""Where virtual time begins: nobody may take a start at 0 for granted."""

Scenario = Callable[["Cache"], Coroutine[Any, Any, None]]


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Instead of a thread."""
    return function(*arguments)


@dataclass
class Cache:
    store: MemoryStore
    server: MemoryServer
    settings: CacheSettings
    manager: Manager

    def running(self) -> AbstractAsyncContextManager[Manager]:
        return self.manager.running()

    def again(self) -> "Cache":
        """Another process over the same folder, store and server, as after a kill."""
        return make(self.settings, self.store, self.server)

    def state(self, model: str, version: int = 1) -> str:
        for each in self.manager.status().models:
            if (each.model, each.version) == (model, version):
                return each.state
        return "absent"

    @property
    def mistakes(self) -> list[str]:
        """What must never have happened."""
        return self.store.mistakes + self.server.mistakes

    @property
    def versions_on_disk(self) -> set[str]:
        return {f"{path.parent.name}:{path.name}" for path in (self.settings.folder / "models").glob("*/[0-9]*")}


def make(settings: CacheSettings, store: MemoryStore, server: MemoryServer) -> Cache:
    manager = Manager(settings, store, server, clock=asyncio.get_running_loop().time, offload=at_once)
    return Cache(store, server, settings, manager)


def play(folder: Path, scenario: Scenario, **settings: Any) -> None:
    """Play a scenario to its end in virtual time."""

    async def main() -> None:
        given = {"min_age_seconds": 0, "memory_factor": 1.0, **settings}
        chosen = CacheSettings.model_validate({"folder": folder, **given})
        limit = float("inf") if chosen.capacity.models is None else chosen.capacity.models
        cache = make(chosen, MemoryStore(), MemoryServer(limit=limit))
        await scenario(cache)
        assert cache.mistakes == []

    with asyncio.Runner(loop_factory=partial(VirtualLoop, START)) as runner:
        runner.run(main())
