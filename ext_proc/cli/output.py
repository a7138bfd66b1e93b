"""What commands print: tables for people, one JSON document for programs."""

import json
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ext_proc.cli.admin_client import printable

_PIPE_WIDTH = 10_000


def console() -> Console:
    """Standard output. What is piped into another program is not cut to the width of a terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=_PIPE_WIDTH)


def print_json(out: Console, document: object) -> None:
    """One document, indented, as it is: no markup, no colours, no line cut."""
    out.file.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def plain(text: object) -> Text:
    """Text as it is: no markup, and nothing that a terminal obeys."""
    return Text(printable(str(text)))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """A table without lines; columns whose heading is in `right` hold figures."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        if heading in right:
            made.add_column(heading, justify="right")
        else:
            made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*map(plain, row))
    return made


def span(seconds: float) -> str:
    """A time in its largest unit, rounded."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def share(part: float | None) -> str:
    """A share from 0 to 1 as per cent; empty where there is none."""
    return "" if part is None else f"{100 * part:.1f} %"
