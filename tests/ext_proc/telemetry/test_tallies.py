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


def test_counts_and_values_by_some_labels_are_the_sums_over_the_others() -> None:
    tally, spread = (
        Tally("c", "A counter.", ["model", "rank", "fate"]),
        Spread("h", "A histogram.", ["model", "rank"], BOUNDS),
    )
    for model in "ab":
        tally.counts[model, "0", "won"] += 2
        tally.counts[model, "1", "late"] += 1
        spread.observe((model, "0"), 0.4, 20.0)
    spread.observe(("b", "1"), 0.0)
    assert tally.by(1, 2) == {"0": {"won": 4}, "1": {"late": 2}}
    assert spread.by(1) == {
        "0": {"bounds": BOUNDS, "counts": [0, 2, 0, 2], "sum": 40.8},
        "1": {"bounds": BOUNDS, "counts": [1, 0, 0, 0], "sum": 0.0},
    }
    spread.observe(("a", "0"), 0.4)
    assert spread.by(0)["a"]["counts"] == [0, 2, 0, 1]


def _lines(text: bytes) -> set[str]:
    """But for when each series began, which nobody asks for."""
    return {line for line in text.decode().splitlines() if "_created" not in line}
