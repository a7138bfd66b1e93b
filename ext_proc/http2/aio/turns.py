"""Connections that have more to go through than their share of a turn: one of them goes on in each turn of the loop."""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """A line in which each waits for its turn. Between two turns the loop does what else there is."""

    def __init__(self) -> None:
        self._line: deque[Callable[[], bool]] = deque()

    def wait(self, go_on: Callable[[], bool]) -> None:
        """Puts one in line; in its turn it is called, and it is put in line again where it returns True."""
        self._line.append(go_on)
        if len(self._line) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        go_on, again = self._line[0], False
        try:
            again = go_on()
        finally:
            self._line.popleft()
            if again:
                self._line.append(go_on)
            if self._line:
                asyncio.get_running_loop().call_soon(self._turn)
