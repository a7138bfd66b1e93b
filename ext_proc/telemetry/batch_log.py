"""A line for each batch, where a node is told to write them: `tbms plan --log` reads them."""

import logging
from collections.abc import Callable

from ext_proc.batching.record import batch_record
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch

logger = logging.getLogger("tbms.batches")


class BatchLog:
    """Writes the records of batches that have ended. `clock` in seconds, monotonic; `slots` as they are now."""

    def __init__(self, settings: BatchingSettings, clock: Callable[[], float], slots: Callable[[], int]) -> None:
        self._settings = settings
        self._clock = clock
        self._slots = slots

    def __call__(self, batch: Batch, seconds: float, outcome: str) -> None:
        """A batch has ended, so many seconds after it left."""
        if logger.isEnabledFor(logging.INFO):
            slots = None if self._settings.of(batch.model).server_batches else self._slots()
            logger.info("batch", extra=batch_record(batch, self._clock() - seconds, seconds, outcome, slots))
