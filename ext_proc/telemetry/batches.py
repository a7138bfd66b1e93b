"""What batches did: metrics by model."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.admin.documents import BatchesStatus
from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.waiting import Batch, Dropped
from ext_proc.telemetry.batch_log import BatchLog
from ext_proc.telemetry.model_labels import ModelLabels
from ext_proc.telemetry.tallies import Spread, Tally
from mesh.trace_context import TraceContext

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class BatchMetrics(Collector):
    """See `ext_proc.gathering.gatherer.BatchReport`."""

    def __init__(self, labels: ModelLabels) -> None:
        self._label = labels.of
        self.schedulers: Callable[[], Sequence[Scheduler]] = tuple
        """Where calls wait, for the gauges."""
        self.log: BatchLog | None = None
        """Is told of each batch that has ended, where that is wanted."""
        self._alone = Tally("tbms_calls_alone", "Calls that share no batch, by why.", ["model", "why"])
        self._apart = Tally(
            "tbms_calls_apart",
            "Calls that share batches with those of their own protocol only, though their model is to share, by why.",
            ["model", "why"],
        )
        self._batches = Tally("tbms_batches", "Batches, by why they left.", ["model", "why"])
        self._ended = Tally("tbms_batches_ended", "Batches, by how they ended.", ["model", "outcome"])
        self._dropped = Tally("tbms_calls_dropped", "Calls refused while they waited, or at once.", ["model", "why"])
        self._checked = Tally("tbms_batch_checks", "Answers in company compared with those alone.", ["model", "same"])
        self._rows = Spread("tbms_batch_rows", "Rows of a batch.", ["model"], _ROWS)
        self._calls = Spread("tbms_batch_calls", "Calls of a batch.", ["model"], _ROWS)
        self._waits = Spread(
            "tbms_batch_wait_seconds", "From a call's arrival until its batch leaves.", ["model"], _SECONDS
        )
        self._took = Spread("tbms_batch_seconds", "From a batch's leaving to its reply.", ["model"], _SECONDS)
        self._by_model: tuple[Tally | Spread, ...] = (
            self._alone, self._apart, self._batches, self._ended, self._dropped, self._checked, self._rows, self._calls,
            self._waits, self._took,
        )  # fmt: skip
        labels.retired += [each.forget for each in self._by_model]

    def alone(self, model: str, reason: str) -> None:
        """See `BatchReport`."""
        self._alone.counts[self._label(model), reason] += 1

    def apart(self, model: str, reason: str) -> None:
        """See `BatchReport`."""
        self._apart.counts[self._label(model), reason] += 1

    def sent(self, batch: Batch, waits: Sequence[float]) -> None:
        """See `BatchReport`."""
        model = self._label(batch.model)
        self._batches.counts[model, batch.why.value] += 1
        self._rows.observe((model,), batch.rows)
        self._calls.observe((model,), len(batch.members))
        self._waits.observe((model,), *waits)

    def ended(self, batch: Batch, seconds: float, outcome: str, trace: TraceContext | None = None) -> None:
        """See `BatchReport`."""
        model = self._label(batch.model)
        self._ended.counts[model, outcome] += 1
        self._took.observe((model,), seconds)
        if trace is not None:
            self._took.exemplify((model,), seconds, trace.trace_id)
        if self.log is not None:
            self.log(batch, seconds, outcome)

    def dropped(self, model: str, why: Dropped) -> None:
        """See `BatchReport`."""
        self._dropped.counts[self._label(model), why.value] += 1

    def checked(self, model: str, same: bool) -> None:
        """See `BatchReport`."""
        label = self._label(model)
        self._checked.counts[label, "no"] += not same  # there from the first check on, so that it is seen to grow
        self._checked.counts[label, "yes"] += same

    def status(self) -> Mapping[str, BatchesStatus]:
        """What they came to by model, for /status."""
        rows, waits = self._rows.by(0), self._waits.by(0)
        return {model: {"rows": rows[model], "waits": waits[model]} for model in rows}

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        for metric in self._by_model:
            yield from metric.collect()
        schedulers = self.schedulers()
        for name, what, amount in (
            ("tbms_batch_queue_calls", "Calls that wait for a batch.", sum(each.calls for each in schedulers)),
            ("tbms_batch_queue_bytes", "Bytes of the calls that wait.", sum(each.bytes for each in schedulers)),
            ("tbms_batches_running", "Batches at the model server.", sum(each.running for each in schedulers)),
            ("tbms_batch_slots", "Batches that the device runs at once.", sum(each.slots for each in schedulers)),
        ):
            yield GaugeMetricFamily(name, what, amount)
