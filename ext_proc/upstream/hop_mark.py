"""The hop mark: how the server knows its own candidate calls when they come back to it through Envoy.

A random secret of the process, followed by the nodes that the call was placed on. A call that carries it
is routed there and never brokered again. Clients cannot forge it, and it never leaves the last sidecar. Where nobody
but the server can call, Envoy reads it itself; see `ext_proc.envoy_config.parts.hop`.
"""

import hmac

from ext_proc.contract import HOP_HEADER, NODE_HEADER
from ext_proc.http2.headers import Headers
from mesh.node import node_behind


class HopMark:
    """Writes and reads marks. `secret` is random, and is never logged."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode("ascii")

    def write(self, nodes: tuple[str, ...]) -> str:
        """The header's value for a call that is to go to `nodes` (`ip:port`, best first)."""
        return f"{self._secret.decode('ascii')} {','.join(nodes)}"

    def headers(self, nodes: tuple[str, ...]) -> Headers:
        """The mark on a call of ours to `nodes`. A node that is reached by a header is named in clear as well: where
        Envoy knows who calls, that is all that it needs; where it does not, it takes that header off and asks us.
        """
        mark: Headers = ((HOP_HEADER, self.write(nodes).encode("ascii")),)
        by_header = node_behind(nodes[0])
        return mark if by_header is None else (*mark, (NODE_HEADER, by_header.encode("ascii")))

    def read(self, value: str) -> tuple[str, ...] | None:
        """The nodes of a mark of ours, None for anything else. Compares in constant time."""
        secret, _, nodes = value.partition(" ")
        if not hmac.compare_digest(secret.encode("latin-1", "replace"), self._secret):
            return None
        return tuple(nodes.split(","))
