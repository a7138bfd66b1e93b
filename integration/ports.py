"""Free TCP ports on the loopback, no port handed out twice by one process."""

import os
import random
import socket
from pathlib import Path

_FIRST, _LAST = 15_000, 32_000
_taken: set[int] = set()
_dice = random.Random(os.getpid())


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now.

    Taken from below the kernel's range for outgoing connections, so that between this answer and the child's
    listen() no client socket can land on one.
    """
    ports: list[int] = []
    last = min(_LAST, _first_ephemeral())
    while len(ports) < count:
        port = _dice.randrange(_FIRST, last)
        if port not in _taken and _is_free(port):
            _taken.add(port)
            ports.append(port)
    return ports


def free_port() -> int:
    """One port that nobody listens on now."""
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _first_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LAST
