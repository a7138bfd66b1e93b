"""`tbms replay` on a recording of calls; the integration tests have one of a real edge."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.errors import TbmsError
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way
from ext_proc.recording.files import RecordingFolder

RUN = CliRunner()
MODELS = ("a", "b", "c")
NODE = """
node:
  store: {url: "file:///models"}
  cache: {folder: /tbms, loader: {api: v2, address: "127.0.0.1:1"}, min_age_seconds: 0}
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three models in turn, every 20 s, on one node with two places: of an LRU, the worst case."""
    folder = RecordingFolder(tmp_path / "recording", 1 << 20, 4)
    fleet = RecordedFleet((RecordedNode("node-a", slots=2),), '{"routing": {"replicas": 1}}')
    calls = [RecordedCall(100.0 + 20 * n, MODELS[n % 3], Way.DECIDED, node="node-a", cold=True) for n in range(30)]
    samples = [
        RecordedCall(100.0, model, Way.SAMPLE, Ending.ANSWERED, "node-a", took=0.1, weight=0) for model in MODELS
    ]
    folder.append(Portion((*samples, *calls), fleet, tuple((model, 2.0) for model in MODELS)))
    folder.close()
    return tmp_path / "recording"


def lines(output: str) -> dict[str, list[str]]:
    """The rows of the table by their fleet: the other columns."""
    return {name: cells for name, *cells in (line.split("  ") for line in output.splitlines()[2:]) if cells}


def test_each_changed_fleet_is_a_row_below_what_was_recorded(recording: Path) -> None:
    result = RUN.invoke(
        app, ["replay", str(recording), "--slots", "+1", "--what-if", "nodes=2", "--what-if", "slots=1"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.startswith("30 calls in 580 s; 3 models")
    table = {name: [cell.strip() for cell in cells if cell.strip()] for name, cells in lines(result.output).items()}
    assert list(table) == ["as recorded", "simulated", "slots +1", "nodes 2", "slots 1"]
    assert table["as recorded"][:4] == ["1", "2", "0.00 %", "100.00 %"]
    assert table["simulated"] == ["1", "2", "0.00 %", "100.00 %", "30", "60", "0.01"]
    assert table["slots +1"] == ["1", "3", "90.00 %", "100.00 %", "3", "6", "0.01"]


def test_as_json_there_is_one_document_with_the_curve(recording: Path) -> None:
    result = RUN.invoke(app, ["replay", str(recording), "--slots", "3", "--warm-up", "60", "--json"])
    document = json.loads(result.output)
    assert [row["fleet"] for row in document["rows"]] == ["as recorded", "simulated", "slots 3"]
    assert document["rows"][2]["hit_share"] == 1.0
    assert document["rows"][2]["calls"] == 27
    assert (document["models"], document["curve"][-1]) == (3, [3, 1.0])


def test_the_rules_of_a_node_are_those_of_its_configuration(recording: Path, tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(NODE.replace("min_age_seconds: 0", "min_age_seconds: 60, room_seconds: 1"))
    old_enough = RUN.invoke(app, ["replay", str(recording), "--json"])
    too_young = RUN.invoke(app, ["replay", str(recording), "--json", "--node-config", str(config)])
    assert json.loads(old_enough.output)["rows"][1]["answered_share"] == 1.0
    assert json.loads(too_young.output)["rows"][1]["answered_share"] < 1.0


def test_calls_of_models_with_a_curve_go_in_batches(recording: Path, tmp_path: Path) -> None:
    config, curve = tmp_path / "node.yaml", tmp_path / "a.csv"
    config.write_text(f"{NODE}  batching: {{models: {{a: {{max_rows: 4}}}}}}\n")
    curve.write_text("rows,median_ms\n1,10000\n4,10000\n")
    arguments = ["replay", str(recording), "--slots", "3", "--curve", f"a={curve}", "--json"]
    without = RUN.invoke(app, arguments)
    assert "only with a --node-config" in str(without.exception)
    rows = json.loads(RUN.invoke(app, [*arguments, "--what-if", f"node-config={config}"]).output)["rows"]
    assert rows[-1]["fleet"] == "node-config node.yaml"
    # Ten calls for a, ten seconds each, in the place of a tenth of a second.
    assert rows[-1]["busy_seconds"] - rows[1]["busy_seconds"] == pytest.approx(10 * 9.9)


def test_the_curve_is_drawn(recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "curve.png"
    assert RUN.invoke(app, ["replay", str(recording), "--what-if", "slots=+1", "--png", str(file)]).exit_code == 0
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--accuracy", "0=1"], "for a log of races"),
        (["--nodes", "many"], "--nodes: a number was expected"),
        (["--nodes", "-1"], "none left"),
        (["--warm-up", "10000"], "after the warm-up"),
        (["--png", "/nowhere/x.png"], "/nowhere/x.png: cannot be written"),
        (["--node-config", "/nowhere.yaml"], "cannot be read"),
        (["--curve", "a"], "model=FILE was expected"),
        (["--curve", "a=/nowhere.csv"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_told(recording: Path, arguments: list[str], told: str) -> None:
    result = RUN.invoke(app, ["replay", str(recording), *arguments])
    assert isinstance(result.exception, TbmsError)
    assert told in str(result.exception)


def test_of_a_log_of_races_no_fleet_is_told(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("{}\n")
    result = RUN.invoke(app, ["replay", str(log), "--nodes", "+1"])
    assert isinstance(result.exception, TbmsError)
    assert "no recording of calls" in str(result.exception)
