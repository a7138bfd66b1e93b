"""What a page has to be told of a process: all of it at first, then what has changed. Pure.

Models are by far the most of a document, and few of them change from one look to the next: they go out apart from the
rest of it, each as a short row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Any,
    NotRequired,  # pydantic takes that of typing from Python 3.12 on
)

from typing_extensions import TypedDict

from ext_proc.admin.documents import EdgeDocument, NodeDocument, StatusDocument

MAX_MODELS = 20_000
"""Of one process: further ones are counted, and not shown."""

Rows = Mapping[str, Any]
"""Of an edge: model -> node id -> state. Of a node: model -> rows of `of_node`, one for each version."""


class Update(TypedDict):
    """One process, as a page is told of it. `whole`: forget what was told before."""

    address: str
    """Of its admin port; empty for the process that serves the page."""
    at: float
    """Seconds on a clock of the process that serves the page."""
    away: str | None
    """Why it could not be asked; then nothing else is told."""
    whole: NotRequired[bool]
    document: NotRequired[Mapping[str, Any]]
    """Its /status without `models`."""
    models: NotRequired[Rows]
    """Those that are new or have changed."""
    gone: NotRequired[Sequence[str]]
    models_left_out: NotRequired[int]


@dataclass
class Known:
    """What pages have been told of one process so far."""

    address: str
    _rows: Rows = field(default_factory=dict)
    _whole: Update | None = None
    _since: Update | None = None

    def see(self, at: float, status: StatusDocument) -> None:
        """The process has said this of itself."""
        rows, left_out = _rows_of(status)
        before, was_away = self._rows, self._whole is None or self._whole["away"] is not None
        rest = {name: value for name, value in status.items() if name != "models"}
        shared: Update = {
            "address": self.address,
            "at": at,
            "away": None,
            "document": rest,
            "models_left_out": left_out,
        }
        self._whole = {**shared, "whole": True, "models": rows}
        changed = {model: row for model, row in rows.items() if before.get(model) != row}
        gone = [model for model in before if model not in rows]
        self._since = self._whole if was_away else {**shared, "whole": False, "models": changed, "gone": gone}
        self._rows = rows

    def miss(self, at: float, why: str) -> None:
        """The process could not be asked."""
        self._rows = {}
        self._whole = self._since = {"address": self.address, "at": at, "away": why}

    def whole(self) -> Update | None:
        """For a page that comes, or has missed an update; None before the first look."""
        return self._whole

    def since(self) -> Update | None:
        """For a page that has had the update before."""
        return self._since


def _rows_of(status: StatusDocument) -> tuple[Rows, int]:
    rows = of_edge(status) if status["role"] == "edge" else of_node(status)
    left_out = status["models_not_shown"] if status["role"] == "edge" else 0
    if len(rows) <= MAX_MODELS:
        return rows, left_out
    return {model: rows[model] for model in sorted(rows)[:MAX_MODELS]}, left_out + len(rows) - MAX_MODELS


def of_edge(status: EdgeDocument) -> Rows:
    """Model -> node id -> state."""
    return {model: dict(holders) for model, holders in status["models"].items()}


def of_node(status: NodeDocument) -> Rows:
    """Model -> for each version: version, state, in flight, waiting, pinned, bytes on disk and in memory, cause."""
    rows: dict[str, list[Sequence[Any]]] = {}
    for each in status["models"]:
        rows.setdefault(each["model"], []).append(
            (
                each["version"],
                each["state"],
                each["in_flight"],
                each["waiting"],
                each["pinned"],
                each["disk_bytes"],
                each["memory_bytes"],
                each["cause"],
            )
        )
    return rows
