"""The processor where calls are traced: the same sessions, and a span for each call that is sampled.

Nothing is added to a call before it is decided but, where it is held, the span under which it is resolved.
"""

from collections.abc import Callable
from dataclasses import replace

from ext_proc.http2.session import Stream
from ext_proc.processing.decision import Held
from ext_proc.processing.policy import RequestPolicy
from ext_proc.server.processor import ExtProcService, ExtProcStream, Tasks, outcome_of
from ext_proc.telemetry.metrics import Metrics
from ext_proc.telemetry.refusals import Refusals
from ext_proc.telemetry.tallies import Labels
from ext_proc.tracing.calls import NAME, NOTHING, DecisionNotes, call_attributes, error_of
from ext_proc.tracing.tracer import Attributes, Kind, Tracer
from mesh.trace_context import TraceContext


class TracedService(ExtProcService):
    """See `ExtProcService`. `notes` are those of the policy."""

    def __init__(
        self,
        policy: RequestPolicy,
        metrics: Metrics,
        refusals: Refusals,
        tasks: Tasks,
        clock: Callable[[], float],
        tracer: Tracer,
        notes: DecisionNotes,
    ) -> None:
        super().__init__(policy, metrics, refusals, tasks, clock)
        self.tracer = tracer
        self.notes = notes

    def open(self, stream: Stream) -> "TracedStream":
        """A session for one stream."""
        return TracedStream(stream, self)


class TracedStream(ExtProcStream):
    """One stream, and the span of its call.

    The span's parent is what Envoy says on the stream, where it traces itself, else what the call's own headers say:
    these have Envoy's own span only behind the router. A stream may say "not sampled" of a call that is, where the
    filter is told to make no span of it (`emit_client_span` of Envoy 1.40).
    """

    __slots__ = ("_broke", "_caller", "_context", "_first", "_notes", "_over", "_reads", "_sampling", "_tracing")

    def __init__(self, stream: Stream, service: TracedService) -> None:
        super().__init__(stream, service)
        self._tracing = service
        self._first: float | None = None
        self._caller: TraceContext | None = None
        self._context: TraceContext | None = None
        self._notes = NOTHING
        self._sampling = True  # is not decided yet
        self._over = self._broke = False
        self._reads = False  # a message: what is noted now is about this call

    def message(self, data: bytes) -> None:
        """One message of Envoy's."""
        notes = self._tracing.notes
        if self._first is None:
            self._first = self._tracing.clock()
        notes.last, self._reads = NOTHING, True
        super().message(data)
        self._notes, self._reads = self._noted(), False

    def _held(self, held: Held) -> Held:
        context = self._begin()
        return held if context is None else replace(held, trace=context)

    def _decided(self, waited: Labels) -> float | None:
        seconds = super()._decided(waited)
        context = self._span_ended(waited[0])
        if context is not None and seconds is not None:
            self._tracing.metrics.decisions.exemplify(waited, seconds, context.trace_id)
        return seconds

    def _broken(self) -> None:
        self._broke = True
        super()._broken()

    def _settle(self) -> None:
        super()._settle()
        self._span_ended("")

    def _begin(self) -> TraceContext | None:
        """The span of this call, once its headers have come; None if it is not sampled."""
        if self._sampling:
            self._sampling = False
            head, tracer = self._machine.head, self._tracing.tracer
            self._caller = tracer.caller_of(self._stream.metadata, {} if head is None else head.headers)
            self._context = tracer.begin(self._caller)
        return self._context

    def _span_ended(self, waited: str) -> TraceContext | None:
        """The call is decided, or over: its span has ended. It has one only."""
        machine = self._machine
        if self._over or self._first is None or machine.head is None:
            return None
        self._over = True
        context = self._begin()
        if context is None:
            return None
        attributes = call_attributes(machine.head, machine.call, machine.route, outcome_of(machine), waited)
        error = "internal" if self._broke else error_of(machine.refusal)
        tracer = self._tracing.tracer
        tracer.ended(
            NAME, context, self._caller, self._first, tracer.clock(), {**attributes, **self._noted()}, Kind.SERVER,
            error=error,
        )  # fmt: skip
        return context

    def _noted(self) -> Attributes:
        return self._notes or (self._tracing.notes.last if self._reads else NOTHING)
