"""`tbms top`: who does what at the moment, again and again: rates, and the busiest nodes and models."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console, Group
from rich.live import Live

from ext_proc.admin.client import AdminPort
from ext_proc.admin.documents import StatusDocument
from ext_proc.cli import nodes
from ext_proc.cli.admin_client import ports, told_by
from ext_proc.cli.node_names import node_names
from ext_proc.cli.output import plain, print_json, share, table
from ext_proc.errors import TbmsError

_ROWS = 20


@dataclass
class Look:
    """One look at one process. Rates are calls a second since the look before; None at the first."""

    name: str
    role: str
    in_work: int
    rates: dict[str, float] | None
    known_share: float | None
    nodes: list[nodes.Row]
    models: list[tuple[str, int]]
    """The models of a node with calls in flight, the busiest first."""
    away: str = ""
    """Why the process could not be asked; then nothing else is told."""
    calls: dict[str, int] = field(default_factory=dict)


async def show(
    out: Console, admins: Sequence[str], interval: float, count: int | None, *, as_json: bool = False
) -> None:
    """Shows these ports every `interval` seconds, `count` times or until interrupted. Raises TbmsError at the
    start, where none of them answers.
    """
    async with ports(admins) as found:
        told, _ = await told_by(found)
        ids, first = node_names(told), {name: look(name, status, None, interval, {}) for name, status in told}
        last = [first.get(port.name) or Look(port.name, "", 0, None, None, [], []) for port in found]
        at, looks = time.monotonic(), 0
        with Live(console=out, auto_refresh=False, screen=out.is_terminal, transient=True) as live:
            while count is None or looks < count:
                await asyncio.sleep(interval)
                now = time.monotonic()
                seen = await asyncio.gather(
                    *(_look_at(port, before, now - at, ids) for port, before in zip(found, last, strict=True))
                )
                at, looks, last = now, looks + 1, list(seen)
                if as_json:
                    print_json(out, [asdict(each) for each in last])
                elif out.is_terminal:
                    live.update(picture(last), refresh=True)
                else:
                    out.print(picture(last))


async def _look_at(port: AdminPort, before: Look, seconds: float, ids: Mapping[str, str]) -> Look:
    try:
        # A role is what a process has that was seen before.
        return look(port.name, await port.status(), before.calls if before.role else None, seconds, ids)
    except TbmsError as error:
        return Look(before.name, before.role, 0, None, None, [], [], str(error), before.calls)


def look(
    name: str, status: StatusDocument, before: dict[str, int] | None, seconds: float, ids: Mapping[str, str]
) -> Look:
    """What the document says, `seconds` after the calls by outcome were `before`; `ids` as `node_names` has them."""
    calls = dict(status.get("calls", {}))
    rates = None
    if before is not None and seconds > 0:
        gained = {outcome: count - before.get(outcome, 0) for outcome, count in calls.items()}
        rates = {outcome: round(max(0, count) / seconds, 1) for outcome, count in gained.items() if count > 0}
    known = None
    if status["role"] == "edge" and rates:
        known = rates.get("known", 0.0) / sum(rates.values())
    busy: list[tuple[str, int]] = []
    if status["role"] == "node":
        busy = [(each["model"], each["in_flight"]) for each in status["models"] if each["in_flight"]]
        busy.sort(key=lambda each: -each[1])
    rows = sorted(nodes.rows_of([(ids.get(name, name), status)]), key=lambda row: (-row.load, row.node))
    return Look(name, status["role"], status["streams"], rates, known, rows[:_ROWS], busy[:_ROWS], calls=calls)


def picture(looks: Sequence[Look]) -> Group:
    """All of it for the terminal."""
    processes = [
        (each.name, each.role, _total(each), _parts(each), share(each.known_share), each.in_work) for each in looks
    ]
    headings = ("process", "role", "calls/s", "of these", "known", "in work")
    parts: list[object] = [table(headings, processes, right=("calls/s", "known", "in work"))]
    rows = [row for each in looks for row in each.nodes]
    if rows:
        cells = [(row.node, row.seen_by, row.state, f"{row.load:g}", row.models, row.why) for row in rows]
        headings = ("node", "seen by", "state", "load", "models", "why")
        parts += ["", table(headings, cells, right=("load", "models"))]
    models = [(each.name, model, flying) for each in looks for model, flying in each.models]
    if models:
        parts += ["", table(("node", "model", "in flight"), models, right=("in flight",))]
    return Group(*(plain(part) if isinstance(part, str) else part for part in parts))  # type: ignore[arg-type]


def _total(each: Look) -> str:
    return "" if each.rates is None else f"{sum(each.rates.values()):.1f}"


def _parts(each: Look) -> str:
    if each.away:
        return each.away
    return ", ".join(f"{outcome} {rate:g}" for outcome, rate in (each.rates or {}).items())
