"""Batch times out of the log of a node that gathers: how long the device took over each batch, and for what."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from ext_proc.batching.record import BatchRecord, read_batches
from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve, curve_of

ENOUGH = 5
"""Batches of a size, from which on its median is believed."""
_ANSWERED = "answered"


class Logged(NamedTuple):
    """The curve of one model's batches, and the most bytes that a row of a batch had on average."""

    curve: Curve
    row_bytes: int


def read_log(lines: Iterable[str], model: str, name: str) -> Logged:
    """What a log of JSON lines says of a model; `name` is what errors call the file. Raises TbmsError.

    The lines are those of one node, of all its models: a batch that was handed over while others ran began when one of
    them ended. Left out are batches that failed or were asked again, those that followed another model's (their time
    has the switch in it) where there are others, and sizes that came less than ENOUGH times where there are others.
    """
    try:
        records = list(read_batches(lines))
    except TbmsError as error:
        raise TbmsError(f"{name}: {error}") from None
    of_model = [record for record in records if record.model == model]
    if not of_model:
        known = sorted({record.model for record in records})
        has = f"those that there are: {', '.join(known[:10])}" if known else "node.batching.log: true writes them"
        raise TbmsError(f"{name}: there is no batch of model {model!r} in it; {has}")
    gathered = [record for record in records if record.slots is not None]
    if not any(record.model == model for record in gathered):
        raise TbmsError(f"{name}: the server of model {model!r} gathers by itself, so batches are not seen here")
    timed = [each for each in _on_device(gathered) if each.record.model == model and each.record.outcome == _ANSWERED]
    timed = [each for each in timed if each.seconds > 0]
    timed = [each for each in timed if not each.switched] or timed
    counts = Counter(each.record.rows for each in timed)
    enough = min(ENOUGH, max(counts.values(), default=0))
    timed = [each for each in timed if counts[each.record.rows] >= enough]
    if not timed:
        raise TbmsError(f"{name}: no batch of model {model!r} was answered")
    try:
        curve = curve_of((each.record.rows, each.seconds) for each in timed)
    except TbmsError as error:
        raise TbmsError(f"{name}: {error}") from None
    return Logged(curve, max(-(-each.record.bytes // each.record.rows) for each in timed))


class _OnDevice(NamedTuple):
    """A batch, the seconds from its beginning on the device to its reply, and whether another model began before it."""

    record: BatchRecord
    seconds: float
    switched: bool


def _on_device(records: Sequence[BatchRecord]) -> Iterator[_OnDevice]:
    """The batches in the order in which they began: each once it has left and one of the device's slots is free."""
    ends: list[float] = []  # of those that are on the device, the next one first
    last: str | None = None
    for record in sorted(records, key=lambda record: record.left):
        began, end = record.left, record.left + record.ms / 1000
        while ends and ends[0] <= began:
            heappop(ends)
        while len(ends) >= (record.slots or 1):
            began = heappop(ends)
        heappush(ends, end)
        yield _OnDevice(record, end - began, last not in (None, record.model))
        last = record.model
