"""One node's device in virtual time, and before it the real scheduler of batches."""

from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush
from math import inf

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch, Effect, Send, Waiting
from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve
from ext_proc.planning.fleet.events import Events
from ext_proc.recording.calls import RecordedCall

Ended = Callable[[bool, float], None]
"""Is told whether the call was answered (else it was dropped), and when."""


def check_curves(settings: BatchingSettings, curves: Mapping[str, Curve]) -> None:
    """Raises TbmsError where a batch may be larger than any whose time is known."""
    for model, curve in curves.items():
        most = settings.of(model).max_rows
        if most > curve.max_rows:
            raise TbmsError(f"batches of {model!r} may have {most} rows, and its curve ends at {curve.max_rows}")


class Device:
    """Runs calls of the models of which batch times are known; of `slots` batches at once. A call is one row.

    Calls of one model are taken to fit together, unless they or the settings say that they share no batch.
    """

    def __init__(self, settings: BatchingSettings, curves: Mapping[str, Curve], events: Events) -> None:
        slots = settings.slots or 1
        # A curve's times have the way to the device and back in them: handed over ahead, nothing would be saved here.
        self._scheduler = Scheduler(settings.model_copy(update={"ahead": 0, "slots": slots}))
        self._settings = settings
        self._curves = curves
        self._events = events
        self._free = [0.0] * slots
        heapify(self._free)
        self._wakes: float | None = None
        self.busy_seconds = 0.0
        """That batches took, since the start."""

    def takes(self, model: str) -> bool:
        """Whether calls of the model go by the scheduler."""
        return model in self._curves

    def add(self, model: str, call: RecordedCall, left: float, ended: Ended, now: float) -> Waiting:
        """The call waits for its batch; it has to be answered within `left` seconds."""
        settings, plan = self._settings.of(model), call.plan
        shares = settings.cross_request if plan is None or plan.cross_request is None else plan.cross_request
        lag_ms = settings.cross_lag_ms if plan is None or plan.cross_lag_ms is None else plan.cross_lag_ms
        waiting = Waiting(
            model,
            "" if shares else None,
            1,
            max(call.size, 1),
            now,
            deadline=now + left - self._settings.margin_ms / 1000,
            lag_end=inf if lag_ms is None else now + lag_ms / 1000,
            priority=0 if plan is None else plan.priority,
            payload=ended,
        )
        self._perform(self._scheduler.add(waiting, now), now)
        return waiting

    def withdraw(self, waiting: Waiting, now: float) -> None:
        """Nobody waits for the call any more."""
        self._perform(self._scheduler.withdraw(waiting, now), now)

    def _perform(self, effects: Iterable[Effect], now: float) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._start(effect.batch, now)
            else:
                self._events.at(now, self._dropped, effect.call)
        wake = self._scheduler.wake_up
        if wake is not None and wake != self._wakes:
            self._wakes = wake
            self._events.at(max(wake, now), self._timer, wake)

    def _start(self, batch: Batch, now: float) -> None:
        seconds = self._curves[batch.model].seconds(batch.rows)
        self.busy_seconds += seconds
        end = max(heappop(self._free), now) + seconds
        heappush(self._free, end)
        self._events.at(end, self._ended, batch)

    def _ended(self, batch: Batch, now: float) -> None:
        self._perform(self._scheduler.finished(batch.number, now, answered=True), now)
        for member in batch.members:
            _tell(member, True, now)

    def _timer(self, wake: float, now: float) -> None:
        if wake == self._wakes:
            self._wakes = None
            self._perform(self._scheduler.timer(now), now)

    def _dropped(self, waiting: Waiting, now: float) -> None:
        _tell(waiting, False, now)


def _tell(waiting: Waiting, answered: bool, now: float) -> None:
    ended = waiting.payload
    assert callable(ended)
    ended(answered, now)
