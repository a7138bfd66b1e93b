"""The scheduler: which calls go to the model server next, together with whom.

Pure: events come in with the time at which they happened, effects go out, and `wake_up` says when to call `timer`
next. One scheduler holds the queues of all models of a node, since they share its device.

`ext_proc.batching.choice` says which batch leaves next, and when.

A call that cannot be answered within its limit any more is dropped at once, on arrival already where that is foreseen:
somebody else may still answer it.
"""

from collections.abc import Hashable, Iterator
from math import ceil, inf
from typing import Final

from ext_proc.batching.arrivals import Arrivals
from ext_proc.batching.batch_time import BatchTimes
from ext_proc.batching.choice import DOUBT, Choice
from ext_proc.batching.device import Device
from ext_proc.batching.model import Model
from ext_proc.batching.queue import BatchQueue
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch, Drop, Dropped, Effect, Leaving, Send, State, Waiting

MAX_KEYS: Final = 256
"""Most keys of one model whose calls are gathered at once; calls of any further key go alone."""
MAX_MODELS: Final = 10_000
"""Most models whose batch times are remembered."""
_LEAST_RETRY: Final = 0.05  # seconds; nobody is told to come back earlier


class Scheduler:
    """Queues of all models, and the choice of the next batch. Times in seconds, monotonic."""

    def __init__(self, settings: BatchingSettings) -> None:
        self._settings = settings
        self._device = Device(settings)
        self._patience = settings.patience_ms / 1000
        self._most_calls, self._most_bytes = settings.queue_calls, settings.queue_bytes
        self._models: dict[str, Model] = {}
        self._queues: dict[BatchQueue, Model] = {}  # those with calls; which has just had a batch is the last
        self._arrivals = Arrivals()
        self._choice = Choice(self._device, self._queues, self._arrivals, self._patience)
        self._came = 0
        self._sent = 0
        self._wake = inf
        self.calls = 0
        """Calls that wait."""
        self.bytes = 0
        """Their bytes."""

    @property
    def wake_up(self) -> float | None:
        """When `timer` is to be called next; None: not before something else happens."""
        return None if self._wake == inf else self._wake

    @property
    def slots(self) -> int:
        """Batches that the device runs at once."""
        return self._device.slots

    @property
    def running(self) -> int:
        """Batches that were handed over and have not ended."""
        return self._device.running

    def times(self, model: str) -> BatchTimes | None:
        """What is known of a model's batch times; None if it is unknown."""
        found = self._models.get(model)
        return None if found is None else found.times

    def queued(self) -> Iterator[tuple[str, int, int]]:
        """Model, calls and rows of each queue that is not empty."""
        for queue in self._queues:
            yield queue.model, len(queue), queue.rows

    def add(self, call: Waiting, now: float) -> list[Effect]:
        """A call has come."""
        model = self._model(call.model)
        model.server_batches = call.server_batches
        self._arrivals.observe(call, now)
        due = call.deadline if call.deadline != inf else call.arrived + self._patience
        call.order = (-call.priority, due, self._came)
        self._came += 1
        effects: list[Effect] = []
        late = call.deadline != inf and self._foreseen(call, model, now) > call.deadline
        if late and not self._choice.is_untried(model, now):
            self._drop(call, Dropped.LATE, now, effects)
            return effects
        if not self._make_room(call, now, effects):
            return effects
        queue = self._queue_of(call.key, model)
        queue.add(call)
        self._queues.setdefault(queue, model)
        self.calls += 1
        self.bytes += call.size
        device = self._device
        if device.is_free(model) or (device.has_room(model) and self._choice.reason(queue, model, now) is not None):
            self._send_all(now, effects)
        else:  # no other queue has anything to do with it
            self._wake = min(self._wake, self._choice.wake_up(queue, model, now))
        return effects

    def withdraw(self, call: Waiting, now: float) -> list[Effect]:
        """The caller of this call has gone. What was handed over already runs on: no model server takes it back."""
        effects: list[Effect] = []
        if call.state is State.WAITING:
            self._remove(call)
            call.state = State.GONE
            self._send_all(now, effects)
        else:
            call.state = State.GONE
        return effects

    def timer(self, now: float) -> list[Effect]:
        """The time of `wake_up` has come. Calling it earlier, or twice, does no harm."""
        effects: list[Effect] = []
        self._send_all(now, effects)
        return effects

    def finished(self, number: int, now: float, *, answered: bool) -> list[Effect]:
        """A batch has ended, and its members have what they get. What failed teaches no batch times."""
        effects: list[Effect] = []
        for call in self._device.end(number, now, answered=answered).batch.members:
            call.state = State.GONE
        self._send_all(now, effects)
        return effects

    def ask_again(self, number: int, now: float, *, groups: int = 2) -> list[Effect]:
        """A batch of several calls has failed as a whole: its members are asked again, in so many groups.

        Those that have gone since are left out, and those that cannot be answered in time any more are dropped.
        """
        effects: list[Effect] = []
        ended = self._device.end(number, now, answered=False)
        left = [call for call in ended.batch.members if call.state is State.SENT]
        for call in left:
            if self._choice.late_at(call, ended.model, now) <= now:
                self._drop(call, Dropped.LATE, now, effects)
        left = [call for call in left if call.state is State.SENT]
        size = max(1, ceil(len(left) / groups))
        queue = self._queue_of(ended.batch.members[0].key, ended.model)
        for start in range(0, len(left), size):
            queue.add_again(tuple(left[start : start + size]))
        if left:
            self._queues.setdefault(queue, ended.model)
        elif not len(queue):
            ended.model.queues.pop(queue.key)
        self._send_all(now, effects)
        return effects

    def _model(self, name: str) -> Model:
        model = self._models.get(name)
        if model is None:
            if len(self._models) >= MAX_MODELS:
                self._forget()
            model = self._models[name] = Model(name, self._settings.of(name))
        return model

    def _forget(self) -> None:
        """Lets go of the oldest model that has nothing here."""
        for name, model in self._models.items():
            if not model.running and not model.queues and model is not self._device.last:
                del self._models[name]
                return

    @staticmethod
    def _queue_of(key: Hashable, model: Model) -> BatchQueue:
        queues = model.queues
        if len(queues) == 1:  # as a rule; and to compare with its key takes a tenth of what it takes to hash one
            for only in queues.values():
                if only.key == key:
                    return only
        queue = queues.get(key)
        if queue is not None:
            return queue
        if len(queues) >= MAX_KEYS:
            key = None
            if (queue := queues.get(key)) is not None:
                return queue
        queue = queues[key] = BatchQueue(model.name, key, model.settings)
        return queue

    def _make_room(self, call: Waiting, now: float, effects: list[Effect]) -> bool:
        """Whether the call may wait; less important ones are shed for it."""
        while self.calls >= self._most_calls or self.bytes + call.size > self._most_bytes:
            lasts = [last for queue in self._queues if (last := queue.last) is not None]
            victim = max(lasts, key=lambda last: last.order, default=call)
            if victim.priority >= call.priority:
                self._drop(call, Dropped.SHED, now, effects)
                return False
            self._remove(victim)
            self._drop(victim, Dropped.SHED, now, effects)
        return True

    def _foreseen(self, call: Waiting, model: Model, now: float) -> float:
        """When the call should be answered at the latest: after all that is more urgent than it is, in a full batch."""
        own = self._device.switch_to(model)
        if self._device.is_free(model):
            return now + own + model.expected(call.rows)
        before, rows = 0.0, call.rows
        for queue, other in self._queues.items():
            if other is not model:
                if model.server_batches or other.server_batches:
                    continue
            elif queue.key == call.key:
                rows = rows if call.key is None else max(rows, min(rows + queue.rows, model.settings.max_rows))
            elif not queue.alone:
                continue
            batches = queue.batches_before(call.order)
            before += batches * other.times.expected(queue.next_rows()) / self._device.width(other)
        wait = max(model.way, self._device.until_free(now, model))
        return now + wait + DOUBT * before + own + model.times.expected(rows)

    def _send_all(self, now: float, effects: list[Effect]) -> None:
        """Sends what may leave now, drops what is late, and sets the next time to look."""
        self._drop_late(now, effects)
        while (choice := self._choice.next(now)) is not None:
            self._send(*choice, now, effects)
            self._drop_late(now, effects)  # those that this batch leaves no time for
        self._wake = min(
            (self._choice.wake_up(queue, model, now) for queue, model in self._queues.items()), default=inf
        )

    def _send(self, queue: BatchQueue, why: Leaving, now: float, effects: list[Effect]) -> None:
        model = self._queues.pop(queue)
        again = queue.asks_again
        members = queue.take(self._choice.most_rows(queue, model, now))
        if again:
            members = tuple(call for call in members if call.state is State.SENT)
        else:
            self.calls -= len(members)
            self.bytes -= sum(call.size for call in members)
        if len(queue):
            self._queues[queue] = model
        else:
            del model.queues[queue.key]
        if not members:
            return
        self._sent += 1
        batch = Batch(self._sent, model.name, members, queue.filled(sum(call.rows for call in members)), why)
        self._device.start(batch, model, now)
        effects.append(Send(batch))

    def _drop_late(self, now: float, effects: list[Effect]) -> None:
        """Drops the calls that cannot be answered in time any more, were they sent alone and next."""
        for queue, model in [*self._queues.items()]:
            while (call := queue.earliest()) is not None and self._choice.late_at(call, model, now) <= now:
                self._remove(call)
                self._drop(call, Dropped.LATE, now, effects)

    def _remove(self, call: Waiting) -> None:
        queue = call.queue
        assert queue is not None
        queue.remove(call)
        self.calls -= 1
        self.bytes -= call.size
        if not len(queue):
            model = self._queues.pop(queue)
            del model.queues[queue.key]

    def _drop(self, call: Waiting, why: Dropped, now: float, effects: list[Effect]) -> None:
        call.state = State.GONE
        effects.append(Drop(call, why, max(_LEAST_RETRY, self._backlog(now))))

    def _backlog(self, now: float) -> float:
        """Seconds of work that waits for the device."""
        seconds = self._device.until_free(now)
        for queue, model in self._queues.items():
            seconds += queue.batches() * model.times.expected(queue.next_rows()) / self._device.width(model)
        return seconds
