"""`tbms plan`: what batches cost, what they leave to choose between throughput and lag, whether company is harmless.

Batch times come from a model server that runs, from a file, or from a line that is told.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import inf
from pathlib import Path
from random import Random

from rich.console import Console

from ext_proc.cli.plan import report
from ext_proc.cli.plan.measuring import Target, Tell, company_finding, measured
from ext_proc.errors import CallError, TbmsError
from ext_proc.planning.batch_log import Logged, read_log
from ext_proc.planning.curve import MAX_ROWS, Curve, straight
from ext_proc.planning.curve_files import read_curve, read_perf_analyzer, write_curve
from ext_proc.planning.exactness import Verdict
from ext_proc.planning.plan import Wishes, make_plan
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.names import check_name
from mesh.digits import number
from mesh.system_words import system_words

DEFAULT_MAX_ROWS = 32
EXIT_CODES = {Verdict.SAME: 0, Verdict.DIFFERENT: 3, Verdict.UNSTEADY: 4, Verdict.ONE_ROW: 5}
"""Of `--check-batching`; 1 is an error, 2 a wrong command line."""
_SEED = 1


@dataclass(frozen=True, slots=True)
class Source:
    """Where batch times come from: exactly one of the five that may be None or empty is set.

    `max_rows` is the largest batch that counts, `repeats` how often each size is timed; `log` is a file, and the model
    that is meant in it.
    """

    server: Target | None = None
    curve: Path | None = None
    log: tuple[Path, str] | None = None
    perf_analyzer: Sequence[str] = ()
    batch_ms: float | None = None
    row_ms: float = 0.0
    max_rows: int | None = None
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is to be written where, beside what is printed to `console`."""

    console: Console
    as_json: bool = False
    save_curve: Path | None = None
    write: Path | None = None
    plot: Path | None = None


def run(source: Source, wishes: Wishes, outputs: Outputs) -> None:
    """The plan: printed, written and drawn. Raises TbmsError, which names the flag at fault."""
    if outputs.plot is not None:
        _check_matplotlib()  # before minutes of measuring
    with _telling(outputs) as tell:
        curve, row_bytes = asyncio.run(_times(source, tell))
        if outputs.save_curve is not None:
            _save(outputs.save_curve, write_curve(curve), "--save-curve")
        tell("simulating")
        plan = make_plan(curve, replace(wishes, row_bytes=row_bytes), lambda: Random(_SEED).expovariate)
    if outputs.as_json:
        _print(outputs, report.as_json(report.document(curve, plan)))
    else:
        report.show(curve, plan, outputs.console)
    text = report.configuration(plan)
    if outputs.write is not None:
        _save(outputs.write, text, "--write")
    elif not outputs.as_json:
        _print(outputs, text.rstrip("\n"))
    if outputs.plot is not None:
        from ext_proc.cli.plan import plot

        try:
            plot.draw(plan, outputs.plot)
        except (OSError, ValueError) as error:  # the name decides the format
            raise TbmsError(f"--plot {outputs.plot}: cannot be drawn: {error}") from None


def check(target: Target | None, max_rows: int | None, outputs: Outputs) -> int:
    """Whether the model minds company: prints it, and returns the exit status. Raises TbmsError."""
    if target is None:
        raise TbmsError("--check-batching: it takes --server, to ask there, and --request, what to ask")
    with _telling(outputs) as tell:
        finding = asyncio.run(company_finding(target, max_rows or DEFAULT_MAX_ROWS, tell))
    if outputs.as_json:
        _print(outputs, report.as_json(report.finding_document(finding)))
    else:
        report.show_finding(finding, outputs.console)
    return EXIT_CODES[finding.verdict]


def model_name(text: str) -> str:
    """The name, if a model may have it. Raises TbmsError."""
    try:
        return check_name(text)
    except CallError as error:
        raise TbmsError(f"--model: {error.message}") from None


def protocol_of(api: str) -> InferenceProtocol:
    """The protocol that `--api` names. Raises TbmsError with the nearest one."""
    known = [str(protocol) for protocol in InferenceProtocol]
    if api in known:
        return InferenceProtocol(api)
    near = get_close_matches(api.lower(), known, n=1, cutoff=0.4)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise TbmsError(f"--api: one of {', '.join(known)} was expected (found {api!r}){meant}")


async def _times(source: Source, tell: Tell) -> tuple[Curve, int | None]:
    """The batch times of a source, for up to its `max_rows`; and bytes of a row, where they are known."""
    given = {
        "--server": source.server,
        "--curve": source.curve,
        "--log": source.log,
        "--perf-analyzer": source.perf_analyzer or None,
        "--batch-ms": source.batch_ms,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) != 1:
        found = " and ".join(flags) or "none"
        raise TbmsError(f"Batch times come from exactly one of {', '.join(given)} (found {found})")
    if source.row_ms and source.batch_ms is None:
        raise TbmsError("--row-ms: it belongs to --batch-ms")
    most = source.max_rows
    if source.server is not None:
        return await measured(source.server, most or DEFAULT_MAX_ROWS, source.repeats, tell)
    if source.batch_ms is not None:
        return _line(source.batch_ms, source.row_ms, most or DEFAULT_MAX_ROWS), None
    row_bytes: int | None = None
    if source.log is not None:
        curve, row_bytes = _logged(*source.log)
    elif source.curve is not None:
        curve = read_curve(_text(source.curve, "--curve"), f"--curve {source.curve}")
    else:
        curve = read_perf_analyzer(_perf_files(source.perf_analyzer))
    if most is not None and most > curve.max_rows:
        raise TbmsError(f"--max-rows: the batch times end at {curve.max_rows} rows (found {most})")
    return (curve if most is None else curve.up_to(most)), row_bytes


def _logged(path: Path, model: str) -> Logged:
    """Line by line: a log may be long."""
    try:
        with path.open(encoding="utf-8") as lines:
            return read_log(lines, model, f"--log {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise TbmsError(f"--log {path}: cannot be read: {system_words(error)}") from None


def _line(batch_ms: float, row_ms: float, max_rows: int) -> Curve:
    if not 0 < batch_ms < inf:
        raise TbmsError(f"--batch-ms: a number over 0 was expected (found {batch_ms:g})")
    if not 0 <= row_ms < inf:
        raise TbmsError(f"--row-ms: a number from 0 on was expected (found {row_ms:g})")
    return straight(batch_ms / 1e3, row_ms / 1e3, max_rows)


def _perf_files(texts: Sequence[str]) -> dict[int, tuple[str, str]]:
    """By batch size: what errors call each file, and its text. Raises TbmsError."""
    files: dict[int, tuple[str, str]] = {}
    for text in texts:
        rows, _, path = text.partition("=")
        size = number(rows, 5)
        if size is None or not 1 <= size <= MAX_ROWS or not path:
            raise TbmsError(f"--perf-analyzer: ROWS=FILE was expected, ROWS as in perf_analyzer -b (found {text!r})")
        if size in files:
            raise TbmsError(f"--perf-analyzer: there are two files for {size} rows")
        files[size] = (f"--perf-analyzer {path}", _text(Path(path), "--perf-analyzer"))
    return files


def _text(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TbmsError(f"{flag} {path}: cannot be read: {system_words(error)}") from None


def _save(path: Path, text: str, flag: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TbmsError(f"{flag} {path}: cannot be written: {error.strerror}") from None


def _print(outputs: Outputs, text: str) -> None:
    """As it is: neither wrapped nor marked up."""
    outputs.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _telling(outputs: Outputs) -> Iterator[Tell]:
    """Says on standard error what is being done, where that is a terminal."""
    with Console(stderr=True, quiet=outputs.as_json).status("") as status:
        yield status.update


def _check_matplotlib() -> None:
    try:
        import matplotlib
    except ImportError:
        raise TbmsError("--plot: matplotlib draws it, and is not installed: pip install 'tbms[demo]'") from None
    assert matplotlib
