"""Who may have company: which calls are gathered at all, and what they are read as where they may share a batch."""

import logging
from collections.abc import Callable
from typing import Protocol

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.terms import Terms
from ext_proc.gathering.batch_request import whole_body
from ext_proc.processing.decision import Held
from ext_proc.wire.batch import Alone, Member
from ext_proc.wire.buckets import in_buckets
from ext_proc.wire.call import READS, Call
from ext_proc.wire.codecs import batches_of
from ext_proc.wire.v2.across import Apart, crossing
from ext_proc.worker_thread import off_loop

logger = logging.getLogger(__name__)

GATHERED_VERBS = READS
"""What may be gathered: calls that ask a model for an inference, each with one reply."""
UNFIT_SECONDS = 600.0
"""For so long a model that was found to be no company is asked call by call; it may be another version by then."""
UNFIT = "unfit"
"""Why calls of such a model go alone, beside the reasons of `AloneReason`."""
MAX_UNFIT = 10_000
"""Most models that are remembered so."""


class CompanyReport(Protocol):
    """Is told which calls have no company, and why."""

    def alone(self, model: str, reason: str) -> None:
        """A call goes alone that might have shared a batch."""

    def apart(self, model: str, reason: str) -> None:
        """A call shares no batch with those of other protocols, though its model is to."""


class Company:
    """What calls are read as, and the models that were found to be no company. `clock` in seconds, monotonic."""

    def __init__(self, report: CompanyReport, clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._unfit: dict[str, float] = {}  # by model, when it was found to be no company

    async def member_of(self, held: Held, terms: Terms, settings: ModelBatching) -> tuple[Call, Member | None]:
        """What a call was read as, and what may be merged of it by its model's settings; None if it goes alone."""
        call, model = held.call, held.call.model
        if not shares(settings, terms):
            return call, None
        body = whole_body(held)
        read = await off_loop(len(body), batches_of(call).read, call, held.head.headers, body)
        if isinstance(read, Alone):
            self._report.alone(model, read.reason)
            return call, None
        if self._is_unfit(model):
            self._report.alone(model, UNFIT)
            return call, None
        if settings.share_protocols:
            crossed = crossing(call, read)
            if isinstance(crossed, Apart):
                self._report.apart(model, crossed)
            else:
                call, read = crossed
        if settings.pad:
            read = await off_loop(read.size, in_buckets, read, settings.pad, settings.max_bytes)
        return call, read

    def mark_unfit(self, model: str, cause: str) -> None:
        """The model is no company, for some time."""
        logger.warning("model is not batched", extra={"model": model, "cause": cause, "seconds": UNFIT_SECONDS})
        if len(self._unfit) >= MAX_UNFIT:
            self._unfit.pop(next(iter(self._unfit)))
        self._unfit[model] = self._clock()

    def _is_unfit(self, model: str) -> bool:
        since = self._unfit.get(model)
        if since is None:
            return False
        if self._clock() < since + UNFIT_SECONDS:
            return True
        del self._unfit[model]
        return False


def wants(settings: BatchingSettings, model: str, terms: Terms) -> bool:
    """Whether a call is to be gathered, or at least ordered and shed."""
    return model in settings.models or shares(settings.default, terms)


def shares(settings: ModelBatching, terms: Terms) -> bool:
    """Whether a call may have company: it says so, or its model's settings do."""
    return settings.cross_request if terms.shares is None else terms.shares


def piece_rows(member: Member, settings: ModelBatching) -> list[int]:
    """The rows of each piece of a call that is larger than a batch may be; empty if it is not."""
    most, rows = settings.max_rows, member.rows
    if member.size > settings.max_bytes:
        most = max(1, min(most, settings.max_bytes * rows // member.size))
    if rows <= most:
        return []
    whole, rest = divmod(rows, most)
    return [most] * whole + ([rest] if rest else [])
