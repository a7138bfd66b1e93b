"""Simple batchers: none waits for company, each takes what it finds, and all of them know every cost beforehand.

Since the scheduler lets no model wait for ever, they do not either: one that has had no batch for a second is next.
"""

from bisect import insort
from collections.abc import Callable, Mapping
from heapq import heapreplace

from integration.bench.scheduling.loads import Arrival, Kind, Load

Calls = list[tuple[float, float, int]]
"""Deadline, arrival and rows of each, in this order."""

Queues = Mapping[str, Calls]
"""Of each model with calls."""

Rule = Callable[[Load, Queues, str], str]
"""Which model is next, after the one that ran last."""

_PATIENCE = 1.0


def answered_in_time(load: Load, rule: Rule) -> int:
    """Calls that a batcher which goes by the rule answers by their deadlines.

    A call that would be late, were it sent alone and next, is dropped. A batch has so many rows that its first call is
    in time.
    """
    queues: dict[str, Calls] = {}
    slots = [(0.0, "")] * load.slots
    served = dict.fromkeys(load.kinds, 0.0)
    calls, come, good = load.calls, 0, 0
    while True:
        now, last = slots[0]
        if not queues:
            if come == len(calls):
                return good
            now = max(now, calls[come].at)
        while come < len(calls) and calls[come].at <= now:
            _join(queues, calls[come])
            come += 1
        _drop_late(load, queues, now, last)
        if not queues:
            continue
        longest = min(queues, key=lambda name: served[name])
        kind = load.kinds[longest if now - served[longest] > _PATIENCE else rule(load, queues, last)]
        served[kind.name] = now
        start = now + _switch(kind, last)
        batch, rows = _batch(kind, queues[kind.name], start)
        if not queues[kind.name]:
            del queues[kind.name]
        end = start + kind.seconds(rows)
        good += sum(deadline >= end for deadline, _, _ in batch)
        heapreplace(slots, (end, kind.name))


def first_come(load: Load, queues: Queues, last: str) -> str:
    """The model of the call that has waited longest."""
    return min(queues, key=lambda name: min(arrived for _, arrived, _ in queues[name]))


def most_urgent(load: Load, queues: Queues, last: str) -> str:
    """The model of the call with the earliest deadline."""
    return min(queues, key=lambda name: queues[name][0])


def most_calls(load: Load, queues: Queues, last: str) -> str:
    """The model whose next batch answers most calls a second."""

    def worth(name: str) -> float:
        kind, calls = load.kinds[name], queues[name]
        rows = min(kind.max_rows, sum(rows for _, _, rows in calls))
        return min(len(calls), kind.max_rows) / (_switch(kind, last) + kind.seconds(rows))

    return max(queues, key=worth)


def until_empty(load: Load, queues: Queues, last: str) -> str:
    """The model that ran last while it has calls; then the one of the call that has waited longest."""
    return last if last in queues else first_come(load, queues, last)


RULES: dict[str, Rule] = {
    "first come": first_come,
    "most urgent": most_urgent,
    "most calls": most_calls,
    "until empty": until_empty,
}


def _switch(kind: Kind, last: str) -> float:
    return 0.0 if kind.name == last else kind.switch


def _join(queues: dict[str, Calls], call: Arrival) -> None:
    insort(queues.setdefault(call.model, []), (call.deadline, call.at, call.rows))


def _drop_late(load: Load, queues: dict[str, Calls], now: float, last: str) -> None:
    for name, waiting in [*queues.items()]:
        kind = load.kinds[name]
        start = now + _switch(kind, last)
        left = [call for call in waiting if call[0] >= start + kind.seconds(call[2])]
        if left:
            queues[name] = left
        else:
            del queues[name]


def _batch(kind: Kind, waiting: Calls, start: float) -> tuple[Calls, int]:
    """The first calls that fit, taken out, and their rows."""
    most = kind.max_rows
    if kind.slope > 0:
        most = min(most, int((waiting[0][0] - start - kind.base) / kind.slope + 1e-9))
    rows, count = 0, 0
    while count < len(waiting) and (not count or rows + waiting[count][2] <= most):
        rows += waiting[count][2]
        count += 1
    batch = waiting[:count]
    del waiting[:count]
    return batch, rows
