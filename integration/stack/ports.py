"""Free TCP ports on the loopback, no port handed out twice while the process that asked for it lives."""

import atexit
import random
import socket
from ipaddress import IPv4Address
from pathlib import Path

_FIRST, _LAST = 15_000, 32_000
_SLICE = 500
_dice = random.Random()
_mine: list[int] = []


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now. Raises OSError where all are taken.

    Taken from below the kernel's range for outgoing connections, so that between this answer and the child's
    listen() no client socket can land on one. Each process that asks owns slices of that range: a server that is
    down for a while gets its port back, whoever else starts servers on this machine meanwhile.
    """
    ports: list[int] = []
    while len(ports) < count:
        if not _mine:
            _mine.extend(_claim())
        port = _mine.pop()
        if _is_free(port):
            ports.append(port)
    return ports


def free_port() -> int:
    """One port that nobody listens on now."""
    return free_ports(1)[0]


def outside_address() -> str | None:
    """An IPv4 address of this machine that others could reach it at; None where it has no network."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # for documentation (RFC 5737); nothing is sent, only a route chosen
        except OSError:
            return None
        address = IPv4Address(probe.getsockname()[0])
    return None if address.is_loopback or address.is_link_local else str(address)


def _claim() -> list[int]:
    """The ports of a slice that is ours until this process ends: as long as its guard, a name in the kernel, lives."""
    slices = list(range(_FIRST, min(_LAST, _first_ephemeral()) - _SLICE + 1, _SLICE))
    _dice.shuffle(slices)
    for first in slices:
        guard = socket.socket(socket.AF_UNIX)
        try:
            guard.bind(f"\0tbms-ports-{first}")
        except OSError:
            guard.close()
            continue
        atexit.register(guard.close)
        ports = list(range(first, first + _SLICE))
        _dice.shuffle(ports)
        return ports
    raise OSError("no free ports: too many processes of this kind run on this machine")


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
