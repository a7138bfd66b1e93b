"""The place of a call, or of a piece of one, that waits for its batch: who gets the reply."""

import asyncio
from dataclasses import dataclass

from ext_proc.batching.waiting import Waiting
from ext_proc.errors import CallError
from ext_proc.gathering.batch_request import Part
from ext_proc.tracing.batches import QueueTrace
from ext_proc.upstream.client import Response


@dataclass(slots=True, eq=False, init=False)
class Place:
    """A part that waits, and who waits for its reply."""

    part: Part
    reply: asyncio.Future[Response]
    trace: QueueTrace | None

    def __init__(self, part: Part, reply: asyncio.Future[Response], trace: QueueTrace | None = None) -> None:
        self.part = part
        self.reply = reply
        self.trace = trace

    def give(self, response: Response) -> None:
        """The reply, unless nobody waits for it any more."""
        if not self.reply.done():
            self.reply.set_result(response)

    def refuse(self, error: CallError) -> None:
        """As `give`."""
        if not self.reply.done():
            self.reply.set_exception(error)


def place_of(waiting: Waiting) -> Place:
    """That of a call in the scheduler."""
    place = waiting.payload
    assert isinstance(place, Place)
    return place
