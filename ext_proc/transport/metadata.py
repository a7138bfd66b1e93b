"""Headers of HTTP as metadata of gRPC, and back; and which of them belong to one hop only."""

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from ext_proc.errors import CallError, Reason
from ext_proc.wire.names import quoted

Headers = tuple[tuple[str, bytes], ...]

# Of one connection only (RFC 9110, 7.6.1), or written anew by whoever sends the message on.
HOP_BY_HOP = frozenset(
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
# Written by the gRPC library itself.
_LIBRARY = frozenset({"content-type", "user-agent", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"})
# The same in trailers.
_STATUS = frozenset({"grpc-status", "grpc-message"})
_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
# What grpc-message holds as it is: printable ASCII but for `%` (gRPC over HTTP/2, `Status-Message`).
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def to_metadata(headers: Headers) -> Iterator[tuple[str, str | bytes]]:
    """What goes on the call. What gRPC has no words for is left out; raises CallError(INVALID) for broken base64."""
    for key, value in headers:
        if key in _LIBRARY or key in HOP_BY_HOP or not _is_legal(key):
            continue
        if key.endswith("-bin"):
            # Lines of one name may have been joined; base64 holds no comma.
            for part in value.split(b","):
                yield key, _decoded(key, part.strip())
        elif value.isascii() and (text := value.decode("ascii")).isprintable():
            yield key, text


def from_metadata(metadata: Any) -> Headers:
    """What came with an answer, without the status."""
    pairs: Iterable[tuple[str, str | bytes]] = metadata or ()
    return tuple(
        (key, b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("latin-1"))
        for key, value in pairs
        if key not in HOP_BY_HOP and key not in _STATUS
    )


def write_status(code: int, message: str) -> Headers:
    """The trailers that tell a gRPC status."""
    status: Headers = (("grpc-status", b"%d" % code),)
    if message:
        status += (("grpc-message", quote(message, safe=_PLAIN, errors="backslashreplace").encode("ascii")),)
    return status


@lru_cache(maxsize=1024)
def _is_legal(key: str) -> bool:
    return _LEGAL.issuperset(key)


def _decoded(key: str, value: bytes) -> bytes:
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except NotBase64:
        raise CallError(Reason.INVALID, f"Header {quoted(key)}: value is not base64.") from None
