"""A device in virtual time behind a scheduler: batches run one after the other on each slot, and cost what is said."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch, Drop, Effect, Send, Waiting

Cost = Callable[[str, int], float]
"""Seconds of a batch, by model and rows."""


def fixed(seconds: float) -> Cost:
    """Every batch costs the same: the seed's example."""
    return lambda model, rows: seconds


def call(model: str = "m", at: float = 0.0, **others: object) -> Waiting:
    """A call that may share a batch with any other of its model."""
    fields = {"key": "k", "rows": 1, "size": 100, **others}
    return Waiting(model, arrived=at, **fields)  # type: ignore[arg-type]


@dataclass
class Simulated:
    """Runs calls against a scheduler. `answered` by call: when; `dropped` by call: the effect."""

    settings: BatchingSettings
    cost: Cost
    switch: Callable[[str], float] = lambda model: 0.0
    slots: int = 1
    fails: Callable[[Batch], bool] = lambda batch: False
    now: float = 0.0
    answered: dict[Waiting, float] = field(default_factory=dict)
    failed: list[Waiting] = field(default_factory=list)
    dropped: dict[Waiting, Drop] = field(default_factory=dict)
    sent: list[tuple[float, Batch]] = field(default_factory=list)
    most_running: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.settings)
        self._free = [(0.0, "")] * self.slots  # when each slot of the device is free, and what ran there last
        self._events: list[tuple[float, int, Callable[[], list[Effect]]]] = []
        self._numbers = count()

    def at(self, when: float, event: Callable[[], list[Effect]]) -> None:
        """Something happens at a time."""
        heappush(self._events, (when, next(self._numbers), event))

    def arrive(self, calls: Iterable[Waiting]) -> None:
        """Calls come at the time that they say."""
        for one in calls:
            self.at(one.arrived, lambda one=one: self.scheduler.add(one, self.now))  # type: ignore[misc]

    def run(self, until: float = inf) -> None:
        """Until nothing happens any more, or until a time."""
        while True:
            wake = self.scheduler.wake_up
            upcoming = self._events[0][0] if self._events else inf
            if wake is not None and wake < upcoming:
                if wake > until:
                    return
                self.now = max(self.now, wake)
                before = self.scheduler.wake_up
                self._perform(self.scheduler.timer(self.now))
                assert self.scheduler.wake_up != before or self.now < wake, "the same wake-up for ever"
            elif self._events and upcoming <= until:
                self.now, _, event = heappop(self._events)
                self._perform(event())
            else:
                return

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._start(effect.batch)
            else:
                assert effect.call not in self.dropped
                self.dropped[effect.call] = effect
        self.most_running = max(self.most_running, self.scheduler.running)

    def _start(self, batch: Batch) -> None:
        self.sent.append((self.now, batch))
        free, last = heappop(self._free)
        seconds = self.cost(batch.model, batch.rows) + (self.switch(batch.model) if last != batch.model else 0.0)
        end = max(self.now, free) + seconds
        heappush(self._free, (end, batch.model))
        self.at(end, lambda: self._end(batch))

    def _end(self, batch: Batch) -> list[Effect]:
        if not self.fails(batch):
            for member in batch.members:
                assert member not in self.answered
                self.answered[member] = self.now
            return self.scheduler.finished(batch.number, self.now, answered=True)
        if len(batch.members) > 1:
            return self.scheduler.ask_again(batch.number, self.now)
        self.failed += batch.members
        return self.scheduler.finished(batch.number, self.now, answered=False)

    def lags(self) -> list[float]:
        """From arrival to answer, of the calls that were answered."""
        return [end - one.arrived for one, end in self.answered.items()]

    def in_time(self) -> int:
        """Calls that were answered by their deadline."""
        return sum(end <= one.deadline + 1e-9 for one, end in self.answered.items())
