"""A recording of calls: the fleet as it was, and changed, side by side."""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ext_proc.broker.plan import AnswerMode
from ext_proc.cli.output import print_json, table
from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve
from ext_proc.planning.curve_files import read_curve
from ext_proc.planning.fleet.cache_node import CacheRules
from ext_proc.planning.fleet.change import FleetChange, read_amount
from ext_proc.planning.fleet.figures import Figures
from ext_proc.planning.fleet.lru_curve import LruCurve
from ext_proc.planning.fleet.profile import in_order, profile_of
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.planning.fleet.simulation import simulate
from ext_proc.recording.files import read_recording
from mesh.near_names import near_names
from mesh.system_words import system_words

RECORDED = "as recorded"
SIMULATED = "simulated"
_CURVE_POINTS = 400


@dataclass(frozen=True, slots=True)
class Row:
    """One fleet: its name, and what it reached."""

    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Answered:
    """What is told of a recording: a row as recorded, one of the same fleet simulated, and one for each change.

    `curve` is the hit share of one cache with the places of all nodes.
    """

    rows: Sequence[Row]
    curve: LruCurve


def _positive(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise TbmsError(f"{name}: a number above 0 was expected (found {text!r})")
    return value


def _whole(text: str, name: str) -> int:
    value = read_amount(text, name)
    if value.relative or value.number < 1:
        raise TbmsError(f"{name}: a number from 1 on was expected (found {text!r})")
    return value.number


def _answer(text: str, name: str) -> AnswerMode:
    try:
        return AnswerMode(text)
    except ValueError:
        raise TbmsError(f"{name}: {' or '.join(AnswerMode)} was expected (found {text!r})") from None


_WORDS: dict[str, Callable[[str, str], object]] = {
    "nodes": read_amount,
    "slots": read_amount,
    "replicas": _whole,
    "max-replicas": _whole,
    "limit-ms": _positive,
    "margin-ms": _positive,
    "answer": _answer,
    "hedge-share": _positive,
    "hedge-burst-ms": _positive,
}


def read_change(text: str) -> tuple[FleetChange, Path | None]:
    """`nodes=-1 slots=+50 no-backups`: words of one changed fleet, and the file of its nodes' configuration, if it has
    another one. Raises TbmsError that names the nearest word.
    """
    change = FleetChange()
    config: Path | None = None
    for part in text.replace(",", " ").split():
        word, equals, value = part.partition("=")
        if word == "no-backups" and not equals:
            change = replace(change, backups=False)
        elif word == "without" and value:
            change = replace(change, without=(*change.without, value))
        elif word == "node-config" and value:
            config = Path(value)
        elif word in _WORDS and equals:
            change = replace(change, **{word.replace("-", "_"): _WORDS[word](value, word)})  # type: ignore[arg-type]
        else:
            hint = near_names(word, [*_WORDS, "without", "node-config", "no-backups"])
            raise TbmsError(f"--what-if: {part!a} is no change of a fleet. {hint}".rstrip())
    if change == FleetChange() and config is None:
        raise TbmsError("--what-if: nothing is changed by it")
    return change, config


def changes_of(
    change: FleetChange, texts: Iterable[str], rules: NodeRules, curves: Mapping[str, Curve]
) -> list[tuple[str, FleetChange, NodeRules]]:
    """Each changed fleet: that of the options, if they change something, and one for each text. Raises TbmsError."""
    changes = [] if change == FleetChange() else [(change.name, change, rules)]
    for text in texts:
        read, config = read_change(text)
        name = ", ".join([*([read.name] if read.name else []), *([f"node-config {config.name}"] if config else [])])
        changes.append((name, read, rules if config is None else rules_of(config, curves)))
    return changes


def answered(
    paths: Sequence[Path], changes: Iterable[tuple[str, FleetChange, NodeRules]], rules: NodeRules, warm_up: float
) -> Answered:
    """Reads the recording, and plays it against the fleet as it was and as each change makes it. Raises TbmsError.

    `changes` have a name, and the rules of their nodes; `rules` are those of the fleet as it was.
    """
    gc.disable()  # millions of values come and go, and none is part of a circle
    try:
        profile = profile_of(read_recording(paths), warm_up)
        if not profile.recorded.calls:
            raise TbmsError(f"{paths[0]}: no call was recorded" + (" after the warm-up" if warm_up else ""))
        rows = [Row(RECORDED, profile.recorded)]
        for name, change, changed_rules in ((SIMULATED, FleetChange(), rules), *changes):
            calls = in_order(read_recording(paths))
            rows.append(Row(name, simulate(profile, calls, change, changed_rules, warm_up)))
    finally:
        gc.enable()
    return Answered(rows, profile.curve)


def show(result: Answered, out: Console) -> None:
    """Prints a table, a fleet a row."""
    seconds = result.rows[0].figures.seconds
    calls = result.rows[0].figures.calls
    out.print(f"{calls:,} calls in {seconds:,.0f} s; {result.curve.models:,} models")
    headings = ("fleet", "nodes", "slots", "hit share", "answered", "loads", "cold seconds", "busy")
    rows = [_cells(row) for row in result.rows]
    out.print(table(headings, rows, right=headings[1:]))


def _cells(row: Row) -> list[object]:
    figures = row.figures
    return [
        row.name,
        figures.nodes,
        "" if figures.slots is None else figures.slots,
        "" if figures.hit_share is None else _percent(figures.hit_share),
        _percent(figures.answered_share),
        "" if figures.loads is None else f"{figures.loads:,}",
        "" if figures.cold_seconds is None else f"{figures.cold_seconds:,.0f}",
        f"{figures.busy:.2f}",
    ]


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def show_json(result: Answered, out: Console) -> None:
    """Prints one document. Shares are from 0 to 1; `curve` are pairs of slots and the hit share of one cache."""
    rows = [{"fleet": row.name, **_document(row.figures)} for row in result.rows]
    print_json(out, {"rows": rows, "models": result.curve.models, "curve": points(result.curve)})


def _document(figures: Figures) -> dict[str, Any]:
    shares = {"hit_share": figures.hit_share, "answered_share": figures.answered_share, "busy": figures.busy}
    return asdict(figures) | shares


def points(curve: LruCurve) -> list[tuple[int, float]]:
    """The curve in so many points that a line through them looks the same."""
    every = curve.points()
    step = max(1, len(every) // _CURVE_POINTS)
    kept = every[::step]
    return kept if not every or kept[-1] == every[-1] else [*kept, every[-1]]


def drawing() -> Callable[[Answered, Path], None]:
    """What draws hit share against slots; to be asked for before minutes of replaying. Raises TbmsError."""
    try:
        from ext_proc.cli.replay.plot import draw
    except ImportError:
        raise TbmsError("--png: matplotlib draws it, and is not installed: pip install 'tbms[demo]'") from None
    return draw


def draw_to(file: Path, result: Answered) -> None:
    """Draws hit share against slots. Raises TbmsError."""
    try:
        drawing()(result, file)
    except OSError as error:
        raise TbmsError(f"{file}: cannot be written: {system_words(error)}") from None


def read_curves(texts: Iterable[str]) -> dict[str, Curve]:
    """`model=FILE`, with the batch times that `tbms plan --save-curve` wrote. Raises TbmsError."""
    curves = {}
    for text in texts:
        model, equals, name = text.partition("=")
        if not (model and equals and name):
            raise TbmsError(f"--curve: model=FILE was expected (found {text!r})")
        try:
            curves[model] = read_curve(Path(name).read_text(encoding="utf-8"), f"--curve {name}")
        except (OSError, UnicodeDecodeError) as error:
            raise TbmsError(f"--curve {name}: cannot be read: {system_words(error)}") from None
    return curves


def rules_of(config: Path | None, curves: Mapping[str, Curve]) -> NodeRules:
    """What the configuration of a node says of its cache and its batches; else the defaults. Raises TbmsError."""
    if config is None:
        return NodeRules()
    from ext_proc.config import load

    node = load(config).node
    if node is None:
        raise TbmsError(f"{config}: there is no node section in it")
    cache = node.cache
    rules = CacheRules(cache.min_age_seconds, cache.pinned, cache.reserve.models, cache.room_seconds)
    return NodeRules(rules, node.batching, curves)
