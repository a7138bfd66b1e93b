"""A hostile peer in a process of its own: `python -m integration.bench.hostile.attacker NAME HOST:PORT SECONDS FIRST`.

It sends at the rate of its attack and no faster, whatever the server makes of it; a connection that the server ends is
made anew, at most once a tick. `FIRST` is the index of the first chunk. Prints what it sent as JSON.
"""

import contextlib
import json
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

from integration.bench.hostile.attacks import ATTACKS, Attack
from integration.stack.process import output_of

_READ = 1 << 18


@dataclass
class Sent:
    """Chunks, bytes, and how many connections it took."""

    chunks: int = 0
    bytes: int = 0
    connections: int = 0


class _Attacker:
    def __init__(self, attack: Attack, target: str, first: int) -> None:
        host, _, port = target.rpartition(":")
        self._address = (host, int(port))
        self._attack = attack
        self._index = first
        self._open: deque[tuple[socket.socket, bytearray]] = deque()
        self.sent = Sent()

    def run(self, seconds: float) -> None:
        attack, begin = self._attack, time.monotonic()
        tick = 0
        while (due := begin + tick * attack.every) < begin + seconds:
            self._serve(due)
            if attack.anew or len(self._open) < attack.connections:
                self._connect()
            if self._open:
                data = attack.chunk(self._index)
                self._open[-1][1].extend(data)
                self._open.rotate()
                self._index += 1
                self.sent.chunks += 1
                self.sent.bytes += len(data)
            tick += 1
        self._serve(begin + seconds)
        for connection, _ in self._open:
            connection.close()

    def _connect(self) -> None:
        with contextlib.suppress(OSError):
            connection = socket.create_connection(self._address, 5)
            connection.setblocking(False)
            self._open.append((connection, bytearray(self._attack.begin)))
            self.sent.connections += 1

    def _serve(self, until: float) -> None:
        """Writes what waits and reads what comes, until then."""
        while True:
            for pair in tuple(self._open):
                connection, waiting = pair
                try:
                    with contextlib.suppress(BlockingIOError):
                        while waiting:
                            del waiting[: connection.send(memoryview(waiting)[:_READ].tobytes())]
                    with contextlib.suppress(BlockingIOError):
                        while data := connection.recv(_READ):
                            if len(data) < _READ:
                                break
                        if not data:
                            raise ConnectionError
                except OSError:
                    connection.close()
                    self._open.remove(pair)
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.005))


async def attack(name: str, target: str, seconds: float, first: int, folder: Path) -> Sent:
    """The same in a process of its own, with its log in `folder`. Raises ProcessError if that fails."""
    command = [sys.executable, "-m", "integration.bench.hostile.attacker", name, target, str(seconds), str(first)]
    return Sent(**json.loads(await output_of("attacker", command, folder / f"{name}.log")))


def main() -> None:
    """Attacks."""
    name, target, seconds, first = sys.argv[1:]
    attacker = _Attacker(ATTACKS[name], target, int(first))
    attacker.run(float(seconds))
    print(json.dumps(asdict(attacker.sent)))


if __name__ == "__main__":
    main()
