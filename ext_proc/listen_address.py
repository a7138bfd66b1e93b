"""Address of a listener, as the configuration writes it: `ip:port`, or `unix:/path` of a Unix socket."""

from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator


def _checked(value: str) -> str:
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or len(path) > 90:
            raise ValueError("a Unix socket is written unix:/absolute/path of at most 90 characters")
        return value
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address is written ip:port or unix:/path")
    ip_address(host.strip("[]"))
    return value


ListenAddress = Annotated[str, AfterValidator(_checked)]
