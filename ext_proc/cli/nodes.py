"""`tbms nodes`: the nodes of edges as these see them, and of nodes what they say of themselves."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.filesize import decimal

from ext_proc.admin.documents import Amounts, EdgeDocument, NodeDocument, StatusDocument
from ext_proc.cli.admin_client import statuses
from ext_proc.cli.exits import unknown
from ext_proc.cli.node_names import node_names
from ext_proc.cli.output import plain, print_json, table

_HEADINGS = ("node", "seen by", "state", "zone", "load", "models", "free", "why")


@dataclass
class Row:
    """One line: a node, who says so, and how it is. `load` is in calls in flight; `free` is room for models."""

    node: str
    seen_by: str
    state: str
    zone: str
    load: float
    models: int
    free: str
    why: str


async def show(out: Console, admins: Sequence[str], names: Sequence[str] = (), *, as_json: bool = False) -> None:
    """Prints the nodes that these ports know of, or those of `names` alone. Raises TbmsError."""
    told, away = await statuses(admins)
    rows = rows_of(told)
    for name in names:
        if not any(row.node == name for row in rows):
            raise away or unknown("node", name, (row.node for row in rows))
    rows = [row for row in rows if not names or row.node in names]
    if as_json:
        print_json(out, [asdict(row) for row in rows])
    else:
        out.print(table(_HEADINGS, map(_cells, rows), right=("load", "models")) if rows else "No nodes.")
        for name, status in told:
            for sentence in status["left_out"] if status["role"] == "edge" else ():
                out.print(plain(f"{name}: left out: {sentence}"))
    if away is not None:
        raise away


def rows_of(statuses: Sequence[tuple[str, StatusDocument]]) -> list[Row]:
    """The lines of the table by the names of nodes: ids, or the admin address of one that no edge among these knows."""
    rows: list[Row] = []
    ids = node_names(statuses)
    for name, status in statuses:
        rows += _seen_by_edge(name, status) if status["role"] == "edge" else [_itself(ids.get(name, name), status)]
    return sorted(rows, key=lambda row: (row.node, row.seen_by))


def _cells(row: Row) -> tuple[object, ...]:
    return (row.node, row.seen_by, row.state, row.zone, f"{row.load:g}", row.models, row.free, row.why)


def _seen_by_edge(name: str, status: EdgeDocument) -> Iterable[Row]:
    held = Counter(holder for holders in status["models"].values() for holder in holders)
    for node in status["nodes"]:
        told = node["residency"]
        state, why, free = "alive", "", ""
        if not node["alive"]:
            state, why = "dead", node["cause"] or ""
        elif told is not None and told["leaving"]:
            state = "leaving"
        elif told is not None and not told["heard"]:
            state, why = "not heard", told["cause"] or ""
        if told is not None and told["free_models"] is not None:
            free = f"{told['free_models']:g} models"
        yield Row(node["id"], name, state, node["zone"], node["load"], held[node["id"]], free, why)


def _itself(name: str, status: NodeDocument) -> Row:
    away = status["model_server"]
    state, why = ("alive", "") if away == "ok" else ("server away", away)
    if status["draining"]:
        state = "leaving"
    in_flight = sum(model["in_flight"] for model in status["models"])
    held = sum(model["state"] == "available" for model in status["models"])
    return Row(name, "itself", state, "", in_flight, held, _room(status["free"]), why)


def _room(free: Amounts) -> str:
    parts = [] if free["models"] is None else [f"{free['models']:g} models"]
    parts += [] if free["disk_bytes"] is None else [f"{decimal(int(free['disk_bytes']))} of disk"]
    parts += [] if free["memory_bytes"] is None else [f"{decimal(int(free['memory_bytes']))} of memory"]
    return ", ".join(parts)
