"""One batch as one structured event: written for the log, read again for a plan."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ext_proc.batching.waiting import Batch
from ext_proc.errors import TbmsError

_EVENT = re.compile(r'"event"\s*:\s*"batch"')
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]


def batch_record(batch: Batch, left: float, seconds: float, outcome: str, slots: int | None) -> dict[str, Any]:
    """The event of a batch that has ended, ready for JSON.

    `left`: when it left, in seconds of the process's monotonic clock; `seconds`: from then to its reply. `slots`:
    batches that the device ran at once, None for a model whose server gathers by itself. Nothing in it comes from the
    body of a call.
    """
    return {
        "event": "batch",
        "v": 1,
        "model": batch.model,
        "left": round(left, 6),
        "ms": round(seconds * 1000, 3),
        "rows": batch.rows,
        "calls": len(batch.members),
        "bytes": sum(member.size for member in batch.members),
        "why": batch.why.value,
        "outcome": outcome,
        "slots": slots,
    }


class BatchRecord(BaseModel):
    """A batch that was read back: see `batch_record`. Fields that the log adds around the event are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: Literal["batch"]
    v: Literal[1]
    model: str
    left: _Seconds
    ms: _Seconds
    rows: _Count
    bytes: Annotated[int, Field(ge=0)]
    outcome: str
    slots: _Count | None


def read_batches(lines: Iterable[str]) -> Iterator[BatchRecord]:
    """The batches of a log of JSON lines; other events are passed over. Raises TbmsError with the line's number."""
    for n, line in enumerate(lines, start=1):
        if _EVENT.search(line):
            try:
                yield BatchRecord.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "the line"
                raise TbmsError(f"line {n}: {place}: {first['msg']}") from error
