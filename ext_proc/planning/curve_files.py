"""Curves on paper: our own CSV, and the one that Triton's Perf Analyzer writes.

Ours has the columns `rows`, `median_ms`, `deviation_ms` and `repeats`, of which the first two are needed.

Perf Analyzer (`perf_analyzer -b ROWS -f FILE`) writes one file for each batch size, times in microseconds, one line
for each concurrency. The line of the lowest concurrency counts, and of it everything but the time in the server's
queue: what a batch takes that waits for no other. Where the server tells no times of its own, the median latency.
"""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO

from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve, Point

_COLUMNS = ("rows", "median_ms", "deviation_ms", "repeats")
_LOADS = ("Concurrency", "Request Rate")
_QUEUE = "Server Queue"
_LATENCY = "p50 latency"
_PARTS = (
    "Client Send",
    "Network+Server Send/Recv",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
)
_OLD_COMPUTE = "Server Compute"  # one column, before Triton 2


def write_curve(curve: Curve) -> str:
    """The curve as our CSV."""
    out = StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for point in curve.points:
        lines.writerow((point.rows, f"{point.seconds * 1e3:.6g}", f"{point.deviation * 1e3:.6g}", point.repeats))
    return out.getvalue()


def read_curve(text: str, name: str) -> Curve:
    """The curve in our CSV; `name` is what errors call the file. Raises TbmsError."""
    points = []
    for line, fields in _lines(text, name, _COLUMNS[:2]):
        ms = _number(fields, "median_ms", name, line)
        deviation_ms = _number(fields, "deviation_ms", name, line) if fields.get("deviation_ms") else 0.0
        repeats = _whole(fields, "repeats", name, line) if fields.get("repeats") else 1
        points.append(Point(_whole(fields, "rows", name, line), ms / 1e3, deviation_ms / 1e3, repeats))
    try:
        return Curve(tuple(sorted(points, key=lambda point: point.rows)))
    except TbmsError as error:
        raise TbmsError(f"{name}: {error}") from None


def read_perf_analyzer(files: Mapping[int, tuple[str, str]]) -> Curve:
    """The curve in files of Perf Analyzer: by batch size, each file's name and text. Raises TbmsError."""
    return Curve(tuple(Point(rows, _perf_seconds(text, name)) for rows, (name, text) in sorted(files.items())))


def _perf_seconds(text: str, name: str) -> float:
    found = list(_lines(text, name, ("Inferences/Second",)))
    load = next((column for column in _LOADS if column in found[0][1]), None)
    line, fields = found[0] if load is None else min(found, key=lambda each: _number(each[1], load, name, each[0]))
    if _QUEUE in fields:
        parts = [part for part in (*_PARTS, _OLD_COMPUTE) if part in fields]
        micros = sum(_number(fields, part, name, line) for part in parts)
    elif _LATENCY in fields:
        micros = _number(fields, _LATENCY, name, line)
    else:
        raise TbmsError(f"{name}: there is neither a column {_QUEUE!r} nor {_LATENCY!r}")
    if micros <= 0:
        raise TbmsError(f"{name}: line {line}: the times of this batch sum up to nothing")
    return micros / 1e6


def _lines(text: str, name: str, needed: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Each line under the head, by column, with its number. Raises TbmsError."""
    reader = csv.DictReader(StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    try:
        found = [(reader.line_num, {key: value for key, value in line.items() if key}) for line in reader]
    except csv.Error as error:
        raise TbmsError(f"{name}: line {reader.line_num}: {error}") from None
    heads = [*(reader.fieldnames or ())]
    if missing := [column for column in needed if column not in heads]:
        raise TbmsError(
            f"{name}: there is no column {missing[0]!r}; those that there are: {', '.join(heads) or 'none'}"
        )
    if not found:
        raise TbmsError(f"{name}: there is nothing under its head")
    return found


def _number(fields: Mapping[str, str | None], column: str, name: str, line: int) -> float:
    try:
        value = float(fields[column] or "")
    except (KeyError, ValueError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise TbmsError(f"{name}: line {line}: {column} is not a number from 0 on (found {fields.get(column)!r})")
    return value


def _whole(fields: Mapping[str, str | None], column: str, name: str, line: int) -> int:
    value = _number(fields, column, name, line)
    if value != int(value):
        raise TbmsError(f"{name}: line {line}: {column} is not a whole number (found {fields.get(column)!r})")
    return int(value)
