"""The body of one request: how Envoy sends it, and the chunks that are here and not yet handed on."""

from ext_proc.errors import CallError, Reason
from ext_proc.processing import response
from ext_proc.processing.request import BodyMode


class Body:
    """`ended`: nothing more of it comes. What is kept is bounded by the limit that `keep` is given."""

    __slots__ = ("_chunks", "_size", "_trailers", "ended", "mode")

    def __init__(self, mode: BodyMode = BodyMode.NONE, ended: bool = False) -> None:
        self.mode = mode
        self.ended = ended
        self._chunks: list[bytes] = []
        self._size = 0
        self._trailers = False

    def keep(self, chunk: bytes, last: bool, limit: int) -> None:
        """Keeps one more chunk. Raises CallError where all of them have more than `limit` bytes."""
        self.ended = last
        self._size += len(chunk)
        if self._size > limit:
            raise CallError(Reason.TOO_LARGE, f"the body is over the limit of {limit} bytes")
        self._chunks.append(chunk)

    def trailed(self) -> None:
        """The body has ended with trailers."""
        self._trailers = self.ended = True

    def whole(self) -> bytes:
        """The chunks that are here, joined."""
        return b"".join(self._chunks)

    def replace(self, content: bytes) -> None:
        """Hands `content` on in the place of the chunks that are here."""
        self._chunks = [content]

    def drop(self) -> None:
        """Forgets the chunks: nothing will be handed on."""
        self._chunks = []

    def hand_on(self) -> list[bytes]:
        """The messages that bring what is here to Envoy, which waits for it (FULL_DUPLEX)."""
        final = len(self._chunks) - 1 if self.ended and not self._trailers else -1
        out = [response.stream_body(chunk, index == final) for index, chunk in enumerate(self._chunks)]
        self._chunks = []
        if self._trailers:
            out.append(response.CONTINUE_TRAILERS)
        return out
