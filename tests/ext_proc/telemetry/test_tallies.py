"""Counters and histograms of our own: a scrape reads them as it would those of prometheus-client."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from ext_proc.telemetry.metrics import exposition
from ext_proc.telemetry.tallies import Spread, Tally

BOUNDS = (0.001, 0.5, 10)
VALUES = (0.0, 0.001, 0.0011, 0.5, 9.9, 10.0, 10.1, 4000.0)


def test_a_scrape_reads_what_the_library_would_have_written() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "A counter.", ["a", "b"], registry=registry)
    spread = Histogram("h", "A histogram.", ["a"], buckets=BOUNDS, registry=registry)
    bare = Histogram("bare", "A histogram.", buckets=BOUNDS, registry=registry)
    ours = Tally("c", "A counter.", ["a", "b"]), Spread("h", "A histogram.", ["a"], BOUNDS)
    ours_bare = Spread("bare", "A histogram.", [], BOUNDS)
    for n, value in enumerate(VALUES):
        counter.labels("x", str(n % 2)).inc()
        ours[0].counts["x", str(n % 2)] += 1
        spread.labels("x").observe(value)
        ours[1].observe(("x",), value)
        bare.observe(value)
    ours_bare.observe((), *VALUES)
    assert _lines(exposition((*ours, ours_bare))) == _lines(generate_latest(registry))


def _lines(text: bytes) -> set[str]:
    """But for when each series began, which nobody asks for."""
    return {line for line in text.decode().splitlines() if "_created" not in line}
