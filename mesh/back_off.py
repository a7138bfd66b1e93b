"""Back-off: how long to wait before each next try of what fails again and again."""

from collections.abc import Callable


class RetryDelays:
    """Endless iterator of delays in seconds: `first`, then doubled with each one, up to `most`.

    `chance`, from 0 to 1 (such as `Random.random`), puts each delay between half and one and a half times its
    length, so that many who lost one peer do not come back to it all at once. Without it delays are exact.
    """

    def __init__(self, first: float, most: float, chance: Callable[[], float] | None = None) -> None:
        self._first = first
        self._most = most
        self._chance = chance
        self._next = first

    def __iter__(self) -> "RetryDelays":
        return self

    def __next__(self) -> float:
        delay, self._next = self._next, min(2 * self._next, self._most)
        return delay if self._chance is None else delay * (0.5 + self._chance())

    def reset(self) -> None:
        """It went well: the next delay is `first` again."""
        self._next = self._first

    def hold_off(self) -> None:
        """There is no hurry: the next delay is the longest one."""
        self._next = self._most
