"""What races cost while they wait: the server's CPU with a thousand of them pending, and with none."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from integration.bench.cpu import cpu_seconds
from integration.bench.open_loop import Play, open_loop
from integration.peers.scripted_node import ScriptedNode
from integration.stack.process import ProcessError
from integration.stack.sidecar import Sidecar

RACES = 1000
# They begin within two seconds, and wait for all of a window in which nothing else happens.
_BEGIN_SECONDS = 2.0
_LIMIT_SECONDS = 14.0
_WINDOW_SECONDS = 4.0
_LOOKS, _LOOK_SECONDS = 200, 0.1


@dataclass(frozen=True)
class Pending:
    """Shares of one core that the server uses while nobody calls, and while `RACES` wait."""

    quiet: float
    waiting: float


async def pending_races(
    edge: Sidecar, primary: ScriptedNode, model: str, headers: Mapping[str, str], folder: Path
) -> Pending:
    """`headers` make every candidate hang. Raises ProcessError if the races are not all pending at once."""
    quiet = await _share(edge.server.pid)
    sent = {"tloc": f"{1000 * _LIMIT_SECONDS:g}", **headers}
    calls = [(number * _BEGIN_SECONDS / RACES, sent) for number in range(RACES)]
    play = Play(edge.target, model, _LIMIT_SECONDS + 5, calls)
    async with asyncio.TaskGroup() as tasks:
        load = tasks.create_task(open_loop(play, folder))
        await _all_running(primary)
        await asyncio.sleep(_LOOK_SECONDS)
        waiting = await _share(edge.server.pid)
        if (await primary.work_so_far()).running < RACES:
            raise ProcessError("Some of the races ended while they were to wait.")
        if any(sample.answered for sample in await load):
            raise ProcessError("A race in which every candidate hangs was answered.")
    return Pending(quiet, waiting)


async def _all_running(primary: ScriptedNode) -> None:
    for _ in range(_LOOKS):
        if (await primary.work_so_far()).running >= RACES:
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise ProcessError(f"Fewer than {RACES} races wait.")


async def _share(pid: int) -> float:
    before = cpu_seconds(pid)
    await asyncio.sleep(_WINDOW_SECONDS)
    return (cpu_seconds(pid) - before) / _WINDOW_SECONDS
