"""The patience of a connection: with streams that are reset, with frames that move nothing, and with late ones."""

from ext_proc.transport.http2.frames import Code, ConnectionFault
from ext_proc.transport.http2.limits import Allowance, Limits

# Streams that are remembered as cut short.
_REMEMBERED = 10_000


class Guard:
    """Raises ConnectionFault once there was too much of something. `now` is the time of the present read."""

    __slots__ = ("_cut_short", "_idle_frames", "_idle_resets", "_resets", "now")

    def __init__(self, limits: Limits) -> None:
        self.now = 0.0
        self._idle_resets = Allowance(limits.idle_resets)
        self._resets = Allowance(limits.resets)
        self._idle_frames = Allowance(limits.idle_frames)
        self._cut_short: dict[int, None] = {}

    def idle_frame(self) -> None:
        """Counts a frame that moves nothing."""
        if not self._idle_frames.spend(self.now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that move nothing")

    def reset(self, heard: bool) -> None:
        """Counts a stream that the peer reset before it was answered; `heard` says whether it had sent a message."""
        if not (self._resets.spend(self.now) and (heard or self._idle_resets.spend(self.now))):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many streams were reset")

    def cut_short(self, stream: int) -> None:
        """We ended the stream before the peer had: what it sent meanwhile is no fault of its own."""
        if len(self._cut_short) >= _REMEMBERED:
            del self._cut_short[next(iter(self._cut_short))]
        self._cut_short[stream] = None

    def was_cut_short(self, stream: int) -> bool:
        """Whether frames may still come on a stream that is closed."""
        return stream in self._cut_short
