"""What the streams of one connection hold: messages that have not come whole, replies that wait to be sent.

Up to `Limits.held` nobody is asked. Over it the streams that hold something let the peer send more one after the other,
each until it holds nothing any more, so that some message always comes whole. Over `Limits.most_held`, which only a
peer reaches that leaves many messages unfinished or does not take its replies, whoever wants to hold more is ended.
"""

from typing import Protocol

from ext_proc.http2.limits import Limits


class Holder(Protocol):
    """A stream: `held` is how many bytes it holds."""

    held: int

    def regrant(self) -> None:
        """It may let the peer send more, which it was not before."""


class Holdings:
    """`held` is the sum in bytes; `over` are those that have brought it over the bound and are to be ended."""

    __slots__ = ("_head", "_limit", "_line", "_most", "held", "over")

    def __init__(self, limits: Limits) -> None:
        self._limit, self._most = limits.held, limits.most_held
        self._head: Holder | None = None
        self._line: dict[Holder, None] = {}
        self.held = 0
        self.over: set[Holder] = set()

    @property
    def full(self) -> bool:
        """Whether nothing more may be held."""
        return self.held > self._most

    def change(self, holder: Holder, by: int) -> None:
        """The stream holds so many bytes more, or fewer; its `held` has it already."""
        self.held += by
        if by > 0:
            if self.held > self._most:
                self.over.add(holder)
            return
        if not holder.held:
            self._line.pop(holder, None)
            if self._head is holder:
                self._head = None
        while self._line and (self._head is None or self.held <= self._limit):
            first = next(iter(self._line))
            del self._line[first]
            first.regrant()

    def may_grant(self, holder: Holder) -> bool:
        """Whether the stream may let the peer send more now; if not, it is told once it may."""
        if self.held <= self._limit or not holder.held:
            return True
        if self._head is None:
            self._head = holder
        if self._head is holder:
            return True
        self._line[holder] = None
        return False
