"""Spans that are kept where they are made, with ids that count up."""

import itertools
from collections.abc import Callable

from ext_proc.tracing.tracer import Span, Tracer
from mesh.trace_context import TraceContext

WALL = 1_700_000_000.0
CALLER = TraceContext(0xAB << 64, 0xCD, state="v=1")
"""The span of a client."""


class Spans:
    """The spans of a tracer, in the order in which they ended. Its epoch is `WALL` where its clock is 0."""

    def __init__(self, clock: Callable[[], float], ratio: float = 0.0) -> None:
        self.all: list[Span] = []
        ids = itertools.count(1)
        self.tracer = Tracer(self.all.append, ratio, clock, lambda: WALL + clock(), lambda size: next(ids))

    def named(self, name: str) -> list[Span]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> Span:
        (found,) = self.named(name)
        return found


def at(ns: int) -> float:
    """Seconds of the tracer's clock."""
    return round(ns / 1e9 - WALL, 6)
