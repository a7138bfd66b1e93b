"""The spans of gathered calls: `tbms.queue` of each call while it waits, `tbms.batch` of the one call that it becomes.

A batch has many callers, so that its span begins a trace of its own and is linked with the queue span of each member
that is traced, in both directions. Only the batch of one call is part of that call's trace.
"""

from collections.abc import Sequence

from ext_proc.tracing.calls import error_of, model_attributes
from ext_proc.tracing.tracer import Kind, Tracer
from mesh.trace_context import TraceContext

QUEUE, BATCH = "tbms.queue", "tbms.batch"


class QueueTrace:
    """A traced call, or a piece of one, that waits for its batch from now on."""

    def __init__(self, tracer: Tracer, caller: TraceContext) -> None:
        self._tracer = tracer
        self._caller = caller
        self._begun = tracer.clock()
        self._left: float | None = None
        self._batches: list[TraceContext] = []
        self.context = tracer.under(caller)

    def leaves(self, batch: TraceContext, now: float) -> None:
        """It is in that batch; in one more, where an earlier one has failed."""
        self._left = now if self._left is None else self._left
        self._batches.append(batch)

    def ended(self, model: str, rows: int, error: BaseException | None) -> None:
        """Nobody waits for its reply any more. The span has ended when it left, or now if it never did."""
        waits_no_more = self._tracer.clock() if self._left is None else self._left
        # The batch of this call alone is below this span.
        links = tuple(batch for batch in self._batches if batch.trace_id != self.context.trace_id)
        told = {**model_attributes(model), "tbms.rows": rows, "tbms.batches": len(self._batches)}
        why = "" if self._left is not None else error_of(error)
        self._tracer.ended(
            QUEUE, self.context, self._caller, self._begun, waits_no_more, told, links=links,
            error="" if why == "CancelledError" else why,
        )  # fmt: skip


class BatchTrace:
    """A batch that leaves now, with these of its members traced, in the order of their queue."""

    def __init__(self, tracer: Tracer, traced: Sequence[QueueTrace], calls: int) -> None:
        self._tracer = tracer
        self._traced = traced
        self._begun = tracer.clock()
        self._calls = calls
        self._parent = traced[0].context if calls == 1 else None
        self.context = tracer.root() if self._parent is None else tracer.under(self._parent)
        for each in traced:
            each.leaves(self.context, self._begun)

    def ended(self, model: str, rows: int, why: str, outcome: str) -> None:
        """It has ended so. Of more members than a span has links, the most urgent are linked."""
        links = tuple(each.context for each in self._traced) if self._parent is None else ()
        told = {
            **model_attributes(model),
            "tbms.rows": rows,
            "tbms.calls": self._calls,
            "tbms.why": why,
            "tbms.outcome": outcome,
        }
        self._tracer.ended(
            BATCH, self.context, self._parent, self._begun, self._tracer.clock(), told, Kind.CLIENT, links,
            "" if outcome == "answered" else outcome,
        )  # fmt: skip
