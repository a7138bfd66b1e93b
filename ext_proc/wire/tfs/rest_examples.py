"""TF Serving's `:classify` and `:regress` that share a batch: a list of examples, answered by one result for each.

Examples are carried as they are written: each is an object of features, and those of one call need not be alike. A
context is merged into every example of its list by the server, so calls share a batch only where theirs are written
alike.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from ext_proc.wire.batch import AloneReason, Draft, NotShared, TensorBatches, Tensors, Written
from ext_proc.wire.json_text import (
    DATA,
    Gap,
    Items,
    Reader,
    Template,
    compact,
    cut_out,
    put_together,
    read_text,
    write_text,
)
from ext_proc.wire.layouts import Misfit
from ext_proc.wire.tfs import examples

_EXAMPLES, _CONTEXT, _SIGNATURE, _RESULTS = "examples", "context", "signature_name", "results"


class _Form(NamedTuple):
    """A message but for its examples or results."""

    text: Template
    tensors: tuple[examples.Items, ...]
    wanted: frozenset[str] = frozenset()

    def with_tensor(self, place: int, tensor: examples.Items) -> Self:
        """See `Form`."""
        return self._replace(tensors=(*self.tensors[:place], tensor, *self.tensors[place + 1 :]))


class TfsRestExamples(TensorBatches[_Form]):
    """See `TensorBatches`."""

    verbs = examples.VERBS

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        reader, said = Reader(body.decode()), {}
        rows, data = 0, None
        for name in reader.members():
            start = reader.at
            value = reader.value()
            if name == _EXAMPLES:
                rows, data = len(_objects(value)), reader.text[slice(*reader.inside(start))]
            elif name == _CONTEXT:
                said[name] = reader.text[start : reader.at]
            elif name == _SIGNATURE:
                said[name] = compact(value)
            else:
                raise NotShared(AloneReason.NOT_UNDERSTOOD)
        reader.end()
        if data is None:
            raise NotShared(AloneReason.NO_TENSORS)
        before = "".join([f'"{name}":{text},' for name, text in sorted(said.items())])
        text = put_together((f'{{{before}"{_EXAMPLES}":[', Gap(DATA), "]}"))
        return Tensors(_Form(text, (examples.Items(_EXAMPLES, Items()),)), b"", rows, (data,))

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        reader = Reader(read_text(body))
        rows, span, separator = 0, None, ","
        for name in reader.members():
            start = reader.at
            value = reader.value()
            if name == _RESULTS and isinstance(value, list):
                rows, span = len(value), reader.inside(start)
                separator += reader.text[start + 1 : span[0]] or " "
        reader.end()
        if span is None:
            raise NotShared(AloneReason.NO_TENSORS)
        form = _Form(
            cut_out(reader.text, [(*span, Gap(DATA))]), (examples.Items(_RESULTS, Items(separator=separator)),)
        )
        return Tensors(form, b"", rows, (reader.text[slice(*span)],))

    def _write_request(self, form: _Form, request: Draft) -> Written:
        return _write(form, request)

    def _write_replies(self, form: _Form, replies: Sequence[Draft]) -> list[Written]:
        return [_write(form, reply) for reply in replies]


def _objects(value: object) -> list[object]:
    if not isinstance(value, list):
        raise NotShared(AloneReason.NO_BATCH_DIMENSION)
    if not all(isinstance(each, dict) for each in value):
        raise Misfit("an example that is no object")
    return value


def _write(form: _Form, message: Draft) -> Written:
    return Written(write_text(form.text.filled(["".join(message.columns[0])])))
