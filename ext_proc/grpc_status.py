"""The status of a gRPC call: its codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html) and its message."""

from enum import IntEnum
from urllib.parse import quote

# What a `grpc-message` leaves as it is: visible ASCII and the space, without the percent sign.
_UNENCODED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class GrpcStatus(IntEnum):
    """The number that goes on the wire as `grpc-status`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def encode_message(message: str, errors: str = "replace") -> bytes:
    """The value of `grpc-message`: percent-encoded UTF-8 (PROTOCOL-HTTP2.md of gRPC).

    `errors`, as of `str.encode`, says what becomes of a lone surrogate.
    """
    return quote(message, safe=_UNENCODED, errors=errors).encode("ascii")
