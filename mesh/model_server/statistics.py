"""Counts and times of one model version, as V2's ModelStatistics reports them."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often something happened, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """One more of them."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """Of one version. `last_inference` is in milliseconds since the epoch."""

    last_inference: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)

    def succeeded(self, at_ms: int, queue_ns: int, compute_ns: int) -> None:
        """An inference was answered."""
        self.last_inference = at_ms
        self.success.add(queue_ns + compute_ns)
        self.queue.add(queue_ns)
        self.compute.add(compute_ns)

    def failed(self, ns: int) -> None:
        """An inference was started and failed."""
        self.fail.add(ns)
