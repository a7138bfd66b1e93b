"""Calls that share a batch: how several become one, and how its reply is cut again.

A message that carries tensors is read into its form (all that is neither rows nor the caller's own), an id, and one
column of data for each tensor, which is never decoded. What the protocols differ in is how such a message is read and
written; the rest is here. See docs/decisions/048.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, cast

from ext_proc.errors import CallError, TbmsError
from ext_proc.wire.call import Call, Verb
from ext_proc.wire.forms import Form, OwnForm, Trim, names_of, trimmed
from ext_proc.wire.layouts import Misfit, Prefixed, StringFields
from ext_proc.wire.names import quoted

MAX_RANK: Final = 32
"""Dimensions of a tensor that is merged; NumPy, and what is built on it, has no more."""

MAX_STRINGS: Final = 65_536
"""Strings of an input of a call that is merged: each takes about half a microsecond to find its end."""
MAX_TENSORS: Final = 1024
"""Tensors of a message that is read: each takes some 50 microseconds where it is not remembered."""


class AloneReason(StrEnum):
    """Why a call cannot share a batch. The value is the name used in metrics."""

    NO_TENSORS = "no-tensors"  # it asks for no inference
    EXAMPLES = "examples"  # MultiInference: of several signatures
    STREAM = "stream"
    NO_BATCH_DIMENSION = "no-batch-dimension"  # an input is a scalar
    NO_ROWS = "no-rows"
    ROWS_DIFFER = "rows-differ"  # among its inputs
    NO_SHAPE = "no-shape"  # V2's raw binary request, whose rows only the server can count
    MISFIT = "misfit"  # data that do not fill their shape: the server's to refuse, in its own words
    TOO_MANY = "too-many"  # more tensors or strings than are read, or values than a short list is made to
    SEQUENCE = "sequence"
    CLASSIFICATION = "classification"
    SHARED_MEMORY = "shared-memory"
    COMPRESSED = "compressed"
    NOT_UNDERSTOOD = "not-understood"


@dataclass(frozen=True, slots=True)
class Alone:
    """A call that cannot be merged exactly. It goes to the server as it is."""

    reason: AloneReason


@dataclass(slots=True, init=False)
class Member:
    """A call, or a piece of one, that may share a batch with those of an equal key.

    `rows` is the size of its first dimension, at least 1; `size` the bytes that it adds to a merged body; `common` what
    calls must have in common beside the form; `trims` what is cut back of its reply. The other fields are the codec's
    own; they hold views of the body, which so lives as long as the member.
    """

    common: Final[Hashable]
    rows: Final[int]
    size: Final[int]
    form: Final[Form]
    id: Final[bytes]
    columns: Final[tuple[Any, ...]]
    trims: Final[tuple[Trim, ...]]

    def __init__(
        self,
        common: Hashable,
        rows: int,
        size: int,
        form: Form,
        id: bytes,
        columns: tuple[Any, ...],
        trims: tuple[Trim, ...] = (),
    ) -> None:
        self.common = common
        self.rows = rows
        self.size = size
        self.form = form
        self.id = id
        self.columns = columns
        self.trims = trims

    @property
    def key(self) -> Hashable:
        """Equal for those that may share a batch."""
        return self.common, self.form


@dataclass(slots=True, init=False)
class Written:
    """A body, and the headers to set with it, in place of those of the same name; content-length is the caller's."""

    body: Final[bytes]
    headers: Final[tuple[tuple[str, str], ...]]

    def __init__(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.body = body
        self.headers = headers


class ReplyMismatch(TbmsError):
    """The reply to a merged call is not that to its members: they are to be asked one by one. The message says why."""


class BatchCodec(Protocol):
    """How calls of one protocol become one. For gRPC a body is the bare message, for REST it is not packed.

    Nothing is kept between calls. Time and memory grow with the size of the bodies only.
    """

    def read(self, call: Call, headers: Mapping[str, str], body: bytes) -> Member | Alone:
        """What may be done with a call; `headers` are its own, lower-case. Nothing is raised, whatever the body is."""

    def merge(self, members: Sequence[Member]) -> Written:
        """The call that asks for the rows of all these, in order; their keys are equal.

        Path and other headers are those of any of them.
        """

    def cut(self, headers: Mapping[str, str], body: bytes, members: Sequence[Member]) -> list[Written]:
        """The reply to a merged call as one for each member: as the server would have answered it alone.

        `headers` are those of the reply, which has succeeded. Raises ReplyMismatch unless every output has the rows of
        all members, and there are those that were asked for.
        """

    def split(self, member: Member, rows: Sequence[int]) -> list[Member]:
        """The member in pieces of so many rows each, which sum up to its own."""

    def join(self, headers: Mapping[str, str], replies: Sequence[Written], member: Member) -> Written:
        """The reply to the whole of a member, of those to its pieces in order. Raises ReplyMismatch."""


def padding(codec: BatchCodec, member: Member, rows: int) -> list[Member]:
    """Members that repeat the last row of `member`, one each: they fill a batch up, and their replies are dropped."""
    last = codec.split(member, [member.rows - 1, 1])[1] if member.rows > 1 else member
    return [last] * rows


class Tensors(Generic[OwnForm]):
    """A message that is read: tensors of `rows` rows, their data in the order of the form's layouts."""

    __slots__ = ("columns", "form", "id", "rows")

    def __init__(self, form: OwnForm, id: bytes, rows: int, columns: tuple[Any, ...]) -> None:
        self.form: Final = form
        self.id: Final = id
        self.rows: Final = rows
        self.columns: Final = columns


@dataclass(slots=True, init=False)
class Draft:
    """A message that is to be written: each tensor's data as what to write one after the other."""

    id: Final[bytes]
    rows: Final[int]
    columns: Final[Sequence[Sequence[Any]]]

    def __init__(self, id: bytes, rows: int, columns: Sequence[Sequence[Any]]) -> None:
        self.id = id
        self.rows = rows
        self.columns = columns


class NotShared(Exception):
    """The request that is being read cannot share a batch."""

    def __init__(self, reason: AloneReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def check_number(tensors: int) -> None:
    """Raises NotShared for a message of more tensors than are read."""
    if tensors > MAX_TENSORS:
        raise NotShared(AloneReason.TOO_MANY)


_REASONS: Final = {Verb.MULTI_INFERENCE: AloneReason.EXAMPLES, Verb.STREAM_INFER: AloneReason.STREAM}
_STEPWISE: Final = (Prefixed, StringFields)
"""Layouts whose elements have to be gone through one by one."""


class TensorBatches(ABC, Generic[OwnForm]):
    """A `BatchCodec` in terms of how a protocol's messages are read and written.

    `verbs` are those of the calls whose messages it reads; others go alone.
    """

    verbs = frozenset({Verb.PREDICT, Verb.INFER})

    def read(self, call: Call, headers: Mapping[str, str], body: bytes) -> Member | Alone:
        """See `BatchCodec`."""
        if call.verb not in self.verbs:
            return Alone(_REASONS.get(call.verb, AloneReason.NO_TENSORS))
        if headers.get("content-encoding", "identity") != "identity":
            return Alone(AloneReason.COMPRESSED)
        try:
            request = self._read_request(headers, body)
            if request.rows < 1:
                return Alone(AloneReason.NO_ROWS)
            columns = request.columns
            for at, tensor in enumerate(request.form.tensors):
                layout = tensor.layout
                if isinstance(layout, _STEPWISE) and request.rows * layout.elements > MAX_STRINGS:
                    return Alone(AloneReason.TOO_MANY)
                layout.cut(columns[at], [request.rows])
        except NotShared as refused:
            return Alone(refused.reason)
        except Misfit:
            return Alone(AloneReason.MISFIT)
        except (CallError, ValueError, RecursionError):
            return Alone(AloneReason.NOT_UNDERSTOOD)
        # A reply may depend on the packings that the client takes.
        return _member((call, headers.get("accept-encoding"), headers.get("grpc-accept-encoding")), request)

    def merge(self, members: Sequence[Member]) -> Written:
        """See `BatchCodec`."""
        form = cast(OwnForm, members[0].form)  # the codec has read it itself
        pieces = zip(*[member.columns for member in members], strict=True)
        columns = [tensor.layout.join(piece) for tensor, piece in zip(form.tensors, pieces, strict=True)]
        return self._write_request(form, Draft(b"", sum([member.rows for member in members]), columns))

    def cut(self, headers: Mapping[str, str], body: bytes, members: Sequence[Member]) -> list[Written]:
        """See `BatchCodec`."""
        rows = [member.rows for member in members]
        reply = self._reply(headers, body)
        _check_outputs(reply.form, members[0].form.wanted)
        if reply.rows != sum(rows):
            raise ReplyMismatch(f"The reply has {reply.rows} rows, and {sum(rows)} were asked for.")
        columns = []
        for at, tensor in enumerate(reply.form.tensors):
            try:
                columns.append(tensor.layout.cut(reply.columns[at], rows))
            except ValueError as fault:
                raise ReplyMismatch(f"The output {quoted(tensor.name)} of the reply has {fault}.") from None
        drafts = [
            Draft(member.id or reply.id, member.rows, [(pieces[at],) for pieces in columns])
            for at, member in enumerate(members)
        ]
        if not any(member.trims for member in members):
            return self._write_replies(reply.form, drafts)
        return [self._write_trimmed(reply.form, *each) for each in zip(drafts, members, strict=True)]

    def split(self, member: Member, rows: Sequence[int]) -> list[Member]:
        """See `BatchCodec`."""
        form = member.form
        columns = [tensor.layout.cut(column, rows) for tensor, column in zip(form.tensors, member.columns, strict=True)]
        pieces = zip(*columns, strict=True)
        return [
            _member(member.common, Tensors(form, member.id, count, piece), member.trims)
            for count, piece in zip(rows, pieces, strict=True)
        ]

    def join(self, headers: Mapping[str, str], replies: Sequence[Written], member: Member) -> Written:
        """See `BatchCodec`."""
        parts = [self._reply({**headers, **dict(reply.headers)}, reply.body) for reply in replies]
        form = parts[0].form
        parts = [self._reply_like(parts[0], part) for part in parts]
        if any(part.form != form for part in parts):
            raise ReplyMismatch("The replies to the pieces of a call differ in more than their rows.")
        rows = sum(part.rows for part in parts)
        if rows != member.rows:
            raise ReplyMismatch(f"The pieces of a call got {rows} rows, and {member.rows} were asked for.")
        pieces = zip(*[part.columns for part in parts], strict=True)
        columns = [tensor.layout.join(piece) for tensor, piece in zip(form.tensors, pieces, strict=True)]
        return self._write_replies(form, [Draft(parts[0].id, rows, columns)])[0]

    def _write_trimmed(self, form: OwnForm, draft: Draft, member: Member) -> Written:
        """A reply to a padded request as one to what was asked. Raises ReplyMismatch."""
        try:
            form, columns = trimmed(form, draft.rows, [column[0] for column in draft.columns], member.trims)
        except ValueError as fault:
            raise ReplyMismatch(f"The reply to a padded call cannot be cut back: {fault}.") from None
        return self._write_replies(form, [Draft(draft.id, draft.rows, [(column,) for column in columns])])[0]

    def _reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[OwnForm]:
        try:
            return self._read_reply(headers, body)
        except (NotShared, CallError, ValueError) as fault:
            raise ReplyMismatch(f"The reply cannot be cut into rows: {str(fault).removesuffix('.')}.") from None

    def _reply_like(self, first: Tensors[OwnForm], other: Tensors[OwnForm]) -> Tensors[OwnForm]:
        """The other reply with its outputs in the order of the first, if that is the server's choice."""
        return other

    @abstractmethod
    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[OwnForm]:
        """Raises NotShared; Misfit for data that do not fill their shape; CallError and ValueError."""

    @abstractmethod
    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[OwnForm]:
        """Raises as `_read_request`."""

    @abstractmethod
    def _write_request(self, form: OwnForm, request: Draft) -> Written:
        """The request, which has no id."""

    @abstractmethod
    def _write_replies(self, form: OwnForm, replies: Sequence[Draft]) -> list[Written]:
        """Replies of one form."""


def _member(common: Hashable, request: Tensors[Any], trims: tuple[Trim, ...] = ()) -> Member:
    size = sum([len(data.encode() if isinstance(data, str) else data) for data in request.columns])
    return Member(common, request.rows, size, request.form, request.id, request.columns, trims)


def _check_outputs(form: Form, wanted: frozenset[str]) -> None:
    """Triton's response cache gives failures as replies without outputs."""
    if not form.tensors:
        raise ReplyMismatch("The reply has no outputs.")
    if wanted and wanted != set(names_of(form)):
        raise ReplyMismatch("The reply has other outputs than were asked for.")
