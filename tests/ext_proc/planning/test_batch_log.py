"""What a node's log says of batch times: as the device took them, however they were handed over."""

import asyncio
import json
import logging
from typing import Any

import pytest

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.errors import TbmsError
from ext_proc.planning.batch_log import ENOUGH, read_log
from ext_proc.planning.curve import Curve
from ext_proc.telemetry.batch_log import BatchLog
from ext_proc.telemetry.logs import JsonFormatter
from integration.virtual_time import run
from tests.ext_proc.gathering.scene import POISON, SECONDS, Scene, held, scene


def line(**fields: Any) -> str:
    record = {"event": "batch", "v": 1, "model": "m", "left": 0.0, "ms": 20.0, "rows": 2, "bytes": 10, "slots": 1}
    return json.dumps({**record, "calls": 1, "why": "idle", "outcome": "answered", "time": "?", **fields})


def curve(*lines: str) -> Curve:
    return read_log(lines, "m", "--log f").curve


def times(*lines: str) -> dict[int, float]:
    return {point.rows: round(point.seconds * 1000, 3) for point in curve(*lines).points}


def test_the_lines_of_a_gatherer_tell_the_times_of_its_device(caplog: pytest.LogCaptureFixture) -> None:
    """Handed over ahead, a batch has its reply after two batches' time."""

    async def play(stage: Scene) -> None:
        loop, scheduler = asyncio.get_running_loop(), stage.gatherer.scheduler
        stage.report.log = BatchLog(stage.gatherer.settings, loop.time, lambda: scheduler.slots)
        calls = [stage.ask(held(float(i))) for i in range(100)]
        await asyncio.gather(*calls, stage.ask(held(POISON, model="other")))

    async def main() -> None:
        async with scene(ahead=1) as stage:
            await play(stage)

    with caplog.at_level(logging.INFO, "tbms.batches"):
        run(main())
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "tbms.batches"]
    seen = [json.loads(each)["ms"] for each in lines]
    assert max(seen) == pytest.approx(2000 * SECONDS)
    found = read_log(lines, "m", "f")
    assert found.curve.max_rows == 8
    assert found.curve.seconds(8) == pytest.approx(SECONDS, abs=1e-5)
    assert found.row_bytes == len("10.0")
    with pytest.raises(TbmsError, match="no batch of model 'other' was answered"):
        read_log(lines, "other", "f")


def test_nothing_is_written_of_a_model_whose_server_gathers_that_a_plan_could_believe() -> None:
    with pytest.raises(TbmsError, match="gathers by itself"):
        curve(line(slots=None))
    assert BatchingSettings(models={"m": ModelBatching(server_batches=True)}).of("m").server_batches


def test_a_batch_begins_when_a_slot_is_free() -> None:
    assert times(line(left=0, ms=20), line(left=0.01, ms=30, rows=3)) == {2: 20, 3: 20}
    assert times(line(left=0.01, ms=30, rows=3), line(left=0, ms=20)) == {2: 20, 3: 20}  # in whatever order
    assert times(line(left=0, ms=20, slots=2), line(left=0.01, ms=30, rows=3, slots=2)) == {2: 20, 3: 30}
    three = [
        line(left=0, ms=20, slots=2),
        line(left=0, ms=40, rows=1, slots=2),
        line(left=0.01, ms=20, rows=3, slots=2),
    ]
    assert times(*three)[3] == 10


def test_what_says_nothing_of_batch_times_is_left_out() -> None:
    assert times(line(), line(outcome="failed", rows=9, left=1), line(outcome="again", rows=8, left=2)) == {2: 20}
    # After another model the switch is in it; as the first thing that is known, too, but that is not known.
    assert times(line(), line(model="n", left=1), line(ms=50, left=2), line(left=3, ms=22)) == {2: 21}
    assert times(line(model="n"), line(ms=50, left=1)) == {2: 50}
    many = [line(left=at) for at in range(ENOUGH)]
    assert times(*many, line(rows=32, left=99)) == {2: 20}
    assert times(*many[1:], line(rows=32, left=99)) == {2: 20}
    assert times(line(), line(rows=32, left=99)) == {2: 20, 32: 20}
    assert times('{"event": "race", "v": 1}', "not JSON", line()) == {2: 20}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "--log f: there is no batch of model 'm' in it; node.batching.log: true writes them"),
        ([line(model="n"), line(model="k")], "those that there are: k, n"),
        ([line(), line(rows=0)], "--log f: line 2: rows: Input should be greater than or equal to 1"),
        ([line(ms="x")], "line 1: ms: "),
        ([line(left=float("inf"))], "line 1: left: "),
        ([line(v=2)], "line 1: v: "),
        ([line()[:-1]], "line 1: the line: "),
        ([line(rows=70_000)], "from 1 to 65536"),
        ([line(ms=0)], "no batch of model 'm' was answered"),
    ],
)
def test_what_is_wrong_is_named(lines: list[str], says: str) -> None:
    with pytest.raises(TbmsError) as caught:
        curve(*lines)
    assert says in str(caught.value)
