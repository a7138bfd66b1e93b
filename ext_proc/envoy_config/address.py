"""A node's endpoint in the spelling of Envoy."""

from mesh.address import Address, parse_endpoint


def endpoint(text: str) -> Address:
    """Reads the endpoint of a node. Raises ValueError unless it is spelled exactly as Envoy spells it.

    The server names nodes to Envoy by this text, and override_host compares text: another spelling of the
    same IPv6 address would never be found.
    """
    found = parse_endpoint(text)
    if (spelled := str(found)) != text:
        raise ValueError(f"{text!r} must be spelled {spelled}")
    return found
