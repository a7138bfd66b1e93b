"""The way of spans out of the process: a bounded queue, and a thread that sends what is in it.

The loop that answers calls only puts spans into the queue. They are encoded and sent by the thread.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.tracing.tracer import Span

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 512
"""Spans of one delivery."""
_PATIENCE = 1.0  # seconds for which a span waits for others


class Export(Protocol):
    """Where spans go."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether they have arrived. Called in the thread of the queue; it gives up by itself after a time."""

    def close(self) -> None:
        """A `send` that goes on is given up."""


class SpanCounts(Collector):
    """What became of spans."""

    def __init__(self) -> None:
        self.sent = self.dropped = self.failed = 0

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        told = "Spans, by what became of them: sent, dropped for want of room, or not taken by the collector."
        family = CounterMetricFamily("tbms_spans", told, labels=["outcome"])
        for outcome, count in (("sent", self.sent), ("dropped", self.dropped), ("failed", self.failed)):
            family.add_metric([outcome], count)
        yield family


class SpanQueue:
    """Takes spans from one thread, and sends them from its own. `most` of them may wait; what is more is dropped."""

    def __init__(self, export: Export, most: int, patience: float = _PATIENCE) -> None:
        self._export = export
        self._most = most
        self._enough = min(MOST_AT_ONCE, most // 2)
        self._patience = patience
        self._spans: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._ended: Callable[[], None] = lambda: None
        self.counts = SpanCounts()
        self._thread = threading.Thread(target=self._run, name="tbms spans", daemon=True)

    def start(self) -> None:
        """Sends from now on."""
        self._thread.start()

    def put(self, span: Span) -> None:
        """Takes a span to be sent."""
        if len(self._spans) >= self._most or self._closing:
            self.counts.dropped += 1
            return
        self._spans.append(span)
        if len(self._spans) == self._enough:
            self._wake.set()

    def finish(self, ended: Callable[[], None]) -> None:
        """No more is taken, and what is left is sent; `ended` is called by the thread when that is done."""
        self._ended = ended
        self._closing = True
        self._wake.set()

    def abandon(self) -> None:
        """What is not sent by now is lost, and counted as dropped."""
        while spans := self._some():
            self.counts.dropped += len(spans)
        self._export.close()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._patience)
            self._wake.clear()
            self._send_all()
        self._send_all()
        self._ended()

    def _send_all(self) -> None:
        while spans := self._some():
            if self._sends(spans):
                self.counts.sent += len(spans)
            else:
                self.counts.failed += len(spans)

    def _sends(self, spans: Sequence[Span]) -> bool:
        try:
            return self._export.send(spans)
        except Exception:
            logger.exception("spans failed")
            return False

    def _some(self) -> list[Span]:
        spans: list[Span] = []
        with suppress(IndexError):  # none is left
            while len(spans) < MOST_AT_ONCE:
                spans.append(self._spans.popleft())
        return spans
