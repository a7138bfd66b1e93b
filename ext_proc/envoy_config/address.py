"""A node's endpoint in the spelling of Envoy."""

from functools import lru_cache

from mesh.address import Address, parse_address


@lru_cache(maxsize=16_384)
def endpoint(text: str) -> Address:
    """Reads the endpoint of a node. Raises ValueError unless it is spelled exactly as Envoy spells it.

    The server names nodes to Envoy by this text, and override_host compares text: another spelling of the
    same IPv6 address would never be found.
    """
    found = parse_address(text)
    if found.ip is None:
        raise ValueError(f"{text!r} is not ip:port or [ipv6]:port")
    spelled = str(Address(str(found.ip), found.port))
    if spelled != text:
        raise ValueError(f"{text!r} must be spelled {spelled}")
    return found
