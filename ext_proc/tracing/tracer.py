"""The tracer: which calls are sampled, and the spans of those that are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from mesh.trace_context import TraceContext, read_context

Attribute = str | int | float | bool | tuple[str, ...]
Attributes = Mapping[str, Attribute]

MOST_LINKS = 128
"""Of one span, OpenTelemetry's default. Where there are more the first ones are kept, and the rest is counted."""
_SAMPLED, _RANDOM = 0x01, 0x02


class Kind(Enum):
    """What a span is to the one above it: served for a caller of another process, called in one, or neither."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended. Times in ns since the epoch; `parent_id` is 0 for the first span of a trace.

    `error` says why it failed, or is empty; `more_links` is how many were left out.
    """

    name: str
    context: TraceContext
    parent_id: int
    begun: int
    ended: int
    attributes: Attributes
    kind: Kind = Kind.INTERNAL
    links: tuple[TraceContext, ...] = ()
    more_links: int = 0
    error: str = ""


class Tracer:
    """Makes spans of what has ended, and hands them to `sink`.

    `ratio` of the calls without a traceparent are sampled. `clock` is that of all times here, monotonic; `wall` in
    seconds since the epoch. `bits` gives so many random ones.
    """

    def __init__(
        self,
        sink: Callable[[Span], None],
        ratio: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        bits: Callable[[int], int],
    ) -> None:
        self._sink = sink
        self._ratio = ratio
        self.clock = clock
        self._wall = wall
        self._bits = bits

    def caller_of(self, *carriers: Mapping[str, str]) -> TraceContext | None:
        """The span that a call was made under: the first of these headers that says of a sampled one decides.

        None: no header says anything, and the call may be sampled as a trace of its own.
        """
        told: TraceContext | None = None
        for headers in carriers:
            found = read_context(headers)
            if found is not None and found.sampled:
                return found
            told = told or found
        return told

    def begin(self, caller: TraceContext | None) -> TraceContext | None:
        """A span for a call that was made under this one; None where it is not to be traced."""
        if caller is not None:
            return self.under(caller) if caller.sampled else None
        if self._bits(53) >= self._ratio * (1 << 53):
            return None
        return self.root()

    def root(self) -> TraceContext:
        """A span that begins a trace."""
        return TraceContext(self._id(128), self._id(64), _SAMPLED | _RANDOM)

    def under(self, parent: TraceContext) -> TraceContext:
        """A span below that one."""
        return TraceContext(parent.trace_id, self._id(64), parent.flags, parent.state)

    def ended(
        self,
        name: str,
        context: TraceContext,
        parent: TraceContext | None,
        begun: float,
        ended: float,
        attributes: Attributes,
        kind: Kind = Kind.INTERNAL,
        links: tuple[TraceContext, ...] = (),
        error: str = "",
    ) -> None:
        """A span has ended, or had so at that time. See `Span`; times on `clock`."""
        # As the two clocks stand now: a wall clock that was set in between moves later spans only.
        epoch = self._wall() - self.clock()
        parent_id = 0 if parent is None else parent.span_id
        kept, more = links[:MOST_LINKS], max(0, len(links) - MOST_LINKS)
        self._sink(
            Span(name, context, parent_id, _ns(epoch + begun), _ns(epoch + ended), attributes, kind, kept, more, error)
        )

    def _id(self, size: int) -> int:
        while True:
            found = self._bits(size)
            if found:
                return found


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
