"""The policy that the machine and its shell ask about calls: that of an edge, or that of a node."""

from typing import Protocol

from ext_proc.processing.decision import Decision, HeaderMutation, Held, Pass, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.wire.call import Call


class RequestPolicy(Protocol):
    """Decides about calls: `decide` at once, and `resolve` about those that `decide` held."""

    @property
    def body_limit(self) -> int:
        """The largest body in bytes that is read or held."""

    @property
    def follows_replies(self) -> bool:
        """Whether streams are to last until the reply has ended; the filter's configuration has to say the same."""

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """What becomes of a named call; what takes time is a Hold. May raise CallError."""

    async def resolve(self, held: Held) -> Decision:
        """What becomes of a held call. May raise CallError; cancelled when the client goes away."""

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        """A part of the reply to a named call that was let through so, and what is to be changed of it.

        Comes for the heads of replies, where the stream lasts so long, and for trailers, which are never changed.
        """
