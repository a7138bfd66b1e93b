"""TF Serving's Classify and Regress over gRPC that share a batch: lists of examples, answered by one result for each.

An example is a message of its own, and is carried unread; a context is merged into every example of its list by the
server, so calls share a batch only where theirs are equal. The requests of both methods are alike in their fields, and
so are their replies.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from ext_proc.wire.batch import MAX_STRINGS, AloneReason, Draft, NotShared, TensorBatches, Tensors, Written
from ext_proc.wire.layouts import Bytes, StringFields
from ext_proc.wire.protobuf.fields import varint
from ext_proc.wire.protobuf.spans import Span, grouped, joined, rest, run, tag_of, take, take_one
from ext_proc.wire.tfs.examples import VERBS, Items

MAX_RESULTS = 1 << 20
"""Results of one reply; each takes about half a microsecond."""

_MODEL_SPEC, _INPUT = 1, 2  # fields of both requests
_LIST, _LIST_WITH_CONTEXT = 1, 2  # of an Input, which has one of them
_RESULT = 1  # of both replies
_ITEMS, _CONTEXT = 1, 2  # of a list: its examples, or its results


_EXAMPLES = (Items("examples", StringFields(1, _ITEMS)),)
_RESULTS = (Items("results", StringFields(1, _ITEMS)),)


class _Form(NamedTuple):
    """A message but for its examples or results, which are within the fields of `path`, from the outermost on.

    `around` is what follows them in each of these, from the innermost on, and then in the message.
    """

    before: bytes
    path: tuple[int, ...]
    around: tuple[bytes, ...]
    tensors: tuple[Items, ...]
    wanted: frozenset[str] = frozenset()

    def with_tensor(self, place: int, tensor: Items) -> Self:
        """See `Form`."""
        return self._replace(tensors=(*self.tensors[:place], tensor, *self.tensors[place + 1 :]))


class TfsGrpcExamples(TensorBatches[_Form]):
    """See `TensorBatches`."""

    verbs = VERBS

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        fields = grouped(body, 0, len(body))
        spec = joined(body, take_one(fields, _MODEL_SPEC))
        given = grouped(body, *_within(take_one(fields, _INPUT)))
        kinds = [number for number in (_LIST, _LIST_WITH_CONTEXT) if tag_of(number) in given]
        if not kinds:
            raise NotShared(AloneReason.NO_ROWS)
        if len(kinds) > 1:  # one of them counts, the last
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        start, end = _within(take_one(given, kinds[0]))
        # A few fields beside them: what is unknown here.
        listed = grouped(body, start, end, MAX_STRINGS + _CONTEXT)
        examples = take(listed, _ITEMS)
        context = joined(body, take_one(listed, _CONTEXT)) if kinds[0] == _LIST_WITH_CONTEXT else b""
        around = (context + rest(body, listed), rest(body, given), rest(body, fields))
        form = _Form(spec, (_INPUT, kinds[0]), around, _EXAMPLES)
        return Tensors(form, b"", len(examples), (run(body, examples),))

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        fields = grouped(body, 0, len(body))
        listed = grouped(body, *_within(take_one(fields, _RESULT)), MAX_RESULTS)
        results = take(listed, _ITEMS)
        form = _Form(b"", (_RESULT,), (rest(body, listed), rest(body, fields)), _RESULTS)
        return Tensors(form, b"", len(results), (run(body, results),))

    def _write_request(self, form: _Form, request: Draft) -> Written:
        return _write(form, request)

    def _write_replies(self, form: _Form, replies: Sequence[Draft]) -> list[Written]:
        return [_write(form, reply) for reply in replies]


def _within(fields: Sequence[Span]) -> tuple[int, int]:
    """Where the content lies of the one field that there is; nowhere, if there is none."""
    return fields[0][2:] if fields else (0, 0)


def _write(form: _Form, message: Draft) -> Written:
    pieces: list[Bytes] = [*message.columns[0], form.around[0]]
    size = sum(map(len, pieces))
    for number, after in zip(reversed(form.path), form.around[1:], strict=True):
        head = varint(tag_of(number)) + varint(size)
        pieces = [head, *pieces, after]
        size += len(head) + len(after)
    return Written(b"".join((form.before, *pieces)))
