"""The queue of spans and its thread: nothing is lost in silence, and nobody waits for a collector."""

import threading
from collections.abc import Sequence

import pytest

from ext_proc.tracing.exporting import MOST_AT_ONCE, SpanQueue
from ext_proc.tracing.tracer import Span
from mesh.trace_context import TraceContext

LONG = 600.0


class Gate:
    """A collector that takes spans once it is open, and gives up when it is closed."""

    def __init__(self) -> None:
        self.asked, self.open = threading.Event(), threading.Event()
        self.taken: list[int] = []
        self.closed = False
        self.fails = False
        self.raises = False

    def send(self, spans: Sequence[Span]) -> bool:
        self.asked.set()
        assert self.open.wait(LONG)
        if self.raises:
            raise ValueError("no")
        if self.fails or self.closed:
            return False
        self.taken.append(len(spans))
        return True

    def close(self) -> None:
        self.closed = True
        self.open.set()


def span(number: int = 1) -> Span:
    return Span("x", TraceContext(1, number), 0, 0, 1, {})


def finish(queue: SpanQueue) -> None:
    """Until all is sent."""
    ended = threading.Event()
    queue.finish(ended.set)
    assert ended.wait(LONG)
    queue.abandon()


def outcomes(queue: SpanQueue) -> dict[str, float]:
    (family,) = queue.counts.collect()
    return {each.labels["outcome"]: each.value for each in family.samples}


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    gate = Gate()
    queue = SpanQueue(gate, most=3, patience=0.0)
    queue.start()
    queue.put(span())
    assert gate.asked.wait(LONG)  # that one is on its way, and the thread waits
    for _ in range(5):
        queue.put(span())
    gate.open.set()
    finish(queue)
    assert gate.taken == [1, 3]
    assert outcomes(queue) == {"sent": 4, "dropped": 2, "failed": 0}


def test_spans_are_sent_together() -> None:
    gate = Gate()
    gate.open.set()
    queue = SpanQueue(gate, most=10 * MOST_AT_ONCE, patience=LONG)
    for number in range(MOST_AT_ONCE + 1):
        queue.put(span(number + 1))
    queue.start()
    finish(queue)
    assert gate.taken == [MOST_AT_ONCE, 1]
    queue.put(span())
    assert outcomes(queue) == {"sent": MOST_AT_ONCE + 1, "dropped": 1, "failed": 0}


def test_a_full_delivery_does_not_wait() -> None:
    gate = Gate()
    queue = SpanQueue(gate, most=10 * MOST_AT_ONCE, patience=LONG)
    queue.start()
    for number in range(MOST_AT_ONCE):
        queue.put(span(number + 1))
    assert gate.asked.wait(LONG)
    gate.open.set()
    finish(queue)
    assert sum(gate.taken) == MOST_AT_ONCE


def test_what_a_collector_that_hangs_has_not_taken_at_the_end_is_lost_and_counted() -> None:
    gate = Gate()
    queue = SpanQueue(gate, most=10, patience=0.0)
    queue.start()
    queue.put(span())
    assert gate.asked.wait(LONG)
    queue.put(span())
    ended = threading.Event()
    queue.finish(ended.set)
    assert not ended.is_set()
    queue.abandon()
    assert gate.closed
    assert ended.wait(LONG), "the thread ends once it is let go"
    assert outcomes(queue) == {"sent": 0, "dropped": 1, "failed": 1}


@pytest.mark.parametrize("how", ["fails", "raises"])
def test_what_the_collector_does_not_take_is_counted(how: str) -> None:
    gate = Gate()
    setattr(gate, how, True)
    gate.open.set()
    queue = SpanQueue(gate, most=10, patience=LONG)
    queue.start()
    queue.put(span())
    finish(queue)
    assert outcomes(queue) == {"sent": 0, "dropped": 0, "failed": 1}
