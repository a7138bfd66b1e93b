"""Who decides about calls, as the stream machine sees him: an edge or a node."""

import typing

from ext_proc.processing.decision import Decision, HeaderMutation, Pass, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.wire.call import Call


class RequestPolicy(typing.Protocol):
    """Decides about calls. Must answer at once; what takes time is a Hold."""

    @property
    def body_limit(self) -> int:
        """The largest body in bytes that is read or held."""

    @property
    def follows_replies(self) -> bool:
        """Whether streams are to last until the reply has ended; the filter's configuration has to say the same."""

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """What becomes of a named call. May raise CallError."""

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        """A part of the reply to a named call that was let through so, and what is to be changed of it.

        Comes for the heads of replies, where the stream lasts so long, and for trailers, which are never changed.
        """
