"""`tbms replay` on a recording of simulated races; test_recording of the integration tests has a real one."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.errors import TbmsError
from tests.ext_proc.broker.test_replay import record_one

RUN = CliRunner()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Six races whose primary answers after 20 ms, and four in which it takes 60 and a backup answers."""
    times = [[20, 10, 3]] * 6 + [[60, 10, 3]] * 4
    lines = [json.dumps(record_one(one, arrival=100.0 + n)) for n, one in enumerate(times)]
    path = tmp_path / "server.log"
    path.write_text("\n".join(['{"event": "serving"}', *lines, "a line of somebody else"]))
    return path


def rows(output: str) -> dict[str, list[str]]:
    """The table by the names of its lines: the figures, without their signs."""
    table = {}
    for line in output.splitlines():
        name, *figures = [part.strip(" %") for part in line.split("│")]
        if figures:
            table[name] = figures
    return table


def test_without_a_change_the_recording_is_told(log: Path) -> None:
    result = RUN.invoke(app, ["replay", str(log)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("10 races, 10 reproduced exactly, 0 not reproduced")
    table = rows(result.output)
    assert table["answered by the limit"] == ["100.00"]
    assert (table["by rank 0"], table["by rank 1"]) == (["60.00"], ["40.00"])
    assert "what if" not in result.output


def test_what_if_stands_beside_what_was(log: Path) -> None:
    without = rows(
        RUN.invoke(app, ["replay", str(log), "--no-backups", "--accuracy", "0=0.9", "--accuracy", "1=0.5"]).output
    )
    assert without["answered by the limit"] == ["100.00", "60.00"]
    assert without["errors"] == ["0.00", "40.00"]
    assert without["by rank 1"] == ["40.00", "0.00"]
    assert without["accuracy, no answer counts as wrong"] == ["74.00", "54.00"]
    assert without["extra work"][1] == "0.00"


@pytest.mark.parametrize(
    ("options", "by_rank_0"),
    [
        (["--limit-ms", "15"], "0.00"),
        (["--answer", "first", "--estimate", "svm=40"], "0.00"),
        (["--margin-ms", "35"], "0.00"),
        (["--hedge-share", "0"], "60.00"),
        (["--hedge-burst-ms", "1"], "60.00"),
    ],
)  # fmt: skip
def test_every_option_changes_its_rule(log: Path, options: list[str], by_rank_0: str) -> None:
    result = RUN.invoke(app, ["replay", str(log), *options])
    assert result.exit_code == 0, result.output
    assert rows(result.output)["by rank 0"] == ["60.00", by_rank_0]


def test_a_race_that_is_not_reproduced_is_counted_and_fails_the_command(log: Path) -> None:
    text = log.read_text()
    log.write_text(text.replace('"limit_ms": 50', '"limit_ms": 49', 1))
    result = RUN.invoke(app, ["replay", str(log)])
    assert result.exit_code == 1
    assert result.output.startswith("10 races, 9 reproduced exactly, 1 not reproduced")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--estimate", "smv=40"], "--estimate: no race has asked 'smv'. Did you mean 'svm'?"),
        (["--estimate", "svm"], "--estimate: name=number was expected"),
        (["--estimate", "svm=-1"], "--estimate: name=number was expected"),
        (["--estimate", "svm=nan"], "--estimate: name=number was expected"),
        (["--accuracy", "first=0.5"], "--accuracy: rank=share was expected"),
        (["--accuracy", "0=1.5"], "--accuracy: rank=share was expected"),
    ],
)
def test_options_that_cannot_hold(log: Path, options: list[str], says: str) -> None:
    result = RUN.invoke(app, ["replay", str(log), *options])
    assert isinstance(result.exception, TbmsError)
    assert str(result.exception).startswith(says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"event": "serving"}\n', "there is no race in it"),
        (b'{"event": "race", "v": 1}\n', "Line 1: "),
        (b"\xff\xfe", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_recording(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "log"
    if content is not None:
        path.write_bytes(content)
    result = RUN.invoke(app, ["replay", str(path)])
    assert isinstance(result.exception, TbmsError)
    assert str(result.exception).startswith(f"{path}: ")
    assert says in str(result.exception)


def test_a_smaller_burst_leaves_less_work_for_hedges(log: Path) -> None:
    work = rows(RUN.invoke(app, ["replay", str(log), "--hedge-burst-ms", "1"]).output)["extra work"]
    assert float(work[1]) < float(work[0])
