"""Fleets of real nodes under the same calls: one is recorded, others are foretold from that, and then started.

Each node is an Envoy, a server in the node role and the embedded model server with its cache on disk; before them stand
an Envoy and a server as the edge, which records. Simulated are only the times that models take for calls and loads.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ext_proc.planning.fleet.cache_node import CacheRules
from ext_proc.planning.fleet.change import Amount, FleetChange
from ext_proc.planning.fleet.profile import in_order, profile_of
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.planning.fleet.simulation import simulate
from ext_proc.recording.files import read_recording
from integration.bench.cache.trace import Trace, zipf
from integration.bench.cache.wide_model import write_model
from integration.bench.open_loop import Play, Sample, open_loop
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.process import ProcessError
from integration.stack.stack import Stack

_SEED = 20_240_917
_BACKUP = "small"
_HEARD_WITHIN = 60.0
_TIMEOUT = 10.0
# Nodes of tests evict without a minimum age, as `CachedSpec` has it.
RULES = NodeRules(CacheRules(min_age_seconds=0.0))


@dataclass(frozen=True)
class Fleet:
    """What is started: `nodes` with `slots` places each; whether calls name backups. `change` leads there."""

    name: str
    nodes: int = 4
    slots: int = 7
    backups: bool = True
    change: FleetChange = field(default_factory=FleetChange)


RECORDED = Fleet("as recorded")
CHANGED = (
    Fleet("one node less", nodes=3, change=FleetChange(nodes=Amount(-1, True))),
    Fleet("2 slots more a node", slots=9, change=FleetChange(slots=Amount(2, True))),
    Fleet("no backups", backups=False, change=FleetChange(backups=False)),
)


@dataclass(frozen=True)
class Calls:
    """Zipf calls at random times. Of six one has a limit and a backup, one a limit only; the others are plain.

    A load takes longer than the limit, so a cold call with a limit is answered by its backup, or not at all. Those of
    the first `warm_up` seconds fill the caches.
    """

    models: int = 40
    exponent: float = 1.1
    rate: float = 20.0
    seconds: float = 45.0
    warm_up: float = 10.0
    call_ms: float = 20.0
    load_ms: float = 500.0
    limit_ms: float = 300.0

    def trace(self) -> Trace:
        """The same each time."""
        return zipf(self.exponent, self.models, round(self.rate * self.seconds), self.rate, _SEED)

    def name(self, number: int) -> str:
        """Of a model."""
        return f"model-{number:02d}"

    def shelf(self, folder: Path) -> Path:
        """The store with all models."""
        for name in map(self.name, range(self.models)):
            write_model(folder, name, 16, delay_ms=self.call_ms, load_delay_ms=self.load_ms)
        write_model(folder, _BACKUP, 16, delay_ms=self.call_ms / 4)
        return folder

    def headers(self, number: int, backups: bool) -> Mapping[str, str]:
        """Of the call with that number."""
        if number % 6 > 1:
            return {}
        limited = {"tloc": f"{self.limit_ms:g}"}
        return {**limited, "backup": f"{_BACKUP};est={self.call_ms:g}"} if backups and number % 6 == 0 else limited


@dataclass(frozen=True)
class Reached:
    """Shares from 0 to 1: hits by what the edge knew of its nodes, answers by what the clients got."""

    hit_share: float
    answered_share: float


async def reached(fleet: Fleet, calls: Calls, shelf: Path, folder: Path) -> Reached:
    """Starts a fleet, plays the calls, and leaves their recording in `folder`/recording. Raises ProcessError."""
    folder.mkdir()
    recording = folder / "recording"
    cache = {"capacity": {"models": fleet.slots}}
    specs = [CachedSpec(f"node-{number}", cache=cache, log="warning") for number in range(fleet.nodes)]
    sections = {"recording": {"folder": str(recording), "seconds": 0.5}}
    trace = calls.trace()
    async with Stack(shelf, specs, sections=sections) as stack:
        await _heard(stack)
        play = Play(
            stack.edge.target,
            "",
            _TIMEOUT,
            [(at, calls.headers(number, fleet.backups)) for number, at in enumerate(trace.at)],
            protocols=("rest",),
            paths=[f"/v1/models/{calls.name(model)}:predict" for model in trace.models],
        )
        samples = await open_loop(play, folder)
    recorded = profile_of(read_recording([recording]), calls.warm_up).recorded
    if recorded.hit_share is None:
        raise ProcessError("The edge has not recorded what its nodes held.")
    return Reached(recorded.hit_share, _answered(samples, trace, calls))


def foretold(changes: Sequence[FleetChange], calls: Calls, folder: Path) -> list[Reached]:
    """What the recording in `folder` says that each change would lead to."""
    recording = [folder / "recording"]
    profile = profile_of(read_recording(recording), calls.warm_up)
    told = []
    for change in changes:
        figures = simulate(profile, in_order(read_recording(recording)), change, RULES, calls.warm_up)
        told.append(Reached(figures.hit_share or 0.0, figures.answered_share))
    return told


def _answered(samples: Sequence[Sample], trace: Trace, calls: Calls) -> float:
    counted = [
        sample.answered for sample, at in zip(samples, trace.at, strict=True) if at - trace.at[0] >= calls.warm_up
    ]
    return sum(counted) / len(counted)


async def _heard(stack: Stack[CachedNode]) -> None:
    """Returns once every node has told the edge what it holds."""
    until = time.monotonic() + _HEARD_WITHIN
    while not all(node["residency"]["heard"] for node in (await stack.edge.status())["nodes"]):
        if time.monotonic() > until:
            raise ProcessError(f"Some node was not heard within {_HEARD_WITHIN:g} s.")
        await asyncio.sleep(0.1)
