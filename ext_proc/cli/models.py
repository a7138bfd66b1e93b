"""`tbms models`, `load`, `unload`, `pin` and `unpin`: a table of models, and commands to a node.

The models of several nodes become one table; a command shows how far its load is while it waits for it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ext_proc.admin.documents import StatusDocument
from ext_proc.cli.admin_client import base_url, get_status, post_command, printable, session
from ext_proc.errors import TbmsError

POLL_SECONDS = 0.2
_PIPE_WIDTH = 10_000


@dataclass
class Row:
    """One line of the table: all nodes on which this version stands in this state."""

    model: str
    version: str
    state: str
    nodes: list[str] = field(default_factory=list)
    size: int = 0
    idle_seconds: float | None = None
    in_flight: int = 0
    cause: str = ""


def console() -> Console:
    """Standard output. What is piped into another program is not cut to the width of a terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=_PIPE_WIDTH)


async def show(out: Console, admins: Sequence[str]) -> None:
    """Prints the models of all these nodes (or of all nodes of an edge) as one table. Raises TbmsError."""
    urls = [base_url(admin) for admin in admins]
    async with session() as http:
        statuses = await asyncio.gather(*(get_status(http, url) for url in urls))
    rows = rows_of(zip(urls, statuses, strict=True))
    if not rows:
        out.print("No models.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("model", "version", "state", "nodes"):
        table.add_column(heading, overflow="fold")
    for heading in ("size", "last used", "in flight"):
        table.add_column(heading, justify="right")
    table.add_column("cause", overflow="fold")
    for row in rows:
        used = "" if row.idle_seconds is None else f"{_span(row.idle_seconds)} ago"
        size = decimal(row.size) if row.size else ""
        flying = str(row.in_flight) if row.in_flight else ""
        texts = (row.model, row.version, row.state, ", ".join(row.nodes), size, used, flying, row.cause)
        table.add_row(*map(_plain, texts))
    out.print(table)


def rows_of(statuses: Iterable[tuple[str, StatusDocument]]) -> list[Row]:
    """The lines of the table, in order, of admin ports by URL. A node is named by its admin address, or by its id in
    what an edge says of it.
    """
    rows: dict[tuple[str, str, str], Row] = {}

    def row(model: str, version: str, state: str, node: str) -> Row:
        key = (model, version, state)
        found = rows.setdefault(key, Row(*key))
        found.nodes.append(node)
        return found

    for url, status in statuses:
        if status["role"] == "edge":
            for model, holders in status["models"].items():
                for node, state in holders.items():
                    row(model, "", state, node)
            continue
        for each in status["models"]:
            found = row(each["model"], str(each["version"]), each["state"], url.removeprefix("http://"))
            found.size = max(found.size, each["disk_bytes"])
            idle = each["idle_seconds"]
            found.idle_seconds = idle if found.idle_seconds is None else min(found.idle_seconds, idle)
            found.in_flight += each["in_flight"]
            found.state = f"{each['state']}, pinned" if each["pinned"] else found.state
            found.cause = found.cause or each["cause"]
    return [rows[key] for key in sorted(rows)]


async def command(out: Console, name: str, model: str, version: int | None, admin: str) -> None:
    """Has a node load, unload, pin or unpin a model, and shows how far it is. Raises TbmsError in the node's words."""
    url = base_url(admin)
    path = f"{url}/models/{quote(model, safe='')}/{name}"
    params = {} if version is None else {"version": str(version)}
    async with session() as http:
        watching = asyncio.create_task(_watch(out, http, url, model))
        try:
            answer = await post_command(http, path, params)
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
    number = answer["version"]
    out.print(_plain(f"{model}{'' if number is None else f' version {number}'}: {name} done."))


async def _watch(out: Console, http: aiohttp.ClientSession, url: str, model: str) -> None:
    """A bar for each version of the model that is being fetched or loaded."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bars: dict[int, TaskID] = {}
        while True:
            with suppress(TbmsError):  # the command itself tells what is wrong
                status = await get_status(http, url)
                for each in status["models"] if status["role"] == "node" else ():
                    if each["model"] != model or each["state"] not in ("fetching", "loading", "draining"):
                        continue
                    version = each["version"]
                    if version not in bars:
                        bars[version] = progress.add_task("", total=None)
                    words = printable(f"{each['state']} {model} {version}")
                    total = each["disk_bytes"] or None
                    progress.update(bars[version], description=words, completed=each["fetched_bytes"], total=total)
            await asyncio.sleep(POLL_SECONDS)


def _plain(text: str) -> Text:
    """Text as it is: no markup."""
    return Text(printable(text))


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
