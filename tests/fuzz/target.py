"""What a target is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be fuzzed.

    `run` takes any bytes, lets the documented errors of its room pass, and raises for everything else: what the room
    must not raise, and what must hold and does not (AssertionError). `seeds` are inputs to begin with, `words` what
    inputs of this kind are made of. `longest` bounds an input, in bytes.
    """

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    longest: int = 4096
