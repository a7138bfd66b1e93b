"""The bounds of one connection: sizes, and rates of what costs this side more than the peer."""

from dataclasses import dataclass
from typing import Final

from ext_proc.http2.frames import ConnectionFault, ErrorCode

KiB: Final = 1 << 10
MiB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Rate:
    """So many events at once, and so many a second after that."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a connection; sizes in bytes, times in seconds."""

    message: int = 128 * MiB
    # A header list as section 6.5.2 of RFC 9113 counts it: each field is 32 bytes longer. What is over it ends its
    # stream, and is read all the same, since the blocks after it build on it.
    headers: int = 64 * KiB
    # Fields of one header list.
    fields: int = 512
    # A header block that is longer, packed or unpacked, is not read to its end, and ends its connection.
    headers_read: int = 256 * KiB
    # Frames of one header block; sixteen would do for the largest.
    continuations: int = 32
    # From the first frame of a header block to its last.
    header_block_seconds: float = 10.0
    frame: int = 64 * KiB
    # Settings in one SETTINGS frame; there are ten that anybody has given a meaning.
    settings: int = 64
    streams: int = 100_000
    stream_window: int = 256 * KiB
    connection_window: int = 16 * MiB
    # A stream whose outbound queue is longer is not sent more.
    stream_queue: int = 1 * MiB
    # What all streams of a connection hold: messages that have not come whole, replies that wait to be sent. Over it
    # one stream after the other is let send more.
    held: int = 64 * MiB
    # Streams that the peer opens and resets before it has sent a message on them (CVE-2023-44487). Envoy sends the
    # first message along with the headers, so that even a storm of cancelled calls costs it nothing here.
    idle_resets: Rate = Rate(burst=1000, per_second=100)
    # Streams that are reset before anything was sent on them. A cancelled call is legitimate, and ends its session.
    resets: Rate = Rate(burst=100_000, per_second=10_000)
    # Frames that move nothing: see `FloodLimiter.idle_frame`.
    idle_frames: Rate = Rate(burst=10_000, per_second=1_000)
    # What is gone through at once, before other connections have their turn; each frame counts `FRAME_COST` on top.
    turn: int = 64 * KiB
    # And the time that it may take, where the connection is given a clock: the frames of one peer are not those of
    # another, and a call of a kind never seen before is several times the work of a usual one.
    turn_seconds: float = 0.001
    # From the beginning of a connection to the peer's first SETTINGS.
    greeting_seconds: float = 30.0
    # A peer that was silent for so long is asked by a PING whether it is still there ...
    silence_seconds: float = 30.0
    # ... and has so long to send anything at all.
    pong_seconds: float = 20.0

    @property
    def most_held(self) -> int:
        """Over this a connection holds too much: streams that want to add to it end, new ones are refused.

        One message of the greatest length has room above `held`.
        """
        return self.held + self.message


FRAME_COST: Final = 1 * KiB
"""What a frame counts in a turn beside its bytes: a turn has 64 frames at most."""
IDLE_FRAMES_PER_STREAM: Final = 4
"""Frames that move nothing and come with a stream that is served: its late WINDOW_UPDATE, a PRIORITY."""
SMALL_PIECE: Final = 256
"""A shorter piece of a message that does not complete it moves nothing worth a frame."""
STREAMS_PER_IDLE_FRAME: Final = 64
"""A change of INITIAL_WINDOW_SIZE is applied to each open stream: for so many it counts as one more idle frame."""


class Allowance:
    """Counts events against a rate, by a clock that its caller reads (seconds, monotonic)."""

    __slots__ = ("_left", "_rate", "_then")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = rate.burst
        self._then = 0.0

    def spend(self, now: float, events: int = 1, earned: int = 0) -> bool:
        """Counts events, after what was `earned` since the last ones; False if they are too many."""
        rate = self._rate
        self._left = min(rate.burst, self._left + max(0.0, now - self._then) * rate.per_second + earned)
        self._then = now
        if self._left < events:
            return False
        self._left -= events
        return True


class FloodLimiter:
    """Ends a connection whose peer resets streams, or sends frames that move nothing, faster than the limits let it.

    `now` is the time of the present read (seconds, monotonic), `served` counts streams that did something useful,
    `due_pongs` the PINGs of ours that are not answered.
    """

    __slots__ = ("_acknowledged", "_idle_frames", "_idle_resets", "_resets", "due_pongs", "now", "served")

    def __init__(self, limits: Limits) -> None:
        self.now = 0.0
        self.served = 0
        self.due_pongs = 0
        self._acknowledged = False
        self._idle_resets = Allowance(limits.idle_resets)
        self._resets = Allowance(limits.resets)
        self._idle_frames = Allowance(limits.idle_frames)

    def idle_frame(self, cost: int = 1) -> None:
        """Counts a frame that moves nothing, or so little that it costs more than it is worth.

        PING, SETTINGS, PRIORITY, GOAWAY, unknown and empty ones; acknowledgements of nothing; those of streams that are
        closed; WINDOW_UPDATE that opens nothing; small pieces of messages; requests that are refused unheard. Raises
        ConnectionFault(ENHANCE_YOUR_CALM).
        """
        earned, self.served = self.served * IDLE_FRAMES_PER_STREAM, 0
        if not self._idle_frames.spend(self.now, cost, earned):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that move nothing")

    def acknowledgement(self) -> None:
        """Counts an acknowledgement of SETTINGS; ours are sent once. Raises as `idle_frame`."""
        if self._acknowledged:
            self.idle_frame()
        self._acknowledged = True

    def pong(self) -> None:
        """Counts an answer to a PING. Raises as `idle_frame`."""
        if self.due_pongs:
            self.due_pongs -= 1
        else:
            self.idle_frame()

    def reset(self, heard: bool) -> None:
        """Counts a stream that the peer reset before it was answered; `heard` says whether it had sent a message.

        Raises ConnectionFault(ENHANCE_YOUR_CALM).
        """
        if not (self._resets.spend(self.now) and (heard or self._idle_resets.spend(self.now))):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")
