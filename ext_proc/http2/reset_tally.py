"""How many more requests a connection may carry before its peer, an Envoy, would close it for the resets on it.

Envoy counts the streams of a connection that end, and those of them that were reset within some two seconds of their
start. Once the second are half of the first, and half of 500 at least, it closes the connection, and fails every call
on it. Candidates that lose a race are reset just so. So a connection takes a request only if all that are open could be
reset and it would not come to that. One that could carry only few at once is worn out: the next one begins at nothing.
"""

ENVOY_STREAMS = 500
"""Envoy's `overload.premature_reset_total_stream_count`, by default. In a mesh it is not ours to set."""
_FEW = 50


class ResetTally:
    """Counts the streams of one connection. Resets of old streams count as well, which Envoy would let pass."""

    __slots__ = ("_ended", "_reset")

    def __init__(self) -> None:
        self._ended = 0
        self._reset = 0

    def ended(self, reset: bool) -> None:
        """A stream has ended; `reset`: by us, and before its reply was here."""
        self._ended += 1
        self._reset += reset

    def takes_one_more(self, open_streams: int) -> bool:
        """Whether one more request may go out beside those that are open."""
        return self._has_room_for(max(open_streams + 1, _FEW))

    @property
    def is_worn(self) -> bool:
        """Whether no request may go out even when no other is open."""
        return not self._has_room_for(_FEW)

    def _has_room_for(self, streams: int) -> bool:
        """Whether so many may be open at once, all of which could be reset."""
        return 2 * (self._reset + streams) < max(ENVOY_STREAMS, self._ended + streams)
