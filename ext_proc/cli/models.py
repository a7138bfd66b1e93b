"""`tbms models`, `load`, `unload`, `pin` and `unpin`: a table of models, and commands to a node.

The models of several nodes become one table; a command shows how far its load is while it waits for it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from urllib.parse import quote

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ext_proc.admin.client import AdminPort, printable
from ext_proc.admin.documents import StatusDocument
from ext_proc.cli.admin_client import statuses
from ext_proc.cli.exits import UnknownName, unknown
from ext_proc.cli.node_names import node_names
from ext_proc.cli.output import plain, print_json, span, table
from ext_proc.errors import MissingError, TbmsError
from mesh.near_names import near_names

POLL_SECONDS = 0.2
_HEADINGS = ("model", "version", "state", "nodes", "size", "last used", "in flight", "cause")
_FIGURES = ("size", "last used", "in flight")


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


async def show(out: Console, admins: Sequence[str], names: Sequence[str] = (), *, as_json: bool = False) -> None:
    """Prints the models of all these nodes (or of all nodes of an edge) as one table, or those of `names` alone.

    Raises TbmsError.
    """
    told, away = await statuses(admins)
    rows = rows_of(told)
    for name in names:
        if not any(row.model == name for row in rows):
            raise away or unknown("model", name, (row.model for row in rows))
    rows = [row for row in rows if not names or row.model in names]
    if as_json:
        print_json(out, [asdict(row) for row in rows])
    elif not rows:
        out.print("No models.")
    else:
        out.print(table(_HEADINGS, map(_cells, rows), right=_FIGURES))
    if away is not None:
        raise away


def _cells(row: Row) -> tuple[str, ...]:
    used = "" if row.idle_seconds is None else f"{span(row.idle_seconds)} ago"
    size = decimal(row.size) if row.size else ""
    flying = str(row.in_flight) if row.in_flight else ""
    return row.model, row.version, row.state, ", ".join(row.nodes), size, used, flying, row.cause


def rows_of(statuses: Sequence[tuple[str, StatusDocument]]) -> list[Row]:
    """The lines of the table, in order, of admin ports by name. A node is named by its id, or by its admin address
    where no edge among them knows it. What an edge says of a node is left out where the node speaks for itself.
    """
    ids = node_names(statuses)
    speak = set(ids.values())
    rows: dict[tuple[str, str, str], Row] = {}

    def row(model: str, version: str, state: str, node: str) -> Row:
        key = (model, version, state)
        found = rows.setdefault(key, Row(*key))
        found.nodes.append(node)
        return found

    for name, status in statuses:
        if status["role"] == "edge":
            for model, holders in status["models"].items():
                for node, state in holders.items():
                    if node not in speak:
                        row(model, "", state, node)
            continue
        for each in status["models"]:
            found = row(each["model"], str(each["version"]), each["state"], ids.get(name, name))
            found.size = max(found.size, each["disk_bytes"])
            idle = each["idle_seconds"]
            found.idle_seconds = idle if found.idle_seconds is None else min(found.idle_seconds, idle)
            found.in_flight += each["in_flight"]
            found.state = f"{each['state']}, pinned" if each["pinned"] else found.state
            found.cause = found.cause or each["cause"]
    return [rows[key] for key in sorted(rows)]


async def command(
    out: Console, name: str, model: str, version: int | None, port: AdminPort, *, as_json: bool = False
) -> None:
    """Has a node load, unload, pin or unpin a model, and shows how far it is. Raises TbmsError in the node's words."""
    path = f"/models/{quote(model, safe='')}/{name}"
    params = {} if version is None else {"version": str(version)}
    async with port:
        watching = asyncio.create_task(_watch(out, port, model))
        try:
            answer = await port.command(path, params)
        except MissingError as error:
            raise await _with_nearest(error, port, model) from None
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
    if as_json:
        print_json(out, answer)
        return
    number = answer["version"]
    out.print(plain(f"{model}{'' if number is None else f' version {number}'}: {name} done."))


async def _with_nearest(error: MissingError, port: AdminPort, model: str) -> UnknownName:
    """What the node says of a model that is not there; and models of like names, where it has none of this one."""
    near = ""
    with suppress(TbmsError):
        status = await port.status()
        names = {each["model"] for each in status["models"]} if status["role"] == "node" else set[str]()
        near = "" if model in names else near_names(model, names)
    return UnknownName(f"{error} {near}".rstrip())


async def _watch(out: Console, port: AdminPort, model: str) -> None:
    """A bar for each version of the model that is being fetched or loaded."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bars: dict[int, TaskID] = {}
        while True:
            with suppress(TbmsError):  # the command itself tells what is wrong
                status = await port.status()
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
