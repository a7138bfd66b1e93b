"""What `tbms plan` prints: tables for people, one JSON document for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ext_proc.admin.client import printable
from ext_proc.planning.configuration import write_batching
from ext_proc.planning.curve import Curve
from ext_proc.planning.exactness import Finding, OutputFinding, Verdict
from ext_proc.planning.plan import MOST_GPUS, TAIL, Operation, Plan

_NOISY = 0.2
_ADVICE = {
    Verdict.SAME: "Every row got the same bits in company as alone.",
    Verdict.DIFFERENT: "Rows get other bits in company than alone. Where that matters, leave cross_request off for "
    "this model, or set exact: true, with which it is batched only until a difference is seen.",
    Verdict.UNSTEADY: "One row gets different answers even alone: nothing can be said about company.",
    Verdict.ONE_ROW: "Every row got the same bits in company as alone, but all rows were the same one. Give several "
    "with --request, which may be repeated: a scale over the whole batch shows only beside other rows.",
}


def show(curve: Curve, plan: Plan, console: Console) -> None:
    """Prints the plan. `curve`: all batch times that are known; that of the plan ends with the chosen size."""
    wishes, line = plan.wishes, curve.line()
    console.print(_curve_table(curve))
    noise = max(point.deviation / point.seconds for point in curve.points)
    if noise > _NOISY:
        console.print(
            f"Times of one size vary by up to {noise:.0%}: a quieter server, or more --repeats, tells better."
        )
    console.print(
        f"As a line: {_ms(line.constant)} + {_ms(line.slope)} a row, off by {line.error:.0%} at most.\n"
        f"max_rows {plan.curve.max_rows}: {_why_rows(plan)}\n"
        f"At most {plan.capacity:.4g} QPS on {_gpus(wishes.gpus)}.\n"
    )
    console.print(_table(f"{wishes.model} on {_gpus(wishes.gpus)}", "QPS", plan.by_qps, plan))
    if plan.knee is not None:
        console.print(
            f"The knee is at {plan.knee.load.qps:g} QPS, {plan.knee.load.share:.0%} of what is possible: beyond it lag "
            "rises faster than throughput.\n"
        )
    if plan.by_gpus:
        console.print(_table(f"{wishes.model} at {wishes.qps:g} QPS", "GPUs", plan.by_gpus, plan))
    if wishes.lag is not None and wishes.qps is not None:
        console.print(_needed(plan) + "\n")
    console.print("Lag: from arrival to answer, of calls that come evenly spaced, and independently (Poisson).\n")


def document(curve: Curve, plan: Plan) -> dict[str, Any]:
    """The plan for programs: seconds, QPS, and None for what has no bound."""
    wishes = {key: value for key, value in asdict(plan.wishes).items() if value is not None}
    return {
        "wishes": wishes,
        "curve": [asdict(point) for point in curve.points],
        "line": asdict(curve.line()),
        "max_rows": plan.curve.max_rows,
        "capacity": plan.capacity,
        "by_qps": [_operation(each) for each in plan.by_qps],
        "knee": None if plan.knee is None else _operation(plan.knee),
        "by_gpus": [_operation(each) for each in plan.by_gpus],
        "gpus_needed": plan.needed,
        "batching": plan.settings.model_dump(mode="json", exclude_defaults=True) | {"slots": plan.settings.slots},
    }


def configuration(plan: Plan) -> str:
    """The YAML, with what it rests on as a comment."""
    wishes = plan.wishes
    lag = "" if wishes.lag is None else f", {TAIL:.0%} within {_ms(wishes.lag)}"
    rate = "" if wishes.qps is None else f", {wishes.qps:g} QPS"
    return f"# tbms plan: {wishes.model} on {_gpus(wishes.gpus)}{rate}{lag}\n{write_batching(plan.settings)}"


def show_finding(finding: Finding, console: Console) -> None:
    """Prints what `--check-batching` has found."""
    sizes = ", ".join(map(str, finding.sizes))
    distinct = "one row" if finding.distinct_rows == 1 else f"{finding.distinct_rows} different rows"
    console.print(f"{finding.compared} answers in batches of {sizes} rows, to {distinct}")
    table = Table(show_edge=False)
    for title in ("output", "differ", "largest difference", "ULPs", "in a batch of", "at place"):
        table.add_column(title, justify="left" if title == "output" else "right")
    for output in finding.outputs:
        table.add_row(*map(Text, _output_cells(output)))
    console.print(table)
    if finding.unsteady:
        console.print(f"Different when asked alone twice: {printable(', '.join(finding.unsteady))}", markup=False)
    console.print(f"{finding.verdict}: {_ADVICE[finding.verdict]}")


def finding_document(finding: Finding) -> dict[str, Any]:
    """The finding for programs. An infinite difference is None."""
    outputs = [asdict(replace(each, absolute=0.0)) | {"absolute": _finite(each.absolute)} for each in finding.outputs]
    return asdict(finding) | {"verdict": str(finding.verdict), "outputs": outputs}


def as_json(document: Any) -> str:
    """One JSON text."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def _curve_table(curve: Curve) -> Table:
    table = Table(show_edge=False)
    for title in ("rows", "median", "deviation", "rows a second"):
        table.add_column(title, justify="right")
    for point in curve.points:
        deviation = f"± {_ms(point.deviation)}" if point.repeats > 1 else ""
        table.add_row(str(point.rows), _ms(point.seconds), deviation, f"{point.rows / point.seconds:.4g}")
    return table


def _why_rows(plan: Plan) -> str:
    lag, seconds = plan.wishes.lag, plan.curve.seconds(plan.curve.max_rows)
    if lag is None:
        return "the most rows a second."
    if 2 * seconds <= lag:
        return f"the most rows a second of the sizes of which two batches take {_ms(lag)} at most."
    return f"two batches of any size take at least {_ms(2 * seconds)}, over the limit of {_ms(lag)}."


def _table(title: str, first: str, operations: Sequence[Operation], plan: Plan) -> Table:
    table = Table(title=Text(title), title_justify="left", show_edge=False)
    limit, priced = plan.wishes.lag, plan.wishes.price is not None
    heads = [first, "load", "rows of a batch", "lag, even", "lag, Poisson", f"its {TAIL * 100:.0f} %"]
    for head in [*heads, *(["$ per million"] if priced else []), *([f"≤ {_ms(limit)}"] if limit is not None else [])]:
        table.add_column(head, justify="right")
    for each in operations:
        load = each.load
        cells = [f"{load.qps:g}" if first == "QPS" else str(load.gpus), f"{load.share:.0%}", f"{load.rows:.1f}"]
        cells += [_ms(each.even), _ms(each.mean), _ms(each.tail)]
        if priced:
            cells.append("" if each.cost is None else f"{each.cost:.4g}")
        if limit is not None:
            cells.append("yes" if each.tail <= limit else "no")
        table.add_row(*cells, style="bold" if each is plan.knee else None)
    return table


def _needed(plan: Plan) -> str:
    wishes = plan.wishes
    assert wishes.lag is not None
    what = f"{TAIL:.0%} of the answers to {wishes.qps:g} QPS within {_ms(wishes.lag)}"
    if plan.needed is None:
        return f"No number of GPUs up to {MOST_GPUS} gives {what}: a row alone takes {_ms(plan.curve.seconds(1))}."
    return f"{_gpus(plan.needed)} give{'s' if plan.needed == 1 else ''} {what}."


def _operation(each: Operation) -> dict[str, Any]:
    load = each.load
    return {
        "qps": load.qps,
        "gpus": load.gpus,
        "share": load.share,
        "rows": load.rows,
        "batch_seconds": load.batch_seconds,
        "even_lag": _finite(each.even),
        "poisson_mean": _finite(each.mean),
        "poisson_tail": _finite(each.tail),
        "cost_of_a_million": each.cost,
    }


def _output_cells(output: OutputFinding) -> tuple[str, ...]:
    name = printable(output.output)
    if not output.different:
        return name, "0", "", "", "", ""
    absolute = "no number" if output.absolute == inf else f"{output.absolute:.3g}"
    ulps = "" if output.ulps is None else str(output.ulps)
    return name, str(output.different), absolute, ulps, str(output.rows), str(output.place)


def _finite(value: float) -> float | None:
    return None if value == inf else value


def _ms(seconds: float) -> str:
    if seconds == inf:
        return "∞"
    return f"{seconds:.4g} s" if seconds >= 1 else f"{seconds * 1e3:.4g} ms"


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
