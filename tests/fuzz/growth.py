"""Whether time grows with an input: some part of it is repeated, and the time of twice as many is compared.

What comes from the wire may take time in proportion to its size. What time is, is the caller's: seconds of the CPU, or
steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from random import Random

from tests.fuzz.target import Target

_SMALLEST = 1 << 13  # bytes of the smallest input that is compared
_LARGEST = (1 << 17, 1 << 17, 1 << 17, 1 << 19)  # of the largest: now and then one that takes long
_TELLING = 0.02  # seconds below which nothing is concluded
_TIMES = 4  # an input is compared with one that is so many times as large
_ALLOWED = 1.6  # of the exponent: 1 is in proportion, 2 the square
_TOO_LONG = 5.0  # seconds after which the next size is not tried


@dataclass(frozen=True, slots=True)
class Repeated:
    """An input of any size, up to `largest` bytes: `head`, then `unit` again and again, then `tail`."""

    head: bytes
    unit: bytes
    tail: bytes
    largest: int = _LARGEST[-1]

    def of(self, size: int) -> bytes:
        """The input, of about `size` bytes."""
        return self.head + self.unit * max(1, size // len(self.unit)) + self.tail


def exponent(cost: Callable[[bytes], float], repeated: Repeated) -> float:
    """The exponent with which the cost grows, at the largest sizes that tell anything; 0 where none does."""
    size, last, found = _SMALLEST, 0.0, 0.0
    while size <= repeated.largest:
        now = cost(repeated.of(size))
        if last >= _TELLING:
            found = log(now / last, _TIMES)
        if now > _TOO_LONG:
            break
        size, last = size * _TIMES, now
    return found


def is_too_steep(cost: Callable[[bytes], float], repeated: Repeated) -> bool:
    """Whether the cost grows faster than the size, thrice in a row."""
    return all(exponent(cost, repeated) > _ALLOWED for _ in range(3))


def guess(target: Target, corpus: list[bytes], chance: Random) -> Repeated:
    """An input of which some part is repeated: out of what the corpus holds, and of the target's words."""
    sample = chance.choice(corpus)
    start, end = sorted((chance.randrange(len(sample) + 1), chance.randrange(len(sample) + 1)))
    words = [chance.choice(target.words) for _ in range(chance.randrange(3))] if target.words else []
    unit = b"".join([sample[start:end], *words]) or b"\0"
    tail = sample[end:] if chance.random() < 0.5 else b""
    return Repeated(sample[:start], unit, tail, chance.choice(_LARGEST))
