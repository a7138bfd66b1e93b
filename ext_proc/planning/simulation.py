"""Calls in virtual time: the scheduler itself, before devices whose batches take what is said.

Nothing is modelled but the device, the way to it and the arrivals, so what is planned is what the scheduler does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, islice
from math import ceil, inf

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch, Drop, Effect, Send, Waiting
from ext_proc.planning.curve import Curve

Exponential = Callable[[float], float]
"""Draws seconds from one event to the next, of so many a second on average: `random.Random(seed).expovariate`."""

Cost = Callable[[str, int], float]
"""Seconds of a batch on the device, by model and rows."""

_TICK = 9  # digits of a second: what is nearer in time happens at once, calls before ends of batches


@dataclass(frozen=True, slots=True)
class Lags:
    """From a call's arrival to its answer, in seconds; `rows` of a batch on average. Sorted."""

    lags: Sequence[float]
    rows: float

    @property
    def mean(self) -> float:
        """Of all calls."""
        return sum(self.lags) / len(self.lags)

    def percentile(self, share: float) -> float:
        """The lag that this share of the calls keeps: the nearest rank."""
        return self.lags[max(0, ceil(share * len(self.lags)) - 1)]


def evenly(qps: float) -> Iterator[float]:
    """Arrivals at equal distances, in seconds."""
    number = 0
    while True:
        yield number / qps
        number += 1


def poisson(qps: float, exponential: Exponential) -> Iterator[float]:
    """Arrivals that know nothing of one another."""
    now = 0.0
    while True:
        now += exponential(qps)
        yield now


def simulate(
    settings: BatchingSettings, model: str, curve: Curve, arrivals: Iterator[float], calls: int, warm_up: int = 0
) -> Lags:
    """Calls of one row each, before a device of `settings.slots` slots, all of which have no limit and may share.

    The first `warm_up` calls do not count.
    """
    # A curve's times have the way to the device and back in them: handed over ahead, nothing would be saved here.
    system = Simulation(settings.model_copy(update={"ahead": 0}), lambda _, rows: curve.seconds(rows))
    waiting = [Waiting(model, "", 1, 1, at) for at in islice(arrivals, calls + warm_up)]
    system.arrive(waiting)
    system.run()
    assert not system.dropped, "calls without a limit are never late, and the queue holds all"
    sizes = [batch.rows for _, batch in system.sent]
    sizes = sizes[len(sizes) * warm_up // len(waiting) :]
    counted = sorted(system.answered[call] - call.arrived for call in waiting[warm_up:])
    return Lags(counted, sum(sizes) / len(sizes))


@dataclass
class Simulation:
    """Runs calls against a scheduler. Batches run one after the other on each slot of its device.

    `switch`: seconds that the device needs to go over to a model; `way`: seconds to the device, or back, drawn anew
    for each; `fails`: whether a batch does. `answered`: when, by call; `dropped`: the effect, by call; `sent`: when,
    and what.
    """

    settings: BatchingSettings
    cost: Cost
    switch: Callable[[str], float] = lambda model: 0.0
    way: Callable[[], float] = lambda: 0.0
    fails: Callable[[Batch], bool] = lambda batch: False
    now: float = 0.0
    answered: dict[Waiting, float] = field(default_factory=dict)
    failed: list[Waiting] = field(default_factory=list)
    dropped: dict[Waiting, Drop] = field(default_factory=dict)
    sent: list[tuple[float, Batch]] = field(default_factory=list)
    most_running: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.settings)
        # When each slot of the device is free, and what ran there last.
        self._free = [(0.0, "")] * (self.settings.slots or 1)
        self._events: list[tuple[float, bool, int, float, Callable[[], list[Effect]]]] = []
        self._numbers = count()

    def at(self, when: float, event: Callable[[], list[Effect]], *, ends: bool = False) -> None:
        """Something happens at a time; `ends`: after all else that happens then."""
        heappush(self._events, (round(when, _TICK), ends, next(self._numbers), when, event))

    def arrive(self, calls: Iterable[Waiting]) -> None:
        """Calls come at the time that they say."""
        for call in calls:
            self.at(call.arrived, lambda call=call: self.scheduler.add(call, self.now))  # type: ignore[misc]

    def run(self, until: float = inf) -> None:
        """Until nothing happens any more, or until a time."""
        while True:
            wake = self.scheduler.wake_up
            upcoming = self._events[0][3] if self._events else inf
            if wake is not None and wake < upcoming:
                if wake > until:
                    return
                self.now = max(self.now, wake)
                self._perform(self.scheduler.timer(self.now))
                assert self.scheduler.wake_up != wake or self.now < wake, "the same wake-up for ever"
            elif self._events and upcoming <= until:
                *_, when, event = heappop(self._events)
                self.now = max(self.now, when)
                self._perform(event())
            else:
                return

    def lags(self) -> list[float]:
        """From arrival to answer, of the calls that were answered."""
        return [end - call.arrived for call, end in self.answered.items()]

    def in_time(self) -> int:
        """Calls that were answered by their deadline."""
        return sum(end <= call.deadline + 1e-9 for call, end in self.answered.items())

    def _perform(self, effects: Iterable[Effect]) -> None:
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
        end = max(self.now + self.way(), free) + seconds
        heappush(self._free, (end, batch.model))
        self.at(end + self.way(), lambda: self._end(batch), ends=True)

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
