"""The interface of this library: a gRPC stream of a server, and the session that answers it.

The server opens a `Session` for each gRPC stream and calls it from the event loop; a session answers through its
`Stream`, within a callback or any time later. Nothing here awaits: a call that is decided at once costs no task.

Order of the callbacks: any number of `message`, then at most one `half_closed`; `gone` at any point, at most once and
last. After `finish`, whoever called it, the session is not called again.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from ext_proc.grpc_status import GrpcStatus


class Stream(Protocol):
    """What a session can do with its stream. To be used from the event loop's thread only."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The request's headers, `:authority` the only pseudo-header among them: names in lower case; of a repeated
        name the values joined with a comma. Shared between streams: not to be changed."""

    def send(self, message: bytes) -> None:
        """Sends one gRPC message. Never blocks; does nothing once the stream is finished or gone.

        What the peer cannot take yet is queued. While a stream's queue is long the server takes no more messages
        for that stream from the peer, so a session that sends what it gets holds a bounded amount of it.
        """

    def finish(self, code: int = GrpcStatus.OK, details: str = "") -> None:
        """Ends the stream with a gRPC status, after all that was sent. The first call counts, later ones do nothing."""


class Session(Protocol):
    """What answers one stream. Callbacks come from the event loop and must not block.

    An exception out of a callback is logged, and ends its own stream with INTERNAL; no other stream is touched.
    """

    def message(self, data: bytes) -> None:
        """One whole gRPC message has come."""

    def half_closed(self) -> None:
        """The peer will send no more; it still waits for the answer."""

    def gone(self) -> None:
        """The peer has reset the stream, or the connection is lost: nothing can be answered any more.

        No sign of a failure by itself: Envoy ends a stream so once it has heard what it wanted to know.
        """


# Makes the session of a stream that was just opened; it may already send or finish. A server is given one by path.
Open = Callable[[Stream], Session]
