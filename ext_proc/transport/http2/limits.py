"""What one connection may cost, and the measure of peers that only keep us busy."""

from dataclasses import dataclass

KiB, MiB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many a second after that."""

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
