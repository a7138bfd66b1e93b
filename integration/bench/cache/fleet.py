"""A fleet in virtual time: the real router, cache map and warm-up plan before real model caches.

Only stores, model servers and calls are made up. Calls are plain ones: `Router.pick` chooses their nodes and counts
each as a load that fades, and no lease is taken, as the edge does for calls whose end it does not see.
`python -m integration.bench.cache.fleet CASE` plays one case (JSON) and prints what came of it as JSON.
"""

import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from integration import virtual_time
from integration.bench.cache.timed_peers import TimedServer, TimedStore
from integration.bench.cache.trace import Case, Trace
from integration.stack.process import output_of
from mesh.model_cache.errors import Busy, CacheError
from mesh.model_cache.lease import Lease
from mesh.model_cache.manager import Manager
from mesh.model_cache.settings import CacheSettings
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from mesh.warming.load_requests import WarmUp
from mesh.warming.plan import WarmPlan
from mesh.warming.settings import WarmSettings
from mesh.warming.warmer import STEP

# From a change on a node to its edges.
_NEWS_SECONDS = 0.01
# Before the first call and after the last one.
_QUIET_SECONDS = 1.0
# Thousands of empty folders come and go: in memory, where the system has a place for that.
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Moves:
    """Of each node in turn: how many models have another first node once it has left the fleet, and once it has come
    back empty. `needless`: how many of all those neither left that node nor came to it.
    """

    left: list[int]
    joined: list[int]
    needless: int


@dataclass(frozen=True)
class FleetRun:
    """What came of a trace: for each call whether its model was resident where it went first, and on which node.

    `unanswered` calls found no node with room. `copies` is resident models on all nodes / different ones, at the end,
    and `moves` is what each node's leaving would move then.
    """

    hits: list[bool]
    nodes: list[int]
    loads: int
    unanswered: int
    copies: float
    moves: Moves


class _Fleet:
    def __init__(self, case: Case, folder: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._call_seconds = case.call_seconds
        self._slots = case.slots
        self.names = [f"model-{number:04d}" for number in range(case.models)]
        shelf = dict(zip(self.names, case.weights(), strict=True))
        nodes = [Node(f"node-{n}", grpc=f"10.0.0.{n + 1}:8500", rest=f"10.0.0.{n + 1}:8501") for n in range(case.nodes)]
        # Defaults wherever there are any: what a user would run.
        self.router = Router(RoutingSettings(call_seconds=case.call_seconds), CacheMap(), LoadWaits())
        self.router.update(nodes)
        self._plan = WarmPlan(
            WarmSettings(),
            self.router,
            self.router.cache_map,
            lambda node_id: self.managers[node_id].node_report.free().models,
        )
        store = TimedStore(shelf)
        self.servers = {node.id: TimedServer(shelf, case.slots) for node in nodes}
        self.managers = {node.id: self._manager(folder / node.id, store, self.servers[node.id]) for node in nodes}
        self._numbers = {node.id: number for number, node in enumerate(nodes)}
        self.unanswered = 0

    def _manager(self, folder: Path, store: TimedStore, server: TimedServer) -> Manager:
        settings = CacheSettings.model_validate({"folder": folder, "capacity": {"models": self._slots}})
        return Manager(settings, store, server, clock=self._loop.time, offload=_here)

    async def play(self, trace: Trace) -> tuple[list[bool], list[int]]:
        """For each call whether its model was resident where it went first, and the node's number."""
        hits, nodes = [], []
        begin = self._loop.time()
        async with asyncio.TaskGroup() as cold:
            for number, at in zip(trace.models, trace.at, strict=True):
                await asyncio.sleep(begin + at - self._loop.time())
                model = self.names[number]
                chosen = self.router.pick(model, self._loop.time(), "grpc").nodes
                lease = self.managers[chosen[0].id].try_acquire(model)
                hits.append(lease is not None)
                nodes.append(self._numbers[chosen[0].id])
                if lease is not None:
                    self._answer(lease)
                else:
                    cold.create_task(self._hold(model, chosen))
        return hits, nodes

    async def _hold(self, model: str, chosen: Sequence[Node]) -> None:
        """A cold call; where a node has no room, Envoy asks the next one."""
        for node in chosen:
            try:
                self._answer(await self.managers[node.id].ensure(model))
            except Busy:
                continue
            return
        self.unanswered += 1

    def _answer(self, lease: Lease) -> None:
        self._loop.call_later(self._call_seconds, lease.release)

    async def follow(self, node_id: str) -> None:
        """Keeps the cache map as the node's reports say, a moment late."""
        cache_map = self.router.cache_map
        async for report in self.managers[node_id].node_report.subscribe():
            await asyncio.sleep(_NEWS_SECONDS)
            if report.full:
                cache_map.snapshot(node_id, report.models)
            else:
                for model, state in report.models.items():
                    cache_map.change(node_id, model, state)

    async def warm(self) -> None:
        """Has nodes load what the warm-up plan says, as an edge's warmer does."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                for warm_up in self._plan.next(self._loop.time()):
                    tasks.create_task(self._warm(warm_up))
                await asyncio.sleep(STEP)

    async def _warm(self, warm_up: WarmUp) -> None:
        manager = self.managers[warm_up.node_id]
        loaded = not warm_up.into_free_room or manager.node_report.free().models >= 1
        if loaded:
            try:
                await manager.commands.warm(warm_up.model)
            except CacheError:
                loaded = False
        self._plan.ended(warm_up, loaded, self._loop.time())


async def _here(function: Callable[..., Any], *arguments: Any) -> Any:
    """Instead of a thread: virtual time waits for none."""
    return function(*arguments)


async def _play(case: Case, folder: Path) -> FleetRun:
    fleet = _Fleet(case, folder)
    async with AsyncExitStack() as stack:
        for manager in fleet.managers.values():
            await stack.enter_async_context(manager.running())
        edge = [asyncio.create_task(fleet.follow(node_id)) for node_id in fleet.managers]
        await asyncio.sleep(_QUIET_SECONDS)
        edge.append(asyncio.create_task(fleet.warm()))
        hits, nodes = await fleet.play(case.trace())
        await asyncio.sleep(_QUIET_SECONDS)
        for task in edge:
            task.cancel()
    resident = [model for node_id in fleet.managers for model in fleet.router.cache_map.models(node_id)]
    loads = sum(server.loads for server in fleet.servers.values())
    copies = len(resident) / len(set(resident))
    return FleetRun(hits, nodes, loads, fleet.unanswered, copies, moves(fleet.router, fleet.names))


def moves(router: Router, models: Sequence[str]) -> Moves:
    """Every node leaves and comes back. What the map says of the others stays as it is, loads are looked away from."""
    nodes = router.nodes
    left, joined, needless = [], [], 0
    for gone in nodes:
        held = router.cache_map.models(gone.id)
        before = _homes(router, models)
        router.update(node for node in nodes if node is not gone)
        without = _homes(router, models)
        router.update(nodes)
        router.cache_map.snapshot(gone.id, {})
        after = _homes(router, models)
        left.append(sum(without[model] != before[model] for model in models))
        joined.append(sum(after[model] != without[model] for model in models))
        needless += sum(without[model] != before[model] != gone.id for model in models)
        needless += sum(without[model] != after[model] != gone.id for model in models)
        router.cache_map.snapshot(gone.id, held)
    return Moves(left, joined, needless)


def _homes(router: Router, models: Iterable[str]) -> dict[str, str]:
    """The node that a call for each model would go to."""
    return {model: router.placements(model)[0].node.id for model in models}


def moved(moves: Moves, fair_share: float) -> float:
    """Models that a leave or a join moves / (K / N): the mean over all nodes, of leaves or joins the worse."""
    return max(statistics.mean(moves.left), statistics.mean(moves.joined)) / fair_share


def most_moved(moves: Moves, fair_share: float) -> float:
    """The same for the one node whose leaving or joining moves most: by the dice of the hash it has more than K / N."""
    return max(*moves.left, *moves.joined) / fair_share


def play(case: Case) -> FleetRun:
    """Plays a case in virtual time."""
    with tempfile.TemporaryDirectory(prefix="tbms-fleet-", dir=_MEMORY) as folder:
        return virtual_time.run(_play(case, Path(folder)))


async def fleet_run(case: Case, folder: Path) -> FleetRun:
    """The same in a process of its own, with its log in `folder`. Raises ProcessError if that fails."""
    command = [sys.executable, "-m", "integration.bench.cache.fleet", json.dumps(case.as_json())]
    log = folder / f"fleet-{case.exponent:g}-{case.call_seconds:g}.log"
    run = json.loads(await output_of("fleet", command, log))
    return FleetRun(**{**run, "moves": Moves(**run["moves"])})


def main() -> None:
    """Plays one case; prints the run as JSON."""
    logging.disable(logging.CRITICAL)
    print(json.dumps(asdict(play(Case(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()
