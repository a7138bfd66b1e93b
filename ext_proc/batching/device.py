"""The device as a node sees it: batches that were handed over, slots that are free, what a switch of models costs."""

from dataclasses import dataclass
from math import inf
from typing import Final

from ext_proc.batching.model import Model
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.slots import FixedSlots, GradientSlots, Slots
from ext_proc.batching.waiting import Batch

# A batch that was handed over so much of its time before the one before it ended has waited for that one, however long
# the way is thought to be.
_WAITED: Final = 0.5
# So many batches in a row are handed over before the device is free; the next one waits until it is, so that it tells
# anew how long way and device take together, and the way takes this share of what it tells. One that finds the device
# free after fewer tells as much less.
_LOOK_EVERY: Final = 16
_LOOK_NEWS: Final = 0.25
# The next batch is handed over by so many ways before the reply to the last one is due. One that comes early waits at
# the device; one that comes late finds it idle, and nothing would tell that from a batch that takes longer.
_EARLY: Final = 1.25
# A turn of so many times what its switch costs: at most a fifth of the device's time is lost to switches.
_TURN: Final = 5.0


@dataclass(slots=True, eq=False, init=False)
class Running:
    """A batch at the model server, handed over at `handed`.

    `switched`: another model ran before it. `beside`: batches on the device with it, itself included. Its reply is
    due the batch's time after `started`; None while it waits there behind another one. `found_free`: it did not wait.
    """

    batch: Batch
    model: Model
    switched: bool
    beside: int
    handed: float
    started: float | None
    found_free: bool
    server_batches: bool

    def __init__(
        self,
        batch: Batch,
        model: Model,
        switched: bool,
        beside: int,
        handed: float,
        started: float | None,
        found_free: bool,
        server_batches: bool,
    ) -> None:
        self.batch = batch
        self.model = model
        self.switched = switched
        self.beside = beside
        self.handed = handed
        self.started = started
        self.found_free = found_free
        self.server_batches = server_batches

    @property
    def lasts(self) -> float:
        """Seconds that it is expected to have the device, its switch included."""
        return self.model.times.expected(self.batch.rows) + (self.model.switch_seconds if self.switched else 0.0)


class Device:
    """Slots for the batches of all models. A model whose server gathers by itself has slots of its own instead."""

    def __init__(self, settings: BatchingSettings) -> None:
        self._slots: Slots = GradientSlots() if settings.slots is None else FixedSlots(settings.slots)
        self._ahead = settings.ahead
        self._running: dict[int, Running] = {}
        self._busy = 0
        self._in_a_row = 0  # batches that have waited there since one found it free
        self._unsure = 0  # of them those that have waited only if the way is no longer than it is thought to be
        self.last: Model | None = None
        """The model whose batch was handed over last."""
        self.turn_end = -inf
        """Until when its switch has not paid for itself."""
        self.switched_at = -inf
        """When a batch of another model than the one before was handed over."""

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
        if model.server_batches:
            return model.own_slots
        return min(model.settings.slots or self._slots.count, self._slots.count)

    def is_free(self, model: Model) -> bool:
        """Whether a batch of the model would run at once."""
        if model.server_batches:
            return model.running < model.own_slots
        return not self.all_busy and model.running < (model.settings.slots or inf)

    def has_room(self, model: Model) -> bool:
        """Whether one of the model may be handed over all the same, to run after another one."""
        if model.server_batches:
            return False
        if self._unsure >= _LOOK_EVERY:
            return False
        most = inf if model.settings.slots is None else model.settings.slots + self._ahead
        return self._busy < self._slots.count + self._ahead and model.running < most

    def switch_to(self, model: Model) -> float:
        """Seconds that going over to the model is expected to cost."""
        return 0.0 if model is self.last or model.server_batches else model.switch_seconds

    def until_free(self, now: float, model: Model | None = None) -> float:
        """Seconds until a batch that is handed over now should start; of a `model` that may have slots of its own."""
        if model is not None:
            if self.is_free(model):
                return 0.0
            if model.server_batches:
                own = [one for one in self._running.values() if one.server_batches and one.model is model]
                ends = [one.started + one.lasts for one in own if one.started is not None]
                return max(0.0, min(ends, default=now) - now)
        on_device = [one for one in self._running.values() if not one.server_batches]
        ends = [one.started + one.lasts for one in on_device if one.started is not None]
        before = sum(one.lasts for one in on_device if one.started is None)
        return max(0.0, min(ends, default=now) - now) + before / self._slots.count

    def soon_free(self, model: Model) -> float:
        """From when on a slot is as good as free for the model: what is handed over then arrives as it becomes free.

        Infinite while nothing that runs is expected to end, another batch waits for it, or one is to find it free.
        """
        if self._in_a_row >= _LOOK_EVERY:
            return inf
        own = not self.all_busy  # it is the model's own instances that are taken
        ends = inf
        for one in self._running.values():
            if one.server_batches or (own and one.model is not model):
                continue
            if one.started is None:
                return inf
            if one.model.times.observations:
                expected = one.lasts
                ends = min(ends, one.started + expected - min(_EARLY * one.model.way, expected))
        return ends

    def start(self, batch: Batch, model: Model, now: float) -> None:
        """A batch was handed over."""
        free, own = self.is_free(model), model.server_batches
        started = now + model.way if free else None
        switched = not own and model is not self.last
        if switched:
            if self.last is not None:
                self.switched_at = now
            self.last = model
            self.turn_end = now + self.until_free(now, model) + _TURN * model.switch_seconds
        elif not own:
            model.has_stayed = True
        self._running[batch.number] = Running(batch, model, switched, self._busy + 1, now, started, free, own)
        model.running += 1
        model.tried = now
        if not own:
            self._busy += 1

    def end(self, number: int, now: float, *, answered: bool) -> Running:
        """A batch has ended. What failed says nothing about how long batches take."""
        ended = self._running.pop(number)
        model = ended.model
        model.running -= 1
        if ended.started is not None and answered:
            self._observe(ended, now)
        if not ended.server_batches:
            self._busy -= 1
            if (follower := self._follower(model)) is not None:
                waited, other = now - follower.handed, follower.model
                sure = waited >= _WAITED * other.expected(follower.batch.rows)
                follower.started = now if sure else max(now, follower.handed + other.way)
                if not sure and self._slots.count == 1:  # beside others the wait is short in any case
                    self._unsure += 1
        return ended

    def _follower(self, model: Model) -> Running | None:
        """The batch that runs now that one of `model` has ended: of the same model if one waits for its instances."""
        waiting = [one for one in self._running.values() if one.started is None]
        return next((one for one in waiting if one.model is model), next(iter(waiting), None))

    def _observe(self, ended: Running, now: float) -> None:
        model, rows = ended.model, ended.batch.rows
        assert ended.started is not None
        if ended.found_free:
            switch = model.switch_seconds if ended.switched else 0.0
            tells_way = not (ended.switched or ended.server_batches or model.mixed)
            look = self._in_a_row / _LOOK_EVERY if tells_way else 0.0
            seconds = model.found_free(rows, now - ended.handed, switch, _LOOK_NEWS * min(1.0, look))
        else:
            seconds = max(0.0, now - ended.started)
            if not (ended.switched or model.mixed):
                model.tell_apart(rows, seconds, now - ended.handed)
        if model.mixed and not ended.switched:
            model.unmix(rows, seconds)
        times = model.times
        expected = times.expected(rows)
        if not ended.server_batches:
            if ended.found_free:
                self._in_a_row = self._unsure = 0
            else:
                self._in_a_row += 1
            self._slots.observe(ended.beside, expected, seconds)
        if not ended.switched:
            times.observe(rows, seconds)
        elif times.observations and model.settings.switch_ms is None:
            model.switched(seconds - expected)
        else:
            times.observe(rows, max(0.0, seconds - model.switch_seconds))
            model.mixed = model.settings.switch_ms is None and self.switched_at > -inf
