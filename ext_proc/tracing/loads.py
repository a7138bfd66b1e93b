"""The spans of a node's loads: `tbms.hold` of a call that waits for its model, and those of the load itself.

Several calls may wait for one load. Its span is part of the trace of the first of them that is traced; the spans of the
others are linked with it, in both directions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ext_proc.tracing.calls import error_of, model_attributes
from ext_proc.tracing.tracer import Kind, Tracer
from ext_proc.wire.call import Call
from mesh.model_cache.loads.stages import LoadEnd, StageName
from mesh.trace_context import TraceContext

HOLD, LOAD = "tbms.hold", "tbms.load"
_STAGES = {
    StageName.ROOM: ("tbms.room", Kind.INTERNAL),
    StageName.FETCH: ("tbms.fetch", Kind.CLIENT),
    StageName.NEEDS: ("tbms.needs", Kind.INTERNAL),
    StageName.SERVER: ("tbms.server_load", Kind.CLIENT),
}
SHORTEST_WAIT = 0.001
"""Seconds; a load that has waited no longer for room, or for what it needs, has no span for that."""
_WAITS = (StageName.ROOM, StageName.NEEDS)


class LoadTraces:
    """The holds of traced calls that go on, and the loads that they wait for."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._loads_of: dict[TraceContext, list[TraceContext]] = {}

    @contextmanager
    def hold(self, caller: TraceContext, call: Call) -> Iterator[TraceContext]:
        """A call waits for its model, for the length of the block."""
        tracer = self._tracer
        context, begun = tracer.under(caller), tracer.clock()
        loads = self._loads_of[context] = []
        error = ""
        try:
            yield context
        except Exception as failure:
            error = error_of(failure)
            raise
        finally:
            del self._loads_of[context]
            told = model_attributes(call.model, call.version, call.label)
            tracer.ended(HOLD, context, caller, begun, tracer.clock(), told, links=tuple(loads), error=error)

    def ended(self, load: LoadEnd) -> None:
        """A load has ended, and those who waited for it have not gone on yet. If none is traced, it has no span."""
        if not load.traced:
            return
        parent, *others = load.traced
        tracer = self._tracer
        context = tracer.under(parent)
        for other in others:
            if other in self._loads_of:
                self._loads_of[other].append(context)
        told = {**model_attributes(load.key.model, load.key.version), "tbms.traced_calls": len(load.traced)}
        error = error_of(load.error)
        tracer.ended(LOAD, context, parent, load.begun, load.ended, told, links=tuple(others), error=error)
        for stage in load.stages:
            if stage.name in _WAITS and stage.ended - stage.begun < SHORTEST_WAIT:
                continue
            name, kind = _STAGES[stage.name]
            why = error if stage.failed else ""
            tracer.ended(name, tracer.under(context), context, stage.begun, stage.ended, {}, kind, error=why)
