"""A model as a node sees it: how long its batches, the way to the device and a switch to it take, told apart."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from ext_proc.batching.batch_time import BatchTimes
from ext_proc.batching.queue import BatchQueue
from ext_proc.batching.settings import ModelBatching

# The way to the device and back: until it is known, so much of a batch's time.
_WAY: Final = 0.2
_REFUTED: Final = 0.5  # and where that cannot be, since a whole batch took no longer
_TOO_LONG: Final = 0.5  # share by which way and device may seem to take longer than a batch that took both
# The first batch of a model may take many times as long as all others (it compiles, or brings its weights), and even
# the second. When one of the first few takes less than this share of what each before it did, those are forgotten.
_COLD: Final = 0.5
_FEW: Final = 8
_NEWS: Final = 0.05  # weight, in the end, of one more batch that had no way in its time
_NOISE: Final = 0.1  # share of a batch's constant time that a switch may seem to have saved
_SWITCH_NEWS: Final = 0.2  # weight, in the end, of what one more switch has cost


@dataclass(slots=True, eq=False)
class Model:
    """What is known of one model: its batch times, its batches that run, its queues by key.

    A batch takes `times` on the device, and `way` seconds to it and back.
    """

    name: str
    settings: ModelBatching
    times: BatchTimes = field(default_factory=BatchTimes)
    server_batches: bool = False
    """Whether its server gathers by itself, as the last call said."""
    way: float = 0.0
    least: float = inf
    """Seconds that a batch has taken at least, its way included."""
    followers: int = 0
    """Batches that have waited at the device: those have no way in their times."""
    running: int = 0
    tried: float = -inf
    """When its last batch was handed over."""
    queues: dict[Hashable, BatchQueue] = field(default_factory=dict)
    switch: float = 0.0
    """What going over to it from another model has cost, in seconds; noise may bring it below 0."""
    switches: int = 0
    """How often that was seen."""
    mixed: bool = False
    """Whether `times` have a switch in them whose cost nobody knew: one batch, the first."""
    has_stayed: bool = False
    """Whether a batch of it was ever handed over after another one of its own: only that tells what a switch is."""

    @property
    def switch_seconds(self) -> float:
        """What going over to it is expected to cost."""
        return max(0.0, self.switch) if self.settings.switch_ms is None else self.settings.switch_ms / 1000

    def expected(self, rows: int) -> float:
        """Seconds from handing over a batch of so many rows, to a device that is free, to its reply."""
        return self.way + self.times.expected(rows)

    def cautious(self, rows: int) -> float:
        """As `expected`: what most batches keep."""
        return self.way + self.times.cautious(rows)

    def found_free(self, rows: int, seconds: float, switch: float, look: float) -> float:
        """A batch that found the device free took so long, of which a switch is thought to be so much; gives what of
        it was not its way.

        `look`: the share of what is new in it that is the way's. Until one has waited there a share of the shortest
        time is taken for the way.
        """
        own = max(0.0, seconds - switch)
        self._forget_cold(own)
        if not self.followers and own < self.least:
            shorter, self.way = self.way, _WAY * own
            if self.times.observations:
                self.times.shift(shorter - self.way)
        elif look:
            news = self.times.believed(rows, seconds - switch - self.way) - self.times.expected(rows)
            self.way = max(0.0, self.way + look * news)
        self.least = min(self.least, own)
        if self.way >= seconds:
            self.way = _REFUTED * seconds
        return seconds - self.way

    def tell_apart(self, rows: int, seconds: float, handed: float) -> None:
        """A batch that waited at the device took so long there, and its reply came so long after it was `handed` over.

        Device and way together are known from the others, but they are not longer than that.
        """
        if self._forget_cold(seconds + self.way):
            self.way = min(self.way, _WAY * seconds)
        else:
            self.followers += 1
            news = max(_NEWS, 1 / self.followers) * (self.times.believed(rows, seconds) - self.times.expected(rows))
            longer = min(max(news, -self.times.constant), self.way)
            self.way -= longer
            self.times.shift(longer)
            if self.expected(rows) - handed > _TOO_LONG * handed:
                self.way = max(0.0, handed - self.times.expected(rows))
        self.least = min(self.least, seconds + self.way)

    def switched(self, cost: float) -> None:
        """Going over to it has cost so much. Less than nothing: then its batches take less than was thought."""
        self.switches += 1
        self.switch += max(_SWITCH_NEWS, 1 / self.switches) * (cost - self.switch)
        least = -_NOISE * self.times.constant
        if self.switch < least:
            self.times.shift(self.switch - least)
            self.switch = least

    def unmix(self, rows: int, seconds: float) -> None:
        """The first batch that was no switch took so long: what the one before took longer was its switch."""
        self.switch = max(0.0, self.times.expected(rows) - seconds)
        self.times, self.mixed = BatchTimes(), False
        self.way = min(self.way, _WAY * seconds)
        self.least = min(self.least, seconds + self.way)

    def _forget_cold(self, seconds: float) -> bool:
        """Whether one that took so long shows that all before it were not like those to come; they are forgotten."""
        if not 0 < self.times.observations < _FEW or seconds >= _COLD * self.least:
            return False
        self.times, self.least, self.switches = BatchTimes(), inf, 0
        return True

    @property
    def own_slots(self) -> int:
        """Calls that a server which gathers by itself is given at once: without a setting those of two batches."""
        return self.settings.slots or 2 * self.settings.max_rows
