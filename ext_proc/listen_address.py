"""Address of a listener, as the configuration writes it: `ip:port`, or `unix:/path` of a Unix socket."""

from typing import Annotated

from pydantic import AfterValidator

from mesh.address import MAX_SOCKET_PATH, parse_address

# The server binds a Unix socket under PATH.PID first and renames it, so that path has to fit, too. A process id of
# Linux has seven digits at most (PID_MAX_LIMIT is 2^22).
_MAX_PATH = MAX_SOCKET_PATH - len(".4194304")


def _checked(text: str) -> str:
    address = parse_address(text, listening=True)
    if len(address.path.encode()) > _MAX_PATH:
        raise ValueError(f"a listener's Unix socket is written unix:/absolute/path of at most {_MAX_PATH} bytes")
    if not address.path and address.ip is None:
        raise ValueError("a listener is written ip:port or unix:/path, without a name")
    return text


ListenAddress = Annotated[str, AfterValidator(_checked)]
