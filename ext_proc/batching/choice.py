"""The choice: which of the queues that wait for a device has the next batch, and when it leaves.

A batch leaves when the device has an idle slot, or is about to have one. While it has none, and one model has it to
itself, a batch may be handed over ahead of time if it is full, if its most urgent member cannot wait, or if a member's
time for company is over; of several models nobody knows so early which one had better be next. Which queue is next:

- the one that answers most calls for its time on the device, which for the model that ran last is cheaper by what a
  switch costs; so a model keeps the device while others have time to spare. A full batch counts several times, since
  only smaller ones gain by waiting. A queue whose first call has a higher priority goes before all that is below it;
- but if the queue with the least slack would be late after it, that one; for as long as the last switch has not paid
  for itself, only where that saves more calls than it costs. Calls without a limit are ordered by their patience;
- but if the device has not the time for all that waits, whatever the order, the first rule alone, since then everybody
  is urgent: going from one to the next would leave nothing but switches, and small batches. A model that has had no
  batch for as long as patience lasts goes before the others then: none waits for ever.

An idle device waits for one more call where calls come so regularly that this one is about to come, and where it would
gain more than all who wait lose: it would have to wait for the whole batch that has just left without it. Where nobody
is about to come a batch leaves before the device is free: it waits there instead of here, and no timer can be late.
"""

from collections.abc import Mapping
from itertools import islice
from math import inf
from typing import Final

from ext_proc.batching.arrivals import Arrivals
from ext_proc.batching.device import Device
from ext_proc.batching.model import Model
from ext_proc.batching.queue import BatchQueue
from ext_proc.batching.waiting import Leaving, Waiting

# What is foreseen of a queue is wrong by some share of it, and an answer that is late by a little is work for nothing:
# an overloaded device had better keep its queue shorter than the limits allow.
DOUBT: Final = 1.25
# Of what the device can do: with more to do it never waits, since time that is lost does not come back.
_BUSY: Final = 0.9
# A model that has had no batch for so many times what one is expected to take, and for as long as patience lasts, is
# tried, whatever is expected: else nothing would ever tell that it has become faster. So a tenth of the time at most
# goes to trials.
_UNTRIED: Final = 10.0
# A full batch is worth so many times what its calls are: it gains nothing by waiting, while others gain company.
_FULL: Final = 4.0
_LEAD: Final = 0.002  # seconds by which a timer may be late; a call must not be dropped for it


class Choice:
    """Chooses among `queues`, which whoever owns them changes; one that has just had a batch is the last of them."""

    __slots__ = ("_arrivals", "_device", "_patience", "_queues")

    def __init__(self, device: Device, queues: Mapping[BatchQueue, Model], arrivals: Arrivals, patience: float) -> None:
        self._device = device
        self._queues = queues
        self._arrivals = arrivals
        self._patience = patience

    def next(self, now: float) -> tuple[BatchQueue, Leaving] | None:
        """The queue whose batch leaves next, if one may."""
        device = self._device
        urgent: BatchQueue | None = None
        best: BatchQueue | None = None
        why, least, most, first = Leaving.URGENT, inf, -1.0, 0
        wait = device.until_free(now) if device.all_busy else 0.0
        for queue, model in self._queues.items():
            if model.server_batches:  # slots of its own: it has nothing to do with the others
                if device.is_free(model):
                    return queue, Leaving.IDLE
                continue
            if not self._may_leave(model, now):
                continue
            if (slack := self._slack(queue, model, now) - wait) < least:
                urgent, least = queue, slack
            if (reason := self.reason(queue, model, now)) is None:
                continue
            priority, worth = queue.priority, self._worth(queue, model)
            if best is None or priority > first or (priority == first and worth > most):
                best, first, most, why = queue, priority, worth, reason
        if best is None or urgent is None:
            return None
        if best is not urgent and self._gives_way(best, urgent, least, now + wait):
            return urgent, self.reason(urgent, self._queues[urgent], now) or Leaving.URGENT
        return best, why

    def reason(self, queue: BatchQueue, model: Model, now: float) -> Leaving | None:
        """Why its next batch may leave now, where there is room for it."""
        if queue.full:
            return Leaving.FULL
        if self._idle_at(queue, model, now) <= now:
            return Leaving.IDLE
        if queue.lag_end <= now:
            return Leaving.LAG
        return Leaving.URGENT if self._urgent_at(queue, model) <= now else None

    def most_rows(self, queue: BatchQueue, model: Model, now: float) -> int:
        """Rows that its most urgent call leaves time for: a larger batch takes longer."""
        most, slope = queue.settings.max_rows, model.times.slope
        start = now + self._device.until_free(now, model) + self._device.switch_to(model)
        left = queue.deadline - start - model.cautious(0)
        if slope <= 0 or left <= 0 or left >= most * slope:  # late in any case: then with all the company there is
            return most
        return max(1, int(left / slope))

    def wake_up(self, queue: BatchQueue, model: Model, now: float) -> float:
        """When a call of the queue is late, and, where there is room for it, when its next batch may leave."""
        wake = inf
        if (call := queue.earliest()) is not None:
            wake = self.late_at(call, model, now)
        if self._device.has_room(model):
            wake = min(wake, self._idle_at(queue, model, now))
            if not self._is_shared(now):
                wake = min(wake, queue.lag_end, self._urgent_at(queue, model))
        return wake

    def is_untried(self, model: Model, now: float) -> bool:
        """Whether its last batch is so long ago that what is expected of the next one refuses nobody."""
        return now - model.tried > self._patience + _UNTRIED * (model.expected(1) + model.switch_seconds)

    def late_at(self, call: Waiting, model: Model, now: float) -> float:
        """When the call cannot be answered in time any more, by what is known now, were it sent alone and next.

        Now or earlier: it cannot. Nothing is known of a model that has had no batch for long: only the deadline counts.
        """
        if self.is_untried(model, now):
            return call.deadline
        start = call.deadline - self._device.switch_to(model) - model.times.expected(call.rows)
        return now if now + self._device.until_free(now, model) > start else start - model.way

    def _idle_at(self, queue: BatchQueue, model: Model, now: float) -> float:
        """From when on the device has nothing better to do than its next batch."""
        at = now if self._device.is_free(model) else self._device.soon_free(model)
        if at == inf or not self._tells_next(queue, model, now):
            return at
        if at > now:  # whoever is known not to come until then is not waited for
            return now if self._arrivals.soonest > at and not self._gains_by_company(queue, model, at) else at
        return self._arrivals.latest if self._gains_by_company(queue, model, now) else at

    def _tells_next(self, queue: BatchQueue, model: Model, now: float) -> bool:
        """Whether the next call is known, and only those of this queue have to do with when its batch leaves."""
        # Others lose by a wait, or may do so soon, or it would be for less.
        if len(self._queues) > 1 or self._device.width(model) > 1 or self._is_shared(now):
            return False
        most, arrivals = queue.settings.max_rows, self._arrivals
        return arrivals.tell_next(queue) and arrivals.rows * model.expected(most) <= _BUSY * most * arrivals.gap

    def _gains_by_company(self, queue: BatchQueue, model: Model, at: float) -> bool:
        """Whether the next call, if it has not come by then, gains more by this batch than the others lose by it."""
        arrivals, times = self._arrivals, model.times
        if arrivals.latest <= at or queue.rows + arrivals.rows > queue.settings.max_rows:
            return False
        later = max(0.0, arrivals.next - at) + times.slope * arrivals.rows
        return len(queue) * later < times.expected(queue.next_rows()) - later

    def _gives_way(self, best: BatchQueue, urgent: BatchQueue, slack: float, start: float) -> bool:
        """Whether the queue that is worth most lets a more urgent one go first, from `start` on."""
        device, model, other = self._device, self._queues[best], self._queues[urgent]
        if urgent.asks_again:
            return True
        if self._is_trial(model):
            return False
        if not self._all_in_time(start):
            return start - other.tried > self._patience
        if model is not device.last or start >= device.turn_end:
            return slack < self._cost(best) + device.switch_to(other)
        # It has just cost a switch. Under overload somebody is always urgent: going from one to the next would leave
        # the device nothing but switches. So only where that saves more calls than it costs.
        first, second = self._cost(best), self._cost(urgent)
        late = _late(best, start + first, start + second + model.switch_seconds + first)
        return _late(urgent, start + second, start + first + second) > late

    def _all_in_time(self, start: float) -> bool:
        """Whether the device has time for all that waits, if the queues go by urgency from `start` on.

        With a batch of each, the first call of each must be in time, and with all batches of each the last one.
        """
        last, one_each, all_each = self._device.last, 0.0, 0.0
        for queue, model in sorted(self._queues.items(), key=_due):
            if model.server_batches:
                continue
            seconds, switch = model.times.expected(queue.next_rows()), 0.0 if model is last else model.switch_seconds
            share = DOUBT / self._device.width(model)
            one_each += share * (seconds + switch)
            all_each += share * (seconds * queue.batches() + switch)
            if not queue.asks_again and (start + one_each > queue.due or start + all_each > queue.latest_due):
                return False
            last = model
        return True

    def _may_leave(self, model: Model, now: float) -> bool:
        """Whether there is room for a batch of it; on a device of several models not long before it would run."""
        device = self._device
        if device.is_free(model):
            return True
        return device.has_room(model) and (not self._is_shared(now) or device.soon_free(model) <= now)

    def _is_shared(self, now: float) -> bool:
        """Whether several models have had batches lately: what is handed over now is ahead of all that comes later.

        Of several slots one is free soon, whatever is handed over; and each would be idle for as long as the way is.
        """
        return self._device.slots == 1 and now - self._device.switched_at < self._patience

    def _is_trial(self, model: Model) -> bool:
        """Whether its next batch would be the first that tells what a switch to it costs."""
        return model is self._device.last and not model.has_stayed and model.settings.switch_ms is None

    def _urgent_at(self, queue: BatchQueue, model: Model) -> float:
        return queue.deadline - model.cautious(queue.next_rows()) - self._device.switch_to(model) - _LEAD

    def _cost(self, queue: BatchQueue) -> float:
        """Seconds on the device of its next batch."""
        model = self._queues[queue]
        return self._device.switch_to(model) + model.times.expected(queue.next_rows())

    def _slack(self, queue: BatchQueue, model: Model, now: float) -> float:
        """Seconds that its most urgent call can still wait."""
        needs = model.cautious(queue.next_rows()) + self._device.switch_to(model)
        return queue.due - now - needs - _LEAD

    def _worth(self, queue: BatchQueue, model: Model) -> float:
        """Calls answered for each second on the device, if all that waits here ran now; weighted."""
        if self._is_trial(model):
            return inf
        seconds = queue.batches() * model.times.expected(queue.next_rows()) + self._device.switch_to(model)
        worth = len(queue) / max(seconds, 1e-6)
        return _FULL * worth if queue.full else worth


def _due(entry: tuple[BatchQueue, Model]) -> float:
    return entry[0].due


def _late(queue: BatchQueue, end: float, later: float) -> int:
    """How many calls of its next batch are in time if that ends at `end`, and are not if it ends `later`."""
    return sum(end <= call.due < later for call in islice(queue, queue.settings.max_rows))
