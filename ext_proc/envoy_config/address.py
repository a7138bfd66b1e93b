"""Addresses as they are written in the configuration: `unix:/path`, `ip:port`, `[ipv6]:port`, `name:port`."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

# sun_path holds 108 bytes on Linux, the closing zero included.
MAX_PATH = 107


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: a Unix socket (`path`), or a host and port."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The host as an IP address; None for a Unix socket or a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or (self.ip is not None and self.ip.is_loopback)


def parse_address(text: str) -> Address:
    """Reads an address. Raises ValueError that says how one is written."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode()) > MAX_PATH:
            raise ValueError(f"{text!r} is not unix:/absolute/path of at most {MAX_PATH} bytes")
        return Address(path=path)
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    found = Address(host=host[1:-1] if bracketed else host, port=int(port) if _is_port(port) else 0)
    is_ipv6 = isinstance(found.ip, IPv6Address)
    if not found.host or not found.port or bracketed != is_ipv6 or (found.ip is None and not _is_name(host)):
        raise ValueError(f"{text!r} is not unix:/path, ip:port, [ipv6]:port or name:port")
    return found


def endpoint(text: str) -> Address:
    """Reads the endpoint of a node. Raises ValueError unless it is spelled exactly as Envoy spells it.

    The server names nodes to Envoy by this text, and override_host compares text: another spelling of the
    same IPv6 address would never be found.
    """
    found = parse_address(text)
    if found.ip is None:
        raise ValueError(f"{text!r} is not ip:port or [ipv6]:port")
    spelled = f"[{found.ip}]:{found.port}" if found.ip.version == 6 else f"{found.ip}:{found.port}"
    if spelled != text:
        raise ValueError(f"{text!r} must be spelled {spelled}")
    return found


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _is_name(text: str) -> bool:
    labels = text.split(".")
    return len(text) <= 253 and all(
        label.isascii() and label.replace("-", "").isalnum() and len(label) <= 63 for label in labels
    )
