"""One gRPC stream of a server: messages in, messages and a status out."""

import logging
import struct
from collections.abc import Mapping
from typing import Final

from ext_proc.grpc_framing import PREFIX, PREFIX_SIZE
from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2.flow_control import FlowControlledStream, StreamOwner
from ext_proc.http2.frames import DATA, END_HEADERS, END_STREAM, HEADER_SIZE, HEADERS, ErrorCode, frame, rst_stream
from ext_proc.http2.grpc_messages import MessageAssembler, MessageFault
from ext_proc.http2.headers import RequestHeaders
from ext_proc.http2.hpack_literals import GRPC_HEADERS, GRPC_TRAILERS_OK, grpc_trailers
from ext_proc.http2.limits import SMALL_PIECE
from ext_proc.http2.session import Session

logger = logging.getLogger(__name__)

# A DATA frame's header and a message's prefix in one go.
_MESSAGE_HEAD: Final = struct.Struct(">BHBBIBI")
_HEADERS_HEAD: Final = frame(HEADERS, END_HEADERS, 0, GRPC_HEADERS)[:5]
_TRAILERS_HEAD: Final = frame(HEADERS, END_HEADERS | END_STREAM, 0, GRPC_TRAILERS_OK)[:5]
_RESET_HEAD: Final = rst_stream(0, ErrorCode.NO_ERROR)[:5]
_NO_ERROR: Final = rst_stream(0, ErrorCode.NO_ERROR)[HEADER_SIZE:]


class ServerStream(FlowControlledStream):
    """A stream as its session knows it (`session.Stream`), and as the connection drives it.

    It is over after the trailers were written, which `StreamOwner.closed` tells, or at a reset. From `finish` or a
    reset on it has no session. `heard` says whether a message has come, `answered` whether one was sent.
    """

    _owns_queue = True

    __slots__ = ("_assembler", "_piece", "_session", "_trailers", "answered", "heard", "metadata")

    def __init__(
        self, owner: StreamOwner[FlowControlledStream], number: int, headers: RequestHeaders, window: int
    ) -> None:
        super().__init__(owner, number, window)
        self._session: Session | None = None
        self._assembler: MessageAssembler | None = None  # only where a message does not come in one frame
        self._piece = 0  # bytes of it that count as held
        self._trailers: bytes | None = None
        self.answered = False
        self.metadata: Mapping[str, str] = headers.metadata
        self.heard = False

    def send(self, message: bytes) -> None:
        """See `Stream.send`."""
        if self._over or self._trailers is not None:
            return
        if not self.answered:
            self._open()
        size = len(message) + PREFIX_SIZE
        if self._fits(size):
            self._spend(size)
            self._writer.write(
                _MESSAGE_HEAD.pack(size >> 16, size & 0xFFFF, DATA, 0, self.id, 0, len(message)), message
            )
        else:
            self._enqueue(PREFIX.pack(0, len(message)), message)

    def finish(self, code: int = GrpcStatus.OK, details: str = "") -> None:
        """See `Stream.finish`."""
        if self._over or self._trailers is not None:
            return
        self._session = None
        self._assembler = None
        self._keep(0)
        block = grpc_trailers(code, details) if code or details else GRPC_TRAILERS_OK
        if self._queued:
            self._trailers = block
        else:
            self._end(block)

    def join(self, session: Session) -> None:
        """Takes the session, unless the stream was finished while it was made."""
        if not self._over and self._trailers is None:
            self._session = session

    def receive(self, buffer: bytes, start: int, end: int, size: int) -> None:
        """See `FlowControlledStream.receive`."""
        self._took(size)
        if self._session is None:
            return  # finished, with an answer that still waits for room
        assembler = self._assembler
        try:
            if assembler is None:
                if end - start >= PREFIX_SIZE:
                    flag: int
                    length: int
                    flag, length = PREFIX.unpack_from(buffer, start)
                    if not flag and end - start == length + PREFIX_SIZE and length <= self._limits.message:
                        self._deliver(buffer[start + PREFIX_SIZE : end])
                        return
                encoding = self.metadata.get("grpc-encoding", "identity")
                assembler = self._assembler = MessageAssembler(self._limits.message, encoding)
            self._feed(assembler, buffer[start:end])
        except MessageFault as fault:
            self.withdraw(fault.code, fault.details)

    def half_close(self) -> None:
        """See `FlowControlledStream.half_close`."""
        session = self._session
        if session is None:
            return
        if self._assembler is not None:
            self.withdraw(GrpcStatus.INTERNAL, "the stream ended within a message")
            return
        try:
            session.half_closed()
        except Exception:
            self.crashed()

    def reset(self, code: int) -> None:
        """See `FlowControlledStream.reset`."""
        self._discard()
        session = self._session
        self._session = None
        _tell_gone(session)

    def withdraw(self, code: int, details: str) -> None:
        """Ends the stream over the session's head; it learns that nothing can be answered any more."""
        session = self._session
        self.finish(code, details)
        _tell_gone(session)

    def crashed(self) -> None:
        """To be called in the handler of an exception that came out of the session."""
        logger.exception("a session failed; its stream ends with INTERNAL")
        self.withdraw(GrpcStatus.INTERNAL, "the server failed on this call")

    def _feed(self, assembler: MessageAssembler, data: bytes) -> None:
        """Takes a part of a message. Raises MessageFault, and ConnectionFault where there are too many small ones."""
        whole = False
        for message in assembler.feed(data):
            whole = True
            self._deliver(message)
            if self._session is None:
                return
        if assembler.between:
            self._assembler = None
        elif not whole and 0 < len(data) < SMALL_PIECE:
            self._owner.floods.idle_frame()
        self._keep(assembler.have)

    def _keep(self, size: int) -> None:
        """Counts what is here of a message."""
        change, self._piece = size - self._piece, size
        if change:
            self._hold(change)

    def _deliver(self, message: bytes) -> None:
        self.heard = True
        try:
            self._session.message(message)  # type: ignore[union-attr]
        except Exception:
            self.crashed()

    def _drained(self) -> None:
        if self._trailers is not None:
            self._end(self._trailers)

    def _open(self) -> None:
        self.answered = True
        update = self._owner.table_size_update()
        if update:
            self._writer.write(frame(HEADERS, END_HEADERS, self.id, update + GRPC_HEADERS))
        else:
            self._writer.write(_HEADERS_HEAD + self.id.to_bytes(4, "big") + GRPC_HEADERS)

    def _end(self, trailers: bytes) -> None:
        """Writes the trailers; on a stream that has sent nothing they are all of the answer."""
        self._over = True
        if self.answered and trailers is GRPC_TRAILERS_OK:  # nearly every stream
            number = self.id.to_bytes(4, "big")
            reset = b"" if self.remote_closed else _RESET_HEAD + number + _NO_ERROR
            self._writer.write(_TRAILERS_HEAD + number + trailers + reset)
        else:
            block = trailers if self.answered else self._owner.table_size_update() + GRPC_HEADERS + trailers
            self._writer.write(frame(HEADERS, END_HEADERS | END_STREAM, self.id, block))
            if not self.remote_closed:
                self._writer.write(rst_stream(self.id, ErrorCode.NO_ERROR))
        self._owner.closed(self)


def _tell_gone(session: Session | None) -> None:
    if session is not None:
        try:
            session.gone()
        except Exception:
            logger.exception("a session failed as its stream went away")
