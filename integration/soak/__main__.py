"""`make soak MINUTES=10`: a fleet under calls and mishaps; ends with 0 if nothing was wrong, hung, broken or leaking.

Three nodes with room for a third of the demo's models each, two of which gather calls into batches, and an edge. Half
of the calls are races. Refusals that say
so (busy, not there, too late) are counted; an answer that is not the model's own, a call that hangs, a traceback in a
log, or a server that grows without end, is a failure.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from rich.console import Console

from integration.soak.calls import Answers, Caller, Tally, answers, call_on
from integration.soak.growth import Growth
from integration.soak.mishaps import MISHAPS
from integration.stack import models
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.embedded import reference
from integration.stack.interrupt import run
from integration.stack.process import Process
from integration.stack.sidecar import Section
from integration.stack.stack import Stack

_NODES = ("node-a", "node-b", "node-c")
_WORKERS = 8
# Between two mishaps, so that their effects can be told apart; and after the last, so that all is at rest.
_CALM = 4.0
_SAMPLE = 0.5
# What a server may grow by from when it has settled to its end: MiB, and open files.
_MOST_MIB, _MOST_FILES = 40.0, 64.0
# Calls share batches at two of the nodes, whether they are raced or not; at the third they pass one by one.
_BATCHING: dict[str, Section] = {name: {"default": {"cross_request": True, "max_rows": 8}} for name in _NODES[:2]}
_SECTIONS: dict[str, Section] = {
    "routing": {"replicas": 2},
    "residency": {"silence": 1.5, "retry": 0.1, "retry_most": 0.5},
}


async def soak(minutes: float, seed: int, console: Console) -> int:
    """Plays it; the exit status."""
    repository = models.repository()
    names = sorted(path.name for path in repository.iterdir())
    room = {"capacity": {"models": len(names) // len(_NODES)}}
    tally, growth, dice = Tally(), {name: Growth() for name in ("edge", *_NODES)}, Random(seed)
    right = await _right(repository, names)
    async with AsyncExitStack() as stack:
        specs = [CachedSpec(name, cache=room, batching=_BATCHING.get(name), known=True) for name in _NODES]
        fleet = await stack.enter_async_context(Stack(repository, specs, sections=_SECTIONS))
        caller = await stack.enter_async_context(Caller(fleet.edge.target))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [
            tasks.create_task(call_on(caller, names, right, tally, Random(seed + number))) for number in range(_WORKERS)
        ]
        running.append(tasks.create_task(_watch(fleet, growth)))
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            mishap, node = dice.choice(MISHAPS), fleet.nodes[dice.choice(_NODES)]
            before = tally.outcomes.copy()
            await mishap(fleet, node)
            await asyncio.sleep(_CALM)
            since = dict(sorted((tally.outcomes - before).items()))
            console.print(f"{mishap.__name__} ({node.spec.id}): {since}", highlight=False)
        for task in running:
            task.cancel()
        broken = list(_tracebacks(fleet))
    return _judge(tally, growth, broken, console)


async def _right(repository: Path, names: list[str]) -> Answers:
    """What every model answers where nothing ever goes wrong."""
    async with (
        reference(repository) as server,
        Caller(server.rest.removeprefix("http://")) as rest,
        Caller(server.grpc) as grpc,
    ):
        return {**await answers(rest, names, "rest"), **await answers(grpc, names, "grpc")}


async def _watch(fleet: Stack[CachedNode], growth: dict[str, Growth]) -> None:
    while True:
        for name, process in {"edge": fleet.edge.server, **_agents(fleet)}.items():
            if process.running:
                growth[name].sample(process.pid)
        await asyncio.sleep(_SAMPLE)


def _agents(fleet: Stack[CachedNode]) -> dict[str, Process]:
    return {name: node.agent.server for name, node in fleet.nodes.items()}


def _tracebacks(fleet: Stack[CachedNode]) -> Iterator[str]:
    """Lines of the servers' logs that tell of a mistake of ours."""
    for edge in (fleet.edge, *(node.agent for node in fleet.nodes.values())):
        for line in edge.server.log.read_text(errors="replace").splitlines():
            if '"level": "error"' in line or "Traceback" in line:
                yield line


def _judge(tally: Tally, growth: dict[str, Growth], broken: list[str], console: Console) -> int:
    for line in (*tally.wrong, *broken[:10]):
        console.print(line, highlight=False, markup=False)
    leaking = False
    for name, each in growth.items():
        (early, late), (few, many) = each.mib, each.open_files
        leaking |= late - early > _MOST_MIB or many - few > _MOST_FILES
        console.print(f"{name}: {early:.0f} -> {late:.0f} MiB, {few:.0f} -> {many:.0f} open files", highlight=False)
    outcomes = tally.outcomes
    good = outcomes["plain"] + outcomes["raced"]
    refused = outcomes.total() - good - outcomes["wrong"] - outcomes["hung"]
    summary = {
        "calls": outcomes.total(),
        "answered": good,
        "refused": refused,
        "wrong": outcomes["wrong"],
        "hung": outcomes["hung"],
        "errors_logged": len(broken),
        "slowest_ms": round(tally.slowest_ms),
        "leaking": leaking,
    }
    console.print(json.dumps(summary), highlight=False, soft_wrap=True)
    return 0 if good and not (outcomes["wrong"] or outcomes["hung"] or broken or leaking) else 1


def main() -> int:
    """The command line."""
    options = argparse.ArgumentParser(description="A fleet under calls and mishaps.")
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    return run(soak(chosen.minutes, chosen.seed, Console(width=160)))


if __name__ == "__main__":
    sys.exit(main())
