"""Recorded races again, exactly, and then under other rules, side by side."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ext_proc.broker.race_summary import RaceSummary
from ext_proc.broker.record import RaceRecord, read_records
from ext_proc.broker.replay import replay_all
from ext_proc.broker.whatif import WhatIf, what_if
from ext_proc.cli.exits import UnknownName
from ext_proc.cli.output import print_json
from ext_proc.errors import TbmsError
from mesh.near_names import near_names
from mesh.system_words import system_words


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a recording came to: as it was, and under the changed rules (None: nothing was to be changed).

    `different` are the places of races in the recording whose decisions were not reproduced; there should be none.
    """

    recorded: RaceSummary
    different: Sequence[int]
    changed: RaceSummary | None


def replayed(path: Path, change: WhatIf) -> Replayed:
    """Reads and replays a log of JSON lines. Raises TbmsError for a file without races, or with broken ones, and for
    another estimate of a model that none of them asks.
    """
    records = _read(path)
    asked = {candidate.title for record in records for _, candidate in record.plan().calls()}
    for title in change.estimates_ms:
        if title not in asked:
            raise UnknownName(f"--estimate: no race has asked {title!a}. {near_names(title, asked)}".rstrip())
    summary, different = replay_all(records)
    return Replayed(summary, different, None if change == WhatIf() else what_if(records, change))


def show(result: Replayed, accuracy: Mapping[int, float], console: Console) -> None:
    """Prints the result as a table. `accuracy` by rank, from 0 to 1; without it there is no line for it."""
    total, lost = result.recorded.races, len(result.different)
    console.print(f"{total} races, {total - lost} reproduced exactly, {lost} not reproduced")
    summaries = [result.recorded] if result.changed is None else [result.recorded, result.changed]
    table = Table(show_edge=False)
    table.add_column("")
    for title in ("recorded", "what if")[: len(summaries)]:
        table.add_column(title, justify="right")
    for name, figure in _rows(summaries, accuracy):
        table.add_row(name, *map(figure, summaries))
    console.print(table)


def show_json(result: Replayed, accuracy: Mapping[int, float], console: Console) -> None:
    """Prints the same as one JSON document. Shares are from 0 to 1."""
    document: dict[str, object] = {
        "races": result.recorded.races,
        "different": list(result.different),
        "recorded": _figures(result.recorded, accuracy),
    }
    if result.changed is not None:
        document["what_if"] = _figures(result.changed, accuracy)
    print_json(console, document)


def _figures(summary: RaceSummary, accuracy: Mapping[int, float]) -> dict[str, object]:
    figures: dict[str, object] = {
        "answered_share": summary.answered_share,
        "by_rank": {str(rank): count for rank, count in sorted(summary.by_rank.items())},
        "partial": summary.partial,
        "late": summary.late,
        "fallbacks": summary.fallbacks,
        "errors": summary.errors,
        "gone": summary.gone,
        "extra_work": summary.extra_work,
    }
    return figures | ({"accuracy": summary.accuracy(accuracy)} if accuracy else {})


def pairs(texts: Iterable[str], option: str) -> dict[str, float]:
    """`name=number` of a repeated option. Raises TbmsError that says which one is not."""
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not name or not 0 <= value < float("inf"):
            raise TbmsError(f"{option}: name=number was expected, with a number that is not negative (found {text!r})")
        found[name] = value
    return found


def by_rank(texts: Iterable[str]) -> dict[int, float]:
    """`rank=share`, the accuracy of the models of each rank. Raises TbmsError."""
    found = {}
    for rank, share in pairs(texts, "--accuracy").items():
        if not rank.isdecimal() or share > 1:
            raise TbmsError(f"--accuracy: rank=share was expected, with a share from 0 to 1 (found {rank}={share:g})")
        found[int(rank)] = share
    return found


def _read(path: Path) -> list[RaceRecord]:
    try:
        with path.open(encoding="utf-8") as lines:
            records = list(read_records(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise TbmsError(f"{path}: cannot be read: {system_words(error)}") from None
    except TbmsError as error:
        raise TbmsError(f"{path}: {error}") from None
    if not records:
        raise TbmsError(f"{path}: there is no race in it; a server logs them as JSON lines at level info")
    return records


def _rows(
    summaries: Sequence[RaceSummary], accuracy: Mapping[int, float]
) -> Iterable[tuple[str, Callable[[RaceSummary], str]]]:
    """The table's lines: a name, and the figure of one summary."""
    yield "answered by the limit", lambda summary: _percent(summary.answered_share)
    for rank in sorted(set().union(*(summary.by_rank for summary in summaries))):
        yield f"  by rank {rank}", lambda summary, rank=rank: _share(summary, summary.by_rank[rank])  # type: ignore[misc]
    yield "  partial mixes", lambda summary: _share(summary, summary.partial)
    yield "late", lambda summary: _share(summary, summary.late)
    yield "fallback answers", lambda summary: _share(summary, summary.fallbacks)
    yield "errors", lambda summary: _share(summary, summary.errors)
    yield "client left before", lambda summary: str(summary.gone)
    if accuracy:
        yield "accuracy, no answer counts as wrong", lambda summary: _percent(summary.accuracy(accuracy))
    yield "extra work", lambda summary: _percent(summary.extra_work)


def _share(summary: RaceSummary, count: int) -> str:
    return _percent(count / summary.finished if summary.finished else 0.0)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
