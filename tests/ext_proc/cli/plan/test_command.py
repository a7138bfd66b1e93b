"""`tbms plan` from batch times that are told or read; tests/integration/planning has it measure real servers."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.cli.plan import command
from ext_proc.errors import TbmsError
from ext_proc.planning.configuration import read_batching
from ext_proc.planning.curve import straight
from ext_proc.planning.curve_files import write_curve
from ext_proc.planning.exactness import Verdict
from ext_proc.planning.plan import make_plan

ROOT = Path(__file__).parents[4]
RUN = CliRunner()
EXAMPLE = ["plan", "--model", "bert", "--batch-ms", "20", "--max-rows", "10"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the calls that are simulated otherwise."""
    monkeypatch.setattr(command, "make_plan", partial(make_plan, calls=400))


def lines(output: str, title: str) -> dict[str, list[str]]:
    """A table by its first column: the other cells."""
    table: dict[str, list[str]] = {}
    for line in output.partition(f"{title}")[2].splitlines()[3:]:
        first, *cells = [cell.strip() for cell in line.split("│")]
        if not cells:
            break
        table[first] = cells
    return table


def fails(*arguments: str) -> str:
    result = RUN.invoke(app, ["plan", "--model", "bert", *arguments])
    assert isinstance(result.exception, TbmsError), result.output
    return str(result.exception)


def test_the_example_is_told_and_configured() -> None:
    result = RUN.invoke(app, [*EXAMPLE, "--qps", "200", "--lag-ms", "60", "--price", "3.6"])
    assert result.exit_code == 0, result.output
    assert "At most 500 QPS on 1 GPU." in result.output
    assert "1 GPU gives 99% of the answers to 200 QPS within 60 ms." in result.output
    by_qps, by_gpus = lines(result.output, "bert on 1 GPU"), lines(result.output, "bert at 200 QPS")
    assert by_qps["200"][:3] == ["40%", "4.0", "27.5 ms"]
    assert by_gpus["1"][:3] == by_qps["200"][:3]
    assert by_gpus["4"][:3] == ["10%", "1.0", "20 ms"]
    assert (by_gpus["1"][5:], by_gpus["4"][5:]) == (["5", "yes"], ["20", "yes"])
    settings = read_batching(result.output.partition("# tbms plan: ")[2].partition("\n")[2])
    assert settings.slots == 1
    assert settings.models["bert"].model_dump(exclude_defaults=True) == {
        "cross_request": True,
        "cross_lag_ms": 40.0,
        "max_rows": 10,
    }


def test_a_name_is_printed_as_it_is() -> None:
    result = RUN.invoke(app, ["plan", "--model", "[red]é:1", "--batch-ms", "20"])
    assert "[red]é:1 on 1 GPU" in result.output
    assert read_batching(result.output.partition("# tbms plan: ")[2].partition("\n")[2]).models.keys() == {"[red]é:1"}


def test_json_says_the_same() -> None:
    result = RUN.invoke(app, [*EXAMPLE, "--qps", "600", "--lag-ms", "10", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["capacity"] == pytest.approx(500)
    assert told["max_rows"] == 10, "two batches of no size keep the limit, and all take the same"
    assert told["gpus_needed"] is None
    assert told["wishes"] == {"model": "bert", "qps": 600.0, "lag": 0.01, "gpus": 1, "gpus_per_node": 1}
    (beyond,) = [each for each in told["by_qps"] if each["qps"] == 600]
    assert (beyond["even_lag"], beyond["poisson_mean"], beyond["poisson_tail"]) == (None, None, None)
    assert told["batching"] == {
        "slots": 1,
        "models": {"bert": {"cross_request": True, "cross_lag_ms": 0.0, "max_rows": 10}},
    }


def test_of_a_line_the_size_is_chosen_that_fits_the_limit() -> None:
    line = ["plan", "--model", "bert", "--batch-ms", "5", "--row-ms", "0.5", "--max-rows", "32", "--json"]
    chosen = {lag: json.loads(RUN.invoke(app, [*line, "--lag-ms", lag]).output)["max_rows"] for lag in ("20", "60")}
    assert chosen == {"20": 8, "60": 32}, "two batches of 8 rows take 18 ms, of 16 rows 26 ms"


def test_files_there_and_back(tmp_path: Path) -> None:
    saved, written = tmp_path / "curve.csv", tmp_path / "batching.yaml"
    grows = ["plan", "--model", "bert", "--batch-ms", "500", "--row-ms", "250", "--max-rows", "16"]
    first = RUN.invoke(app, [*grows, "--save-curve", str(saved), "--write", str(written)])
    assert first.exit_code == 0, first.output
    assert saved.read_text() == write_curve(straight(0.5, 0.25, 16))
    assert read_batching(written.read_text()).models["bert"].max_rows == 16
    assert "cross_request" not in first.output, "it stands in the file"
    again = ["plan", "--model", "bert", "--curve", str(saved)]
    assert RUN.invoke(app, [*again, "--json"]).output == RUN.invoke(app, [*grows, "--json"]).output
    halved = json.loads(RUN.invoke(app, [*again, "--max-rows", "8", "--json"]).output)
    assert halved["max_rows"] == 8
    assert halved["capacity"] == pytest.approx(8 / 2.5)


def logged(**fields: object) -> str:
    record = {"event": "batch", "v": 1, "model": "bert", "left": 1.0, "ms": 20.0, "rows": 4, "bytes": 4000}
    return json.dumps({**record, "outcome": "answered", "slots": 1, **fields})


def test_a_log(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    lines = [logged(left=at, ms=20 + rows, rows=rows, bytes=5_000_000 * rows) for at, rows in enumerate([1, 4, 8] * 5)]
    log.write_text("\n".join(['{"event": "ready"}', "no JSON", *lines]), encoding="utf-8")
    arguments = ["plan", "--model", "bert", "--log", str(log), "--lag-ms", "100", "--json"]
    result = RUN.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    points = json.loads(result.output)["curve"]
    assert [(point["rows"], round(point["seconds"], 6)) for point in points] == [(1, 0.021), (4, 0.024), (8, 0.028)]
    result = RUN.invoke(app, arguments[:-1])
    assert "max_bytes: 40" in result.output  # eight rows of the log
    assert fails("--log", str(tmp_path / "no")).startswith(f"--log {tmp_path / 'no'}: cannot be read")
    assert fails("--log", str(log), "--max-rows", "9") == "--max-rows: the batch times end at 8 rows (found 9)"


def test_files_of_perf_analyzer(tmp_path: Path) -> None:
    head = "Concurrency,Inferences/Second,Server Queue,Server Compute Infer\n"
    options = []
    for rows, micros in ((1, 10_000), (8, 20_000)):
        (tmp_path / f"{rows}.csv").write_text(f"{head}1,1,500,{micros}\n")
        options += ["--perf-analyzer", f"{rows}={tmp_path}/{rows}.csv"]
    told = json.loads(RUN.invoke(app, ["plan", "--model", "bert", *options, "--json"]).output)
    assert [(each["rows"], each["seconds"]) for each in told["curve"]] == [(1, 0.01), (8, 0.02)]
    assert told["capacity"] == pytest.approx(400)


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "plan.png"
    result = RUN.invoke(app, [*EXAMPLE, "--qps", "700", "--lag-ms", "50", "--plot", str(file)])
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    assert "cannot be drawn" in fails("--batch-ms", "20", "--plot", str(tmp_path / "no" / "plan.png"))


def test_without_matplotlib_no_picture_is_promised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = fails("--batch-ms", "20", "--plot", str(tmp_path / "plan.png"))
    assert said == "--plot: matplotlib draws it, and is not installed: pip install 'tbms[demo]'"
    assert RUN.invoke(app, EXAMPLE).exit_code == 0, "the numbers need none"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "exactly one of --server, --curve, --log, --perf-analyzer, --batch-ms (found none)"),
        (["--batch-ms", "20", "--curve", "x.csv"], "(found --curve and --batch-ms)"),
        (["--batch-ms", "0"], "--batch-ms: a number over 0 was expected (found 0)"),
        (["--batch-ms", "nan"], "--batch-ms: a number over 0 was expected (found nan)"),
        (["--batch-ms", "1", "--row-ms", "-1"], "--row-ms: a number from 0 on was expected (found -1)"),
        (["--curve", "x.csv", "--row-ms", "1"], "--row-ms: it belongs to --batch-ms"),
        (["--curve", "/nowhere.csv"], "--curve /nowhere.csv: cannot be read"),
        (["--perf-analyzer", "8"], "--perf-analyzer: ROWS=FILE was expected"),
        (["--perf-analyzer", "0=x"], "--perf-analyzer: ROWS=FILE was expected"),
        (["--perf-analyzer", "1=/nowhere.csv"], "--perf-analyzer /nowhere.csv: cannot be read"),
        (["--batch-ms", "20", "--qps", "-1"], "--qps: "),
        (["--batch-ms", "20", "--write", "/nowhere/x"], "--write /nowhere/x: cannot be written: No such file"),
        (["--batch-ms", "20", "--save-curve", "/nowhere/x"], "--save-curve /nowhere/x: cannot be written"),
        (["--server", "a:1"], "--request: a file with a recorded request body is needed"),
        (["--server", "a:1", "--request", "/nowhere"], "--request /nowhere: cannot be read: No such file"),
        (["--server", "a:1", "--api", "v2grpc"], "(found 'v2grpc'); did you mean v2-grpc?"),
        (["--server", "a:1", "--api", "zzz"], "(found 'zzz')"),
        (["--check-batching"], "--check-batching: it takes --server"),
    ],
)
def test_the_flag_at_fault_is_named(arguments: list[str], says: str) -> None:
    assert says in fails(*arguments)


def test_a_name_that_no_model_can_have() -> None:
    result = RUN.invoke(app, ["plan", "--model", "a/b", "--batch-ms", "20"])
    assert str(result.exception).startswith("--model: ")


def test_rows_beyond_a_curve(tmp_path: Path) -> None:
    saved = tmp_path / "curve.csv"
    saved.write_text(write_curve(straight(0.01, 0, 8)))
    assert fails("--curve", str(saved), "--max-rows", "9") == "--max-rows: the batch times end at 8 rows (found 9)"


def test_two_files_for_one_size(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    said = fails("--perf-analyzer", f"1={tmp_path}/a.csv", "--perf-analyzer", f"1={tmp_path}/a.csv")
    assert said == "--perf-analyzer: there are two files for 1 rows"


def test_the_exit_statuses_are_those_of_the_documentation() -> None:
    documented = re.findall(r"^\| (\d) \| `([a-z-]+)` \|", (ROOT / "docs/batching.md").read_text(), re.M)
    assert {Verdict(word): int(status) for status, word in documented} == command.EXIT_CODES
