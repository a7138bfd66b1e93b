"""What a server logged of real races is replayed to the same decisions."""

from pathlib import Path

import aiohttp
import grpc
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.wire.call import InferenceProtocol
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part

SCENES = (
    (Part(1), Part(2)),
    (Part(1, seconds=None), Part(2)),
    (Part(status=(500, grpc.StatusCode.INTERNAL)), Part(2)),
    (Part(1, seconds=None), Part(2, seconds=None)),
)


def races(stage: Stage) -> list[str]:
    """The lines of the log that are races; the report of one is written after its answer has gone."""
    return [line for line in stage.edge.server.log.read_text().splitlines() if '"event": "race"' in line]


async def test_a_recording_is_reproduced(stage: Stage, tmp_path: Path) -> None:
    before = len(races(stage))
    for number, (bert, svm) in enumerate(SCENES):
        stage.plays(bert=bert, svm=svm)
        headers = {"tloc": "400;est=20", "backup": "svm;est=60", "x-request-id": f"scene-{number}"}
        await stage.client.call(InferenceProtocol.TFS_REST, "bert", headers)
    async with aiohttp.ClientSession() as http, http.get(f"{stage.edge.admin}/metrics") as reply:
        told = await reply.text()
    assert 'tbms_candidates_total{fate="late",model="bert",rank="0"}' in told
    assert 'tbms_races_total{outcome="answer",why="overdue"}' in told
    lines = races(stage)
    assert len(lines) >= before + len(SCENES)
    assert [f"scene-{number}" in line for number, line in enumerate(lines[-len(SCENES) :])] == [True] * len(SCENES)
    recording = tmp_path / "races.log"
    recording.write_text(stage.edge.server.log.read_text())
    result = CliRunner().invoke(app, ["replay", str(recording), "--no-backups"])
    assert result.exit_code == 0, result.output
    assert f"{len(lines)} races, {len(lines)} reproduced exactly, 0 not reproduced" in result.output
