"""The device as a node sees it: batches that were handed over, slots that are free, what a switch of models costs."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf

from ext_proc.batching.batch_time import BatchTimes
from ext_proc.batching.queue import BatchQueue
from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.slots import FixedSlots, GradientSlots, Slots
from ext_proc.batching.waiting import Batch

# The way to the device and back is not known apart from the batch's own time. So much of it, and no more than so many
# seconds, the next batch is handed over before the last one should have ended.
_WAY, _LONGEST_WAY = 0.2, 0.005
_TURN = 5.0  # a turn of so many times what its switch costs: at most a fifth of the device's time is lost to switches
_SWITCH_KEPT = 0.8  # weight of what switches have cost so far when one more is seen


@dataclass(slots=True, eq=False)
class Model:
    """What is known of one model: its batch times, its batches that run, its queues by key."""

    name: str
    settings: ModelBatching
    times: BatchTimes = field(default_factory=BatchTimes)
    running: int = 0
    queues: dict[Hashable, BatchQueue] = field(default_factory=dict)
    switch: float = 0.0
    """What going over to it from another model has cost, in seconds; noise may bring it below 0."""

    @property
    def switch_seconds(self) -> float:
        """What going over to it is expected to cost."""
        return max(0.0, self.switch) if self.settings.switch_ms is None else self.settings.switch_ms / 1000

    @property
    def own_slots(self) -> int:
        """Calls that a server which gathers by itself is given at once: without a setting those of two batches."""
        return self.settings.slots or 2 * self.settings.max_rows


@dataclass(slots=True, eq=False)
class Running:
    """A batch at the model server. `started` is None while it waits there behind another one.

    `switched`: another model ran before it. `beside`: batches on the device with it, itself included.
    """

    batch: Batch
    model: Model
    switched: bool
    beside: int
    started: float | None


class Device:
    """Slots for the batches of all models. A model whose server gathers by itself has slots of its own instead."""

    def __init__(self, settings: BatchingSettings) -> None:
        self._slots: Slots = GradientSlots() if settings.slots is None else FixedSlots(settings.slots)
        self._ahead = settings.ahead
        self._running: dict[int, Running] = {}
        self._busy = 0
        self.last: Model | None = None
        """The model whose batch was handed over last."""
        self.turn_end = -inf
        """Until when its switch has not paid for itself."""

    @property
    def slots(self) -> int:
        """Batches that run at once."""
        return self._slots.count

    @property
    def running(self) -> int:
        """Batches that were handed over and have not ended."""
        return len(self._running)

    @property
    def all_busy(self) -> bool:
        """Whether no slot is free."""
        return self._busy >= self._slots.count

    def width(self, model: Model) -> int:
        """Batches of the model that may run at once."""
        if model.settings.server_batches:
            return model.own_slots
        return min(model.settings.slots or self._slots.count, self._slots.count)

    def is_free(self, model: Model) -> bool:
        """Whether a batch of the model would run at once."""
        if model.settings.server_batches:
            return model.running < model.own_slots
        return not self.all_busy and model.running < (model.settings.slots or inf)

    def has_room(self, model: Model) -> bool:
        """Whether one of the model may be handed over all the same, to run after another one."""
        if model.settings.server_batches:
            return False
        most = inf if model.settings.slots is None else model.settings.slots + self._ahead
        return self._busy < self._slots.count + self._ahead and model.running < most

    def switch_to(self, model: Model) -> float:
        """Seconds that going over to the model is expected to cost."""
        return 0.0 if model is self.last else model.switch_seconds

    def until_free(self, now: float) -> float:
        """Seconds until a batch that is handed over now should start."""
        on_device = [one for one in self._running.values() if not one.model.settings.server_batches]
        ends = [one.started + one.model.times.expected(one.batch.rows) for one in on_device if one.started is not None]
        before = sum(one.model.times.expected(one.batch.rows) for one in on_device if one.started is None)
        return max(0.0, min(ends, default=now) - now) + before / self._slots.count

    def soon_free(self, model: Model) -> float:
        """From when on a slot is as good as free for the model: what is handed over then arrives as it becomes free.

        Infinite while nothing that runs is expected to end, or another batch waits for it.
        """
        own = not self.all_busy  # it is the model's own instances that are taken
        ends = inf
        for one in self._running.values():
            if one.model.settings.server_batches or (own and one.model is not model):
                continue
            if one.started is None:
                return inf
            expected = one.model.times.expected(one.batch.rows)
            if expected > 0:
                ends = min(ends, one.started + expected - min(_LONGEST_WAY, _WAY * expected))
        return ends

    def start(self, batch: Batch, model: Model, now: float) -> None:
        """A batch was handed over."""
        started = now if self.is_free(model) else None
        own = model.settings.server_batches
        self._running[batch.number] = Running(batch, model, not own and model is not self.last, self._busy + 1, started)
        model.running += 1
        if not own:
            self._busy += 1
            if model is not self.last:
                self.last = model
                self.turn_end = now + _TURN * model.switch_seconds

    def end(self, number: int, now: float, *, answered: bool) -> Running:
        """A batch has ended. What failed says nothing about how long batches take."""
        ended = self._running.pop(number)
        model = ended.model
        model.running -= 1
        if ended.started is not None and answered:
            self._observe(ended, now - ended.started)
        if not model.settings.server_batches:
            self._busy -= 1
            if (follower := self._follower(model)) is not None:
                follower.started = now
        return ended

    def _follower(self, model: Model) -> Running | None:
        """The batch that runs now that one of `model` has ended: of the same model if one waits for its instances."""
        waiting = [one for one in self._running.values() if one.started is None]
        return next((one for one in waiting if one.model is model), next(iter(waiting), None))

    def _observe(self, ended: Running, seconds: float) -> None:
        model, rows = ended.model, ended.batch.rows
        expected = model.times.expected(rows)
        if not model.settings.server_batches:
            self._slots.observe(ended.beside, expected, seconds)
        if not ended.switched:
            model.times.observe(rows, seconds)
        elif model.times.observations and model.settings.switch_ms is None:
            model.switch += (1 - _SWITCH_KEPT) * (seconds - expected - model.switch)
        else:
            model.times.observe(rows, max(0.0, seconds - model.switch_seconds))
