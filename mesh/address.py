"""`ip:port`, the only form of address that Envoy's host override understands."""

import ipaddress
from dataclasses import dataclass

from mesh.errors import MeshError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address and a port. `str()` gives the text that Envoy prints for it: IPv6 in brackets, shortest form."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `10.0.0.3:8500` or `[fd00::3]:8500`. Raises MeshError that says what is wrong with the text."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or host.endswith(":"):
        raise MeshError(f"{text!r} is not an endpoint: expected ip:port, such as 10.0.0.3:8500 or [fd00::3]:8500.")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise MeshError(f"{text!r} has the port {port!r}: expected a number from 1 to 65535.")
    return Endpoint(_ip(text, host), int(port))


def _ip(text: str, host: str) -> str:
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise MeshError(
            f"{text!r} has the host {bare!r}, which is not an IP address: Envoy knows its endpoints by address, "
            "so a DNS name cannot be chosen."
        ) from None
    if (address.version == 6) is not bracketed:
        raise MeshError(f"{text!r}: an IPv6 address, and only that, stands in brackets, as in [fd00::3]:8500.")
    if address.version == 6 and address.scope_id is not None:
        raise MeshError(f"{text!r} has the scope {address.scope_id!r}, which means nothing on another machine.")
    if address.is_unspecified or address.is_multicast:
        raise MeshError(f"{text!r} is no address of a node: it is unspecified or multicast.")
    return str(address)
