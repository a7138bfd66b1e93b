"""Headers of a message: which of them belong to one hop only, and those that tell a gRPC status."""

from typing import Final

from ext_proc.grpc_status import encode_message
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held
from ext_proc.processing.request import Head
from mesh.trace_context import TRACEPARENT, TRACESTATE

# Of one connection only (RFC 9110, 7.6.1), or written anew by whoever sends the message on.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_TRACE: Final = frozenset({TRACEPARENT, TRACESTATE})


def lines_of(head: Head, without: frozenset[str]) -> Headers:
    """The headers of a call, line by line as they came, but for these and for the pseudo-headers."""
    lines: list[tuple[str, bytes]] = []
    repeated = head.repeated
    for key, value in head.headers.items():
        if key in without or key[:1] == ":":
            continue
        if key in repeated:
            lines += [(key, line.encode("latin-1")) for line in repeated[key]]
        else:
            lines.append((key, value.encode("latin-1")))
    return tuple(lines)


def sent_on(held: Held, without: frozenset[str]) -> Headers:
    """The same of a held call, that goes on under the span under which all is done for it, if it is traced."""
    if held.trace is None:
        return lines_of(held.head, without)
    return lines_of(held.head, without | _TRACE) + held.trace.headers()


def write_status(code: int, message: str) -> Headers:
    """The trailers that tell a gRPC status."""
    status: Headers = (("grpc-status", b"%d" % code),)
    if message:
        status += (("grpc-message", encode_message(message, errors="backslashreplace")),)
    return status
