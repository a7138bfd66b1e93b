"""The call of a batch: sent as one request, its reply cut for those who wait."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch
from ext_proc.errors import CallError, Reason
from ext_proc.gathering.batch_request import Part, batch_request, cut_reply, is_divisible, single_request
from ext_proc.gathering.place import place_of
from ext_proc.upstream.client import Request, Response, UpstreamError
from ext_proc.wire.batch import ReplyMismatch
from ext_proc.worker_thread import off_loop
from mesh.trace_context import TraceContext


class Caller(Protocol):
    """Sends one call; `Upstream`, but for tests."""

    async def call(self, request: Request) -> Response:
        """Raises UpstreamError; gives the call up on the wire when cancelled."""


class Outcome(StrEnum):
    """How a batch ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    AGAIN = "again"
    """Its members are asked again in smaller groups."""
    UNFIT = "unfit"
    """Its reply could not be cut: its members are asked one by one."""


class BatchCalls:
    """Calls batches out, whole. `mark_unfit` is told of a model whose reply cannot be cut, and why; `shared` of one
    answer that was given in company: model, part, reply.
    """

    def __init__(
        self,
        settings: BatchingSettings,
        upstream: Caller,
        mark_unfit: Callable[[str, str], None],
        shared: Callable[[str, Part, Response], None],
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._mark_unfit = mark_unfit
        self._shared = shared

    async def ask(self, batch: Batch, trace: TraceContext | None) -> tuple[Outcome, int]:
        """Sends the batch, under that span, and hands out what comes back: how it ended, and if its members are to be
        asked again in how many groups (otherwise 0). Raises CallError.
        """
        places = [place_of(member) for member in batch.members]
        parts = [place.part for place in places]
        size = sum(member.size for member in batch.members)
        alone = len(parts) == 1 and batch.rows == batch.members[0].rows and not parts[0].is_cut_alone
        timeout = self._settings.batch_seconds
        try:
            if alone and parts[0].whole:
                request = single_request(parts[0], timeout, trace)
            else:
                keys = self._settings.key_headers
                request = await off_loop(size, batch_request, parts, batch.rows, keys, timeout, trace)
            async with asyncio.timeout(timeout):
                response = await self._upstream.call(request)
        except TimeoutError:
            raise CallError(Reason.UNAVAILABLE, f"the model server has not answered within {timeout:g} s") from None
        except UpstreamError as error:
            raise CallError(Reason.UNAVAILABLE, f"the model server gave no answer: {error}") from None
        if alone or not response.ok:
            if not response.ok and len(parts) > 1 and is_divisible(response):
                return Outcome.AGAIN, 2
            for place in places:
                if place.part.crosses and not alone:
                    place.refuse(
                        CallError(Reason.UNAVAILABLE, f"the model server failed on a batch: {_words(response)}")
                    )
                else:
                    place.give(response)
            return (Outcome.ANSWERED if response.ok else Outcome.FAILED), 0
        try:
            replies = await off_loop(len(response.body), cut_reply, response, parts, batch.rows)
        except ReplyMismatch as mismatch:
            self._mark_unfit(batch.model, str(mismatch))
            return Outcome.UNFIT, len(parts)
        for place, reply in zip(places, replies, strict=True):
            place.give(reply)
        if len(places) > 1:
            self._shared(batch.model, parts[-1], replies[-1])
        return Outcome.ANSWERED, 0


def _words(response: Response) -> str:
    """The model server's own, of an error over gRPC."""
    told = dict(response.trailers or response.headers).get("grpc-message", b"")
    return f"{told.decode('latin-1')} (gRPC status {response.grpc_status})".lstrip()
