"""The bounds of one connection: sizes, and rates of what costs this side more than the peer."""

from dataclasses import dataclass

from ext_proc.http2.frames import ConnectionFault, ErrorCode

KiB, MiB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Rate:
    """So many events at once, and so many a second after that."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a connection; sizes in bytes."""

    message: int = 128 * MiB
    # Both of the header block on the wire and of what it unpacks to (each field counts 32 bytes on top).
    headers: int = 64 * KiB
    # Frames of one header block; four would do for the largest.
    continuations: int = 32
    frame: int = 64 * KiB
    streams: int = 100_000
    stream_window: int = 1 * MiB
    connection_window: int = 16 * MiB
    # A stream whose outbound queue is longer is not sent more.
    stream_queue: int = 1 * MiB
    # Streams that the peer opens and resets before it has sent a message on them (CVE-2023-44487). Envoy sends the
    # first message along with the headers, so that even a storm of cancelled calls costs it nothing here.
    idle_resets: Rate = Rate(burst=1000, per_second=100)
    # Streams that are reset before anything was sent on them. A cancelled call is legitimate, and ends its session.
    resets: Rate = Rate(burst=100_000, per_second=10_000)
    # Frames that move nothing: PING, SETTINGS, PRIORITY, unknown ones, empty ones, those of streams long closed.
    idle_frames: Rate = Rate(burst=10_000, per_second=1_000)


class Allowance:
    """Counts events against a rate, by a clock that its caller reads (seconds, monotonic)."""

    __slots__ = ("_left", "_rate", "_then")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = rate.burst
        self._then = 0.0

    def spend(self, now: float) -> bool:
        """Counts one event; False if it is one too many."""
        rate = self._rate
        self._left = min(rate.burst, self._left + max(0.0, now - self._then) * rate.per_second)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class FloodLimiter:
    """Ends a connection whose peer resets streams, or sends frames that move nothing, faster than the limits let it.

    `now` is the time of the present read (seconds, monotonic).
    """

    __slots__ = ("_idle_frames", "_idle_resets", "_resets", "now")

    def __init__(self, limits: Limits) -> None:
        self.now = 0.0
        self._idle_resets = Allowance(limits.idle_resets)
        self._resets = Allowance(limits.resets)
        self._idle_frames = Allowance(limits.idle_frames)

    def idle_frame(self) -> None:
        """Counts a frame that moves nothing. Raises ConnectionFault(ENHANCE_YOUR_CALM)."""
        if not self._idle_frames.spend(self.now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that move nothing")

    def reset(self, heard: bool) -> None:
        """Counts a stream that the peer reset before it was answered; `heard` says whether it had sent a message.

        Raises ConnectionFault(ENHANCE_YOUR_CALM).
        """
        if not (self._resets.spend(self.now) and (heard or self._idle_resets.spend(self.now))):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")
