"""The queue of calls that may share batches, or of one model's calls that may not."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from math import inf
from typing import Final

from ext_proc.batching.settings import ModelBatching
from ext_proc.batching.waiting import State, Waiting

# A call that does not fit what is left of a batch is passed over for smaller ones behind it, up to so many.
_LOOK_PAST: Final = 64


def _order(call: Waiting) -> tuple[int, float, int]:
    return call.order


class _Earliest:
    """The least of one time of each waiting call, among calls that come and go. Those gone are left in until found."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiting]] = []

    def push(self, at: float, call: Waiting) -> None:
        if at != inf:
            heappush(self._heap, (at, call.order[2], call))

    def peek(self) -> tuple[float, Waiting | None]:
        heap = self._heap
        while heap and heap[0][2].state is not State.WAITING:
            heappop(heap)
        return (heap[0][0], heap[0][2]) if heap else (inf, None)

    def tidy(self, waiting: int) -> None:
        """Lets go of calls that have left, once they are half of what is kept: their bodies are kept with them."""
        if len(self._heap) > 2 * waiting:
            self._heap = [entry for entry in self._heap if entry[2].state is State.WAITING]
            heapify(self._heap)


class BatchQueue:
    """Calls of one key in order. With `key` None they are a model's calls that go alone, one by one."""

    __slots__ = (
        "_again",
        "_calls",
        "_deadlines",
        "_dues",
        "_lags",
        "alone",
        "bytes",
        "key",
        "model",
        "rows",
        "settings",
    )

    def __init__(self, model: str, key: Hashable, settings: ModelBatching) -> None:
        self.model = model
        self.key = key
        self.alone = key is None
        self.settings = settings
        self.rows = 0
        self.bytes = 0
        self._calls: list[Waiting] = []
        self._again: deque[tuple[Waiting, ...]] = deque()  # groups that were in a batch before, and are asked again
        self._deadlines, self._lags, self._dues = _Earliest(), _Earliest(), _Earliest()

    def __len__(self) -> int:
        return len(self._calls) + sum(map(len, self._again))

    def __iter__(self) -> Iterator[Waiting]:
        """In order; groups that are asked again are not among them."""
        return iter(self._calls)

    @property
    def last(self) -> Waiting | None:
        """The least important call."""
        return self._calls[-1] if self._calls else None

    @property
    def priority(self) -> int:
        """The highest of its calls; groups that are asked again do not count."""
        return self._calls[0].priority if self._calls else 0

    @property
    def asks_again(self) -> bool:
        """Whether the next batch is a group that was in one before."""
        return bool(self._again)

    @property
    def due(self) -> float:
        """The earliest time that orders any of its calls; groups asked again are due at once."""
        return -inf if self._again else self._dues.peek()[0]

    @property
    def latest_due(self) -> float:
        """What orders its least important call; -inf where all are asked again."""
        last = self.last
        return -inf if last is None else last.due

    @property
    def deadline(self) -> float:
        """The earliest deadline; infinite where no call has one."""
        return self._deadlines.peek()[0]

    def earliest(self) -> Waiting | None:
        """The call with the earliest deadline; None where none has one."""
        return self._deadlines.peek()[1]

    @property
    def lag_end(self) -> float:
        """When the first of its calls stops waiting for company."""
        return self._lags.peek()[0]

    @property
    def full(self) -> bool:
        """Whether no further call would fit in its next batch."""
        if self.alone or self._again:
            return True
        return self.rows >= self.settings.max_rows or self.bytes >= self.settings.max_bytes

    def next_rows(self) -> int:
        """Rows of its next batch, if nothing held it small."""
        if self._again:
            return self.filled(sum(call.rows for call in self._again[0]))
        if self.alone:
            return self._calls[0].rows if self._calls else 0
        return self.filled(min(self.rows, self.settings.max_rows))

    def batches(self) -> int:
        """How many batches what waits will make."""
        if self.alone:
            return len(self)
        most = self.settings.max_rows
        return len(self._again) + (self.rows + most - 1) // most

    def filled(self, rows: int) -> int:
        """The size that a batch of so many rows is filled up to."""
        if self.alone:
            return rows
        return next((size for size in self.settings.allowed_rows if size >= rows), rows)

    def batches_before(self, order: tuple[int, float, int]) -> int:
        """How many whole batches the calls make that stand before that place."""
        calls = bisect_left(self._calls, order, key=_order)
        return calls if self.alone else int(calls / len(self) * self.rows) // self.settings.max_rows

    def add(self, call: Waiting) -> None:
        """A call joins, at its place."""
        call.queue = self
        if self._calls and call.order < self._calls[-1].order:
            insort(self._calls, call, key=_order)
        else:
            self._calls.append(call)
        self.rows += call.rows
        self.bytes += call.size
        self._deadlines.push(call.deadline, call)
        self._lags.push(call.lag_end, call)
        self._dues.push(call.due, call)

    def add_again(self, group: tuple[Waiting, ...]) -> None:
        """A group of calls that have left goes before all others, and stays together."""
        self._again.append(group)

    def remove(self, call: Waiting) -> None:
        """A call goes without a batch; it is still WAITING, and not one that is asked again."""
        index = bisect_left(self._calls, call.order, key=_order)
        assert self._calls[index] is call
        del self._calls[index]
        self._left(call, State.GONE)

    def take(self, most_rows: int) -> tuple[Waiting, ...]:
        """The calls of the next batch: the first in order, and who fits beside it.

        Of at most `most_rows` rows, unless the first call alone has more. No two of one race.
        """
        if self._again:
            return self._again.popleft()
        first = self._calls[0]
        if self.alone:
            del self._calls[0]
            self._left(first, State.SENT)
            return (first,)
        taken, left_behind, rows, size, races, past = [first], list[Waiting](), first.rows, first.size, {first.race}, 0
        end = 1
        for end, call in enumerate(islice(self._calls, 1, None), 1):  # noqa: B007 (where the loop ended is used)
            if rows >= most_rows or size >= self.settings.max_bytes or past >= _LOOK_PAST:
                break
            fits = rows + call.rows <= most_rows and size + call.size <= self.settings.max_bytes
            if fits and (call.race is None or call.race not in races):
                taken.append(call)
                rows += call.rows
                size += call.size
                races.add(call.race)
            else:
                left_behind.append(call)
                past += 1
        else:
            end = len(self._calls)
        self._calls[:end] = left_behind
        for call in taken:
            self._left(call, State.SENT)
        return tuple(taken)

    def _left(self, call: Waiting, state: State) -> None:
        call.state = state
        self.rows -= call.rows
        self.bytes -= call.size
        for times in (self._deadlines, self._lags, self._dues):
            times.tidy(len(self._calls))
