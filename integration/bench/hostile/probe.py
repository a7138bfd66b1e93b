"""How long the event loop of a server keeps others waiting, and the memory of its process (Linux).

A thread asks the server's admin port, which the same loop answers, every few milliseconds. A pause is what one answer
took, but no more than the CPU that the server's main thread has used meanwhile: on a machine that is busy with other
things an answer is late without any fault of the loop.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_EVERY = 0.003
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: probe\r\n\r\n"
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


def resident_mib(pid: int) -> float:
    """Of the process, without its children."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / MIB


@dataclass
class Probe:
    """What was seen: pauses in ms, and the most memory in MiB."""

    pauses: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    @property
    def longest(self) -> float:
        """The longest pause, in ms."""
        return max(self.pauses)


def _on_cpu(pid: int) -> float:
    """Seconds that the main thread has run: the first field of proc(5)'s schedstat, in ns."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def _ask(pid: int, admin: str, probe: Probe, stop: threading.Event) -> None:
    host, _, port = admin.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not stop.is_set():
            began, used = time.monotonic(), _on_cpu(pid)
            connection.sendall(_REQUEST)
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(4096)
            probe.pauses.append(1000 * min(time.monotonic() - began, _on_cpu(pid) - used))
            probe.peak_mib = max(probe.peak_mib, resident_mib(pid))
            time.sleep(_EVERY)


@contextlib.contextmanager
def probing(pid: int, admin: str) -> Iterator[Probe]:
    """Asks during the block. `admin` is the base URL of the admin port."""
    probe, stop = Probe(), threading.Event()
    thread = threading.Thread(target=_ask, args=(pid, admin, probe, stop))
    thread.start()
    try:
        yield probe
    finally:
        stop.set()
        thread.join()
