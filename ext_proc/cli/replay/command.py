"""`tbms replay`: which recording is run again, and under which other rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ext_proc.broker.plan import AnswerMode
from ext_proc.cli.exits import Exit
from ext_proc.cli.operating import AsJson
from ext_proc.errors import TbmsError

if TYPE_CHECKING:
    from ext_proc.planning.fleet.change import FleetChange

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def replay(
    recorded: Annotated[
        list[Path],
        typer.Argument(help="A server's log of JSON lines; or recordings of calls: folders, or files, of each edge."),
    ],
    nodes: Annotated[
        str | None, typer.Option(help="Calls: another number of nodes, or more or fewer: 4, +1, -1.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Calls: a node that is not there; may be repeated.")] = None,
    slots: Annotated[str | None, typer.Option(help="Calls: places for models of each node: 50, +50, -10.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=64, help="Calls: another `routing.replicas`.")] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, max=64, help="Calls: another `routing.max_replicas`.")
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(help="Calls: one more changed fleet, as 'nodes=-1 slots=+50 limit-ms=80'; may be repeated."),
    ] = None,
    limit_ms: Annotated[float | None, typer.Option(min=0, help="Another limit for every race.")] = None,
    margin_ms: Annotated[float | None, typer.Option(min=0, help="Another margin before the limit.")] = None,
    answer: Annotated[AnswerMode | None, typer.Option(help="Another policy.")] = None,
    estimate: Annotated[
        list[str] | None, typer.Option(help="Log: model=ms, another estimate; may be repeated.")
    ] = None,
    hedge_share: Annotated[float | None, typer.Option(min=0, max=1, help="Another hedge budget.")] = None,
    hedge_burst_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Another bound on what the hedge budget saves up.")
    ] = None,
    backups: Annotated[bool, typer.Option(help="With or without backups.")] = True,
    accuracy: Annotated[
        list[str] | None, typer.Option(help="Log: rank=share right, from 0 to 1; may be repeated.")
    ] = None,
    warm_up: Annotated[float, typer.Option(min=0, help="Calls: seconds at the beginning that do not count.")] = 0.0,
    node_config: Annotated[
        Path | None, typer.Option(help="Calls: a node's configuration, for the rules of its cache and of batches.")
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(help="Calls: model=FILE, batch times that `tbms plan --save-curve` wrote; may be repeated."),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Calls: draw hit share against slots; takes matplotlib.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded races, or recorded calls before a whole fleet, again: as they were, and under other rules."""
    from ext_proc.planning.fleet.change import FleetChange, read_amount
    from ext_proc.recording.files import is_recording

    change = FleetChange(
        nodes=None if nodes is None else read_amount(nodes, "--nodes"),
        without=tuple(without or ()),
        slots=None if slots is None else read_amount(slots, "--slots"),
        replicas=replicas,
        max_replicas=max_replicas,
        limit_ms=limit_ms,
        margin_ms=margin_ms,
        answer=answer,
        hedge_share=hedge_share,
        hedge_burst_ms=hedge_burst_ms,
        backups=backups,
    )
    if all(map(is_recording, recorded)):
        if estimate or accuracy:
            raise TbmsError("--estimate and --accuracy are for a log of races, and this is a recording of calls")
        _replay_calls(recorded, change, what_if or (), node_config, curve or (), warm_up, png, as_json)
        return
    for_calls = (nodes, without, slots, replicas, max_replicas, what_if, node_config, curve, png, warm_up or None)
    if len(recorded) > 1 or any(option is not None for option in for_calls):
        raise TbmsError(f"{recorded[0]}: it is no recording of calls, and of a log of races no fleet can be told")
    _replay_races(recorded[0], change, estimate or (), accuracy or (), as_json)


def _replay_calls(
    recorded: Sequence[Path],
    change: "FleetChange",
    what_if: Sequence[str],
    node_config: Path | None,
    curve: Sequence[str],
    warm_up: float,
    png: Path | None,
    as_json: bool,
) -> None:
    """Of a recording: all calls, before each fleet."""
    from ext_proc.cli.output import console
    from ext_proc.cli.replay import fleet

    if png is not None:
        fleet.drawing()
    curves = fleet.read_curves(curve)
    rules = fleet.rules_of(node_config, curves)
    changes = fleet.changes_of(change, what_if, rules, curves)
    if curves and not any(each.batching for each in (rules, *(each for _, _, each in changes))):
        raise TbmsError("--curve: batch times are of use only with a --node-config that has node.batching")
    result = fleet.answered(recorded, changes, rules, warm_up)
    if png is not None:
        fleet.draw_to(png, result)
    (fleet.show_json if as_json else fleet.show)(result, console())


def _replay_races(
    log: Path, change: "FleetChange", estimate: Sequence[str], accuracy: Sequence[str], as_json: bool
) -> None:
    """Of a log: races one by one."""
    from ext_proc.broker.whatif import WhatIf
    from ext_proc.cli.output import console
    from ext_proc.cli.replay import races

    rules = WhatIf(
        change.limit_ms,
        change.margin_ms,
        change.answer,
        races.pairs(estimate, "--estimate"),
        change.hedge_share,
        change.hedge_burst_ms,
        change.backups,
    )
    right = races.by_rank(accuracy)
    result = races.replayed(log, rules)
    (races.show_json if as_json else races.show)(result, right, console())
    if result.different:
        raise typer.Exit(Exit.FAILED)
