"""Which calls are sampled, and what becomes a span."""

import pytest

from ext_proc.tracing.tracer import MOST_LINKS, Kind, Tracer
from mesh.trace_context import TraceContext
from tests.ext_proc.tracing.kept import CALLER, WALL, Spans

SAMPLED = {name: value.decode() for name, value in CALLER.headers()}
UNSAMPLED = {"traceparent": SAMPLED["traceparent"][:-2] + "00"}


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_of_a_call_with_a_traceparent_the_caller_decides(ratio: float) -> None:
    tracer = Spans(lambda: 0.0, ratio).tracer
    own = tracer.begin(tracer.caller_of({}, SAMPLED))
    assert own is not None
    assert (own.trace_id, own.state) == (CALLER.trace_id, "v=1")
    assert own.span_id != CALLER.span_id
    assert tracer.begin(tracer.caller_of(UNSAMPLED, {})) is None


def test_of_any_other_the_ratio_decides() -> None:
    drawn = iter([0, (1 << 52) - 1, 7, 8, 1 << 52])
    tracer = Tracer(lambda span: None, 0.5, lambda: 0.0, lambda: 0.0, lambda size: next(drawn))
    assert tracer.begin(None) == TraceContext((1 << 52) - 1, 7, 3)
    drawn = iter([1 << 52])
    assert tracer.begin(None) is None


def test_nothing_is_sampled_by_a_ratio_of_zero() -> None:
    tracer = Tracer(lambda span: None, 0.0, lambda: 0.0, lambda: 0.0, lambda size: 0)
    assert tracer.begin(None) is None


def test_a_sampled_caller_counts_whichever_header_names_it() -> None:
    tracer = Spans(lambda: 0.0).tracer
    other = {"traceparent": f"00-{1:032x}-{2:016x}-01"}
    assert tracer.caller_of(other, SAMPLED) == TraceContext(1, 2)
    assert tracer.caller_of(UNSAMPLED, SAMPLED) == CALLER
    found = tracer.caller_of(UNSAMPLED, {})
    assert found is not None
    assert not found.sampled


def test_no_id_is_zero() -> None:
    drawn = iter([0, 0, 5, 0, 6])
    tracer = Tracer(lambda span: None, 1.0, lambda: 0.0, lambda: 0.0, lambda size: next(drawn))
    assert tracer.root() == TraceContext(5, 6, 3)


def test_a_span_has_the_times_of_the_wall_and_the_first_links() -> None:
    spans = Spans(lambda: 100.0)
    own = spans.tracer.under(CALLER)
    links = tuple(TraceContext(9, n) for n in range(1, MOST_LINKS + 4))
    spans.tracer.ended("x", own, CALLER, 98.5, 99.25, {"a": 1}, Kind.CLIENT, links)
    (span,) = spans.all
    assert (span.begun, span.ended) == (round((WALL + 98.5) * 1e9), round((WALL + 99.25) * 1e9))
    assert (span.links, span.more_links) == (links[:MOST_LINKS], 3)
    assert span.parent_id == CALLER.span_id
