"""What a model server answers when it refuses: a gRPC status code and one sentence."""

from enum import IntEnum

from mesh.errors import MeshError


class StatusCode(IntEnum):
    """The gRPC status codes in use; both HTTP APIs translate them in their own way."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class ServingError(MeshError):
    """A call that is refused. The message reaches the client word for word."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ServingError:
    """INVALID_ARGUMENT, by far the most frequent refusal."""
    return ServingError(StatusCode.INVALID_ARGUMENT, message)
