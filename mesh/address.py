"""Addresses: where something listens, or is reached. One spelling wherever the configuration names one.

10.0.0.3:8500    [fd00::3]:8500    models.svc:8500    unix:/run/tbms/ext_proc.sock
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from mesh.digits import number
from mesh.errors import MeshError

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path: Linux holds 108 (`sun_path`, unix(7)), the closing zero included."""


class AddressError(MeshError, ValueError):
    """A text is not an address; the message is one sentence. A ValueError, as validators of settings raise them."""


@dataclass(frozen=True, slots=True)
class Address:
    """A Unix socket (`path`), or a host (an IP address without brackets, or a name) and a port."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The host as an IP address; None for a Unix socket or a name."""
        try:
            return _ip(self.host)
        except ValueError:
            return None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or (self.ip is not None and self.ip.is_loopback)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(maxsize=16_384)
def _ip(host: str) -> IPv4Address | IPv6Address:
    """Remembered, as with `parse_endpoint`: a node has several endpoints at one address. Raises ValueError."""
    return ip_address(host)


def parse_address(text: str, *, listening: bool = False) -> Address:
    """Read an address in any of its spellings. Raises AddressError that says what is wrong with the text.

    Port 0 is allowed with `listening` only: there it stands for a free port that the system chooses.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode("utf-8", "surrogatepass")) > MAX_SOCKET_PATH:
            raise AddressError(f"{text!r} is not unix:/absolute/path of at most {MAX_SOCKET_PATH} bytes.")
        return Address(path=path)
    address = _host_and_port(
        text, "an address: expected ip:port or unix:/path (IPv6 in brackets)", least_port=0 if listening else 1
    )
    if address.ip is None and not _is_name(address.host):
        raise AddressError(f"{text!r} has the host {address.host!r}, which is neither an IP address nor a DNS name.")
    return address


@lru_cache(maxsize=16_384)
def parse_endpoint(text: str) -> Address:
    """Read the endpoint of a node, `10.0.0.3:8500` or `[fd00::3]:8500`: what Envoy's host override understands.

    `str()` of it is the text that Envoy prints for it: IPv6 in its shortest form. Raises AddressError that says what is
    wrong with the text. What was read is remembered: a fleet's endpoints are read again at every change of one.
    """
    address = _host_and_port(text, "an endpoint: expected ip:port, such as 10.0.0.3:8500 or [fd00::3]:8500")
    ip = address.ip
    if ip is None:
        raise AddressError(
            f"{text!r} has the host {address.host!r}, which is not an IP address: Envoy knows its endpoints by "
            "address, so a DNS name cannot be chosen."
        )
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise AddressError(f"{text!r} has the scope {ip.scope_id!r}, which means nothing on another machine.")
    if ip.is_unspecified or ip.is_multicast:
        raise AddressError(f"{text!r} is no address of a node: it is unspecified or multicast.")
    return replace(address, host=str(ip))


def _host_and_port(text: str, wanted: str, least_port: int = 1) -> Address:
    """Everything but a Unix socket; whether its host is of use is the caller's question."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not host or host.endswith(":"):
        raise AddressError(f"{text!r} is not {wanted}.")
    port = number(port_text, 5)
    if port is None or not least_port <= port <= 65535:
        raise AddressError(f"{text!r} has the port {port_text!r}: expected a number from {least_port} to 65535.")
    bracketed = host.startswith("[") and host.endswith("]")
    address = Address(host[1:-1] if bracketed else host, port)
    if address.ip is None:
        return Address(host, port)
    if (address.ip.version == 6) is not bracketed:
        raise AddressError(f"{text!r}: an IPv6 address, and only that, stands in brackets, as in [fd00::3]:8500.")
    return address


def _is_name(text: str) -> bool:
    labels = text.split(".")
    return len(text) <= 253 and all(
        label.isascii() and label.replace("-", "").isalnum() and len(label) <= 63 for label in labels
    )
