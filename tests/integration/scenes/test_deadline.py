"""The demo's deadline scene, small: what it counts, what it leaves behind, and that backups answer."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ext_proc.broker.record import read_records
from integration.scenes.deadline import scene as scene_module
from integration.scenes.deadline.calls import IMAGES_A_CALL, Point
from integration.scenes.deadline.scene import Deadline
from integration.stack import race_log
from integration.stack.race_log import extra_work
from tests.integration.conftest import need_envoy

CALLS = 12
# One that the slowest model keeps, and one that only the others can, on a busy machine as well.
LIMITS = (3000.0, 80.0)
SLOW_MS = 150.0


async def test_backups_answer_where_the_best_model_is_too_late(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_envoy("1.40")
    monkeypatch.setitem(scene_module._SLOW, "forest", SLOW_MS)
    shown = StringIO()
    scene = Deadline(Console(file=shown, width=160), tmp_path / "demo", LIMITS, CALLS)
    points = {(point.limit_ms, point.backups): point for point in await scene.run(repository)}
    assert len(points) == 4
    assert {(point.calls, point.images) for point in points.values()} == {(CALLS, CALLS * IMAGES_A_CALL)}
    # With time enough the best model answers all, and nothing is gained by others.
    for backups in (True, False):
        easy = points[3000.0, backups]
        assert easy.by_model == {"acme-forest": CALLS}
        assert easy.accuracy > 0.95
    # Of the slow forest hardly an answer comes within 80 ms: those that do are of other models.
    hard, alone = points[80.0, True], points[80.0, False]
    assert hard.in_time > alone.in_time
    assert hard.accuracy > alone.accuracy
    assert set(hard.by_model) & {"acme-svm", "acme-bayes", "acme-centroid"}
    assert alone.extra_work == 0 < hard.extra_work
    assert scene.plot.read_bytes().startswith(b"\x89PNG")
    races = [race for race in race_log.records(scene.races) if race.limit_ms == 80.0]
    assert sorted(len(race.candidates) for race in races) == [1] * CALLS + [4] * CALLS
    assert f"tbms replay {scene.races} --limit-ms 50" in shown.getvalue()


def record(*log: tuple[float, str, int, int]) -> str:
    models = [{"mix": None, "models": [{"model": name, "estimate_ms": 10}]} for name in ("bert", "svm")]
    event = {"event": "race", "v": 1, "model": "bert", "arrival": 0, "limit_ms": 50, "margin_ms": 2, "answer": "best"}
    event |= {"fallback": False, "candidates": models, "outcome": {}, "log": log}
    return json.dumps(event | {"budget": {"share": 0.2, "burst_ms": 500, "level_ms": 0}})


def test_extra_work_is_the_time_of_backups_by_the_time_of_primaries() -> None:
    lines = [
        record((0, "begin", -1, -1), (0, "start", 0, 0), (30, "result", 0, 0), (30, "answer", 0, -1)),
        record((0, "start", 0, 0), (20, "start", 1, 0), (26, "result", 1, 0), (50, "cancel", 0, 0)),
        record((0, "start", 0, 0), (10, "start", 1, 0), (12, "cancel", 1, 0), (20, "failed", 0, 0)),
    ]
    assert extra_work(read_records(lines)) == pytest.approx((6 + 2) / (30 + 50 + 20))
    assert extra_work([]) == 0


def test_an_image_without_an_answer_is_not_read_rightly() -> None:
    point = Point(50, backups=True, calls=4, images=80, right=36)
    point.by_model.update({"forest": 1, "svm": 1})
    assert point.answered == 0.5
    assert point.accuracy == 0.45
