"""The body of one request: how Envoy sends it, and the chunks that are here and not yet handed on."""

from typing import Final

from ext_proc.errors import CallError, Reason
from ext_proc.processing import response
from ext_proc.processing.request import BodyMode
from ext_proc.wire.protobuf.fields import Pieces

PORTION: Final = 1 << 20
"""Bytes that are handed on in one step: about a millisecond of work, after which other calls have their turn."""


class Body:
    """`ended`: nothing more of it comes. What is kept is bounded by whoever asks `check`."""

    __slots__ = ("_chunks", "_size", "_trailers", "ended", "mode")

    def __init__(self, mode: BodyMode = BodyMode.NONE, ended: bool = False) -> None:
        self.mode = mode
        self.ended = ended
        self._chunks: list[bytes | memoryview] = []
        self._size = 0
        self._trailers = False

    def keep(self, chunk: bytes, last: bool) -> None:
        """Keeps one more chunk."""
        self.ended = last
        self._size += len(chunk)
        self._chunks.append(chunk)

    @property
    def size(self) -> int:
        """Bytes of what was kept."""
        return self._size

    def check(self, limit: int) -> None:
        """Raises CallError where what is kept has more than `limit` bytes."""
        if self._size > limit:
            raise CallError(Reason.TOO_LARGE, f"the body is over the limit of {limit} bytes")

    def follow(self, chunk: bytes, last: bool) -> None:
        """One more chunk, behind those that wait to be handed on."""
        self.ended = last
        self._chunks.append(chunk)

    @property
    def waits(self) -> bool:
        """Whether chunks are here. After `hand_on` those are the ones of its next step."""
        return bool(self._chunks)

    def trailed(self) -> None:
        """The body has ended with trailers."""
        self._trailers = self.ended = True

    def whole(self) -> tuple[bytes, ...]:
        """The chunks of a body that was collected."""
        return tuple(chunk for chunk in self._chunks if isinstance(chunk, bytes))

    def replace(self, content: Pieces) -> None:
        """Hands `content` on in the place of the chunks that are here."""
        self._chunks = list(content) if sum(map(len, content)) > PORTION else [b"".join(content)]

    def drop(self) -> None:
        """Forgets the chunks: nothing will be handed on."""
        self._chunks = []

    def hand_on(self) -> list[bytes]:
        """The messages that bring the next PORTION of what is here to Envoy, which waits for it (FULL_DUPLEX)."""
        chunks, room = self._chunks, PORTION
        out: list[bytes] = []
        while chunks and room > 0:
            chunk = chunks.pop(0)
            if len(chunk) > room:
                rest = memoryview(chunk)
                chunks.insert(0, rest[room:])
                chunk = rest[:room]
            room -= len(chunk)
            out.append(response.stream_body(bytes(chunk), self.ended and not self._trailers and not chunks))
        if self._trailers and not chunks:
            out.append(response.CONTINUE_TRAILERS)
        return out
