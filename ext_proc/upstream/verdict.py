"""What a reply says of the node that was asked, and of the way there: whether it is there at all, and has the model."""

from collections.abc import Callable
from typing import Final

from ext_proc.grpc_status import GrpcStatus

TellOutcome = Callable[[str, str | None], None]
"""Is told of a call to a far node (its id) why it failed, in one sentence, or, by None, that it was answered."""

# What an Envoy on the way says where it cannot reach what is behind it. A node that is too busy says the first, too:
# another one is asked then as well, and one good answer clears it.
_AWAY: Final = frozenset({502, 503})
# Nobody has answered in the caller's time, or the caller has gone: whose fault that is, nobody knows.
_UNCLEAR: Final = frozenset({0, 504})
_UNCLEAR_GRPC: Final = frozenset({GrpcStatus.CANCELLED, GrpcStatus.DEADLINE_EXCEEDED})
# What a model server answers that lacks a model, and Envoy in the place of one that is away.
_LACKING: Final = frozenset({404, 503})
_LACKING_GRPC: Final = frozenset({GrpcStatus.NOT_FOUND, GrpcStatus.UNAVAILABLE})


def answered(status: int, grpc_status: int) -> bool | None:
    """Whether the node itself has answered, with an error or without; False: it is away; None: that is not clear.

    `status` is 0 where no reply came, `grpc_status` 0 for REST.
    """
    if status in _AWAY or grpc_status == GrpcStatus.UNAVAILABLE:
        return False
    return None if status in _UNCLEAR or grpc_status in _UNCLEAR_GRPC else True


def is_lacking(status: int, grpc_status: int) -> bool:
    """Whether the call failed as one does where the model, or its server, is not there. The arguments are those of
    `answered`.
    """
    return status in _LACKING or grpc_status in _LACKING_GRPC
