"""An hour of calls, written as an edge would record it, and replayed.

Started as `python -m integration.bench.whatif.hour FOLDER`.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ext_proc.broker.plan import Candidate, Plan
from ext_proc.cli.replay.fleet import answered
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way
from ext_proc.recording.files import RecordingFolder
from integration.bench.cache.trace import zipf
from integration.stack.process import output_of

_SEED = 20_240_917
_BEGIN = 1_760_000_000.0  # some day
_BLOCK = 1024
_SECONDS = 0.02
_LOAD_SECONDS = 0.5
_LIMIT = 0.2


@dataclass(frozen=True)
class Hour:
    """What is recorded: Zipf calls, of which `raced` in a hundred have a limit and a backup.

    The replay of it counts, from opening the files to the figures of one fleet.
    """

    rate: float = 200.0
    seconds: float = 3600.0
    models: int = 1000
    exponent: float = 1.1
    nodes: int = 10
    slots: int = 50
    raced: int = 10


@dataclass(frozen=True)
class Replayed:
    """What the replay of an hour took in seconds, of the clock and of a processor, and what the recording has."""

    wall: float
    cpu: float
    calls: int
    size_bytes: int
    hit_share: float


def record(hour: Hour, folder: Path) -> None:
    """Writes the recording."""
    files = RecordingFolder(folder, 4 << 20, 1000)
    nodes = tuple([RecordedNode(f"node-{n}", slots=hour.slots) for n in range(hour.nodes)])
    fleet, rows = RecordedFleet(nodes), _calls(hour)
    loads = tuple([(_name(number), _LOAD_SECONDS) for number in range(hour.models)])
    files.append(Portion((), fleet, loads))
    while block := tuple(islice(rows, _BLOCK)):
        files.append(Portion(block))
    files.close()


def _calls(hour: Hour) -> Iterator[RecordedCall]:
    calls = round(hour.rate * hour.seconds)
    trace = zipf(hour.exponent, hour.models, calls, hour.rate, _SEED)
    dice = np.random.default_rng(_SEED)
    took = dice.lognormal(np.log(_SECONDS), 0.3, calls).tolist()
    plans: dict[int, Plan] = {}
    backup = Candidate("backup", estimate_ms=10.0)
    for number, (model, at) in enumerate(zip(trace.models, trace.at, strict=True)):
        name, seconds = _name(model), took[number]
        if number % 100 < hour.raced:
            plan = plans.get(model)
            if plan is None:
                plan = plans[model] = Plan(name, (Candidate(name, estimate_ms=30.0), backup), 1000 * _LIMIT)
            yield RecordedCall(
                _BEGIN + at, name, Way.RACED, Ending.ANSWERED, plan=plan, limit=_LIMIT, took=seconds, rank=0, size=300
            )
            yield RecordedCall(_BEGIN + at, name, Way.SAMPLE, Ending.ANSWERED, took=seconds, weight=0)
        else:
            yield RecordedCall(_BEGIN + at, name, Way.DECIDED, node="node-0", size=300)
            if number % 8 == 0:
                yield RecordedCall(_BEGIN + at, name, Way.SAMPLE, Ending.ANSWERED, "node-0", took=seconds, weight=0)


def _name(number: int) -> str:
    return f"model-{number:04d}"


def replay(folder: Path) -> Replayed:
    """Replays it once."""
    began, busy = time.perf_counter(), time.process_time()
    figures = answered([folder], [], NodeRules(), 0.0).rows[-1].figures
    wall, cpu = time.perf_counter() - began, time.process_time() - busy
    size = sum(file.stat().st_size for file in folder.iterdir())
    return Replayed(wall, cpu, figures.calls, size, figures.hit_share or 0.0)


async def replayed_hour(folder: Path) -> Replayed:
    """The same in a process of its own. Raises ProcessError if that fails."""
    command = [sys.executable, "-m", "integration.bench.whatif.hour", str(folder / "hour")]
    return Replayed(**json.loads(await output_of("hour", command, folder / "hour.log")))


def main() -> None:
    """Records and replays the hour; prints what it took as JSON."""
    folder = Path(sys.argv[1])
    record(Hour(), folder)
    took = replay(folder)
    print(json.dumps({name: getattr(took, name) for name in Replayed.__dataclass_fields__}))


if __name__ == "__main__":
    main()
