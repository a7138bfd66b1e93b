"""Addresses: where something listens, or is reached. One spelling wherever the configuration names one.

10.0.0.3:8500    [fd00::3]:8500    models.svc:8500    unix:/run/tbms/ext_proc.sock
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from mesh.digits import number
from mesh.errors import MeshError

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path: Linux holds 108 (`sun_path`, unix(7)), the closing zero included."""

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_USUAL = re.compile(rf"((?!0\.0\.0\.0:|22[4-9]\.|23\d\.){_OCTET}(?:\.{_OCTET}){{3}}):([1-9]\d{{0,4}})", re.ASCII)
"""What nearly every endpoint of a fleet is, seen in one step: an IPv4 address, not unspecified and not multicast, and a
port. Whatever else may be one is read piece by piece."""


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
        return spelled(self.host, self.port)


def spelled(host: str, port: int) -> str:
    """`host:port`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
    address = Address(
        *_host_and_port(
            text, "an address: expected ip:port or unix:/path (IPv6 in brackets)", least_port=0 if listening else 1
        )
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
    usual = _USUAL.fullmatch(text)
    if usual is not None and (port := int(usual[2])) <= 65535:
        return Address(usual[1], port)
    host, port = _host_and_port(text, "an endpoint: expected ip:port, such as 10.0.0.3:8500 or [fd00::3]:8500")
    try:
        return Address(_host_of_node(host), port)
    except AddressError as unfit:
        raise AddressError(f"{text!r} {unfit}") from None


@lru_cache(maxsize=16_384)
def _host_of_node(host: str) -> str:
    """The IP address as Envoy prints it. Raises AddressError with what follows the text in the sentence."""
    try:
        ip = _ip(host)
    except ValueError:
        raise AddressError(
            f"has the host {host!r}, which is not an IP address: Envoy knows its endpoints by "
            "address, so a DNS name cannot be chosen."
        ) from None
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise AddressError(f"has the scope {ip.scope_id!r}, which means nothing on another machine.")
    if ip.is_unspecified or ip.is_multicast:
        raise AddressError("is no address of a node: it is unspecified or multicast.")
    return str(ip) if ip.version == 6 else host  # IPv4 has one spelling


def _host_and_port(text: str, wanted: str, least_port: int = 1) -> tuple[str, int]:
    """Everything but a Unix socket, an IP address without brackets; whether the host is of use is the caller's
    question."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not host or host.endswith(":"):
        raise AddressError(f"{text!r} is not {wanted}.")
    port = number(port_text, 5)
    if port is None or not least_port <= port <= 65535:
        raise AddressError(f"{text!r} has the port {port_text!r}: expected a number from {least_port} to 65535.")
    bracketed = host[0] == "[" and host[-1] == "]"
    bare = host[1:-1] if bracketed else host
    try:
        version = _ip(bare).version
    except ValueError:
        return host, port
    if (version == 6) is not bracketed:
        raise AddressError(f"{text!r}: an IPv6 address, and only that, stands in brackets, as in [fd00::3]:8500.")
    return bare, port


def _is_name(text: str) -> bool:
    labels = text.split(".")
    return len(text) <= 253 and all(
        label.isascii() and label.replace("-", "").isalnum() and len(label) <= 63 for label in labels
    )
