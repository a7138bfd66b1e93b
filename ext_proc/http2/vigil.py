"""How long a peer is waited for: its greeting, the rest of a header block, any sign of life."""

from ext_proc.http2.frames import ConnectionFault, ErrorCode
from ext_proc.http2.headers import HeaderBlockAssembler
from ext_proc.http2.limits import Limits

LOOK_SECONDS = 1.0
"""How often a connection is to be looked at."""
# A look that comes later counts for no more than this. A process that was busy or suspended has not listened meanwhile,
# and may be told of the time before it is given what has come.
_LONGEST_STEP = 2.0


class Vigil:
    """The waits of one connection, in seconds in which this side listened. `heard` is set when a frame has come."""

    __slots__ = ("_asked", "_greeting", "_limits", "_silence", "_then", "heard")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._then: float | None = None
        self._greeting = 0.0
        self._silence = 0.0
        self._asked = False
        self.heard = False

    def look(self, now: float, greeted: bool, awaits: bool, block: HeaderBlockAssembler) -> bool:
        """Whether to ask the peer if it is there; `awaits` says whether it has to be.

        Raises ConnectionFault where the peer has taken too long.
        """
        limits = self._limits
        passed = min(_LONGEST_STEP, max(0.0, now - self._then)) if self._then is not None else 0.0
        self._then = now
        if not greeted:
            self._greeting += passed
            if self._greeting >= limits.greeting_seconds:
                raise ConnectionFault(ErrorCode.NO_ERROR, "the peer has not greeted in time")
            return False
        if block.pieces:
            block.waited += passed
            if block.waited >= limits.header_block_seconds:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block has not come whole in time")
        if self.heard:
            self.heard = self._asked = False
            self._silence = 0.0
            return False
        self._silence += passed
        if self._asked:
            if self._silence >= limits.pong_seconds:
                raise ConnectionFault(ErrorCode.NO_ERROR, "the peer is silent, and has not answered a PING")
            return False
        if not awaits or self._silence < limits.silence_seconds:
            return False
        self._silence, self._asked = 0.0, True
        return True
