"""The one error root of this package, and the errors that are answered to a client."""

from enum import Enum
from typing import TypeVar

from ext_proc.grpc_status import GrpcStatus


class TbmsError(Exception):
    """Root of every error that this package raises on purpose; the message is one sentence."""


class AwayError(TbmsError):
    """An admin port has not answered."""


class MissingError(TbmsError):
    """A node has not what it was told to do something with."""


ErrorT = TypeVar("ErrorT", bound=BaseException)


def kept(error: ErrorT) -> ErrorT:
    """The error without its traceback, for whoever keeps it as a value.

    A traceback holds the frames that it went through, and what they held: where one of them leads to the keeper, a
    call and its body would stay until the garbage collector looks for such circles.
    """
    return error.with_traceback(None)


class Reason(Enum):
    """Why a call is refused: (HTTP status, gRPC status code).

    The pairs are those that TF Serving and Triton use, so that a client cannot tell who refused.
    """

    INVALID = (400, GrpcStatus.INVALID_ARGUMENT)
    DENIED = (403, GrpcStatus.PERMISSION_DENIED)
    NOT_FOUND = (404, GrpcStatus.NOT_FOUND)
    TOO_LARGE = (413, GrpcStatus.RESOURCE_EXHAUSTED)
    BROKEN_MODEL = (424, GrpcStatus.FAILED_PRECONDITION)
    OVERLOADED = (429, GrpcStatus.RESOURCE_EXHAUSTED)  # with retry-after
    INTERNAL = (500, GrpcStatus.INTERNAL)
    UNSUPPORTED = (501, GrpcStatus.UNIMPLEMENTED)
    UNAVAILABLE = (503, GrpcStatus.UNAVAILABLE)
    DEADLINE = (504, GrpcStatus.DEADLINE_EXCEEDED)
    NO_ROOM = (507, GrpcStatus.RESOURCE_EXHAUSTED)

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> GrpcStatus:
        """The gRPC status code."""
        return self.value[1]


class CallError(TbmsError):
    """A call that is refused. `message` is one sentence that names the part at fault; it reaches the client.

    `retry_after` (seconds) tells the client when it may be worth another try; OVERLOADED has one in any case.
    `elsewhere`: nothing was done for the call, and another node may serve it. `why` is one word for programs, the same
    as in the header `tbms-answer`: the call was refused before any work was done for it.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        retry_after: float | None = None,
        *,
        elsewhere: bool = False,
        why: str | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.elsewhere = elsewhere
        self.why = why


class ConfigError(TbmsError):
    """The configuration is wrong: names the file, the path in it, the value and what was expected."""
