"""Header blocks that come in several frames: HEADERS, then CONTINUATION until the one that ends them (section 6.10)."""

from ext_proc.transport.http2.frames import CONTINUATION, END_HEADERS, Code, ConnectionFault
from ext_proc.transport.http2.limits import Limits


class Blocks:
    """The block that a connection is in the middle of, if it is. `pieces` is empty otherwise."""

    __slots__ = ("_limits", "_size", "_stream", "ends", "pieces")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stream = 0
        self._size = 0
        self.ends = 0
        self.pieces: list[bytes] = []

    def begin(self, stream: int, ends: int, piece: bytes) -> None:
        """The first piece; `ends` says whether the block is the last of its stream, for who asks at the end."""
        self._stream = stream
        self._size = len(piece)
        self.ends = ends
        self.pieces.append(piece)

    def check(self, stream: int, kind: int) -> None:
        """Raises ConnectionFault for a frame that comes in between."""
        if kind != CONTINUATION or stream != self._stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")

    def go_on(self, flags: int, piece: bytes) -> bytes | None:
        """One more piece; the whole block if it was the last."""
        if not self.pieces:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "there is no header block to continue")
        self.pieces.append(piece)
        self._size += len(piece)
        if len(self.pieces) > self._limits.continuations or self._size > self._limits.headers:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block is over the limit")
        if not flags & END_HEADERS:
            return None
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)
