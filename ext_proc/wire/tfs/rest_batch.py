"""TF Serving's REST calls that share a batch: rows ("instances") or columns ("inputs") of `:predict`.

Values are carried as they are written, so that numbers keep their digits. A reply is kept as the server prints it, but
for the rows. JSON has no types, so what is equal of calls that share a batch are the shapes of their rows, and whether
they are of numbers, of strings or of truth values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self

from ext_proc.wire.batch import AloneReason, Draft, NotShared, TensorBatches, Tensors, Written, check_number
from ext_proc.wire.json_text import (
    DATA,
    Gap,
    Items,
    Reader,
    Template,
    compact,
    cut_out,
    lists_in,
    put_together,
    read_text,
    shape_of,
    write_text,
)
from ext_proc.wire.layouts import Misfit
from ext_proc.wire.ragged import Value, changed, element_text, in_objects, resized_lists
from mesh.tensors.dtypes import BOOL, DOUBLE, STRING

_INSTANCES, _INPUTS = "instances", "inputs"
_PREDICTIONS, _OUTPUTS = "predictions", "outputs"
_KINDS: dict[type, str] = {int: "number", float: "number", str: "string", bytes: "string", bool: "bool"}
_DTYPES = {"number": DOUBLE, "string": STRING, "bool": BOOL}
"""What is written for new elements: of numbers JSON does not say more."""


class _Column(NamedTuple):
    """Data that are written as one array: of `objects`, or of the rows of one tensor.

    `said` are (name, shape of a row, kinds) of the tensors in it; a name is "" where none is given.
    """

    name: str
    layout: Items
    said: frozenset[tuple[str, tuple[int, ...], frozenset[str]]]
    objects: bool

    @property
    def tails(self) -> Mapping[str, tuple[int, ...]]:
        """See `Cut`."""
        return {name: tail for name, tail, _ in self.said}

    def resized(self, name: str, dim: int, size: int, value: Value, rows: int, data: str) -> tuple[Self, str]:
        """See `Cut`."""
        was = next(each for each in self.said if each[0] == name)
        _, tail, kinds = was
        one = element_text(_DTYPES[next(iter(kinds), "number")], value)
        change = partial(resized_lists, tail=tail, dim=dim, size=size, one=one)
        data = in_objects(data, name, change) if self.objects else change(data)
        tail = changed(tail, dim, size)
        layout = self.layout if self.objects else replace(self.layout, lists=lists_in(tail))
        return self._replace(layout=layout, said=self.said - {was} | {(name, tail, kinds)}), data


class _Form(NamedTuple):
    """A message but for its rows and data."""

    text: Template
    tensors: tuple[_Column, ...]
    wanted: frozenset[str] = frozenset()

    def with_tensor(self, place: int, tensor: _Column) -> Self:
        """See `Form`."""
        return self._replace(tensors=(*self.tensors[:place], tensor, *self.tensors[place + 1 :]))


class TfsRestBatches(TensorBatches[_Form]):
    """See `TensorBatches`."""

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        document = _Document(body.decode(), _INSTANCES, _INPUTS)
        parts: list[str | Gap] = ["{"]
        for name, value in document.others.items():
            if name != "signature_name":
                raise NotShared(AloneReason.NOT_UNDERSTOOD)
            parts.append(f'"signature_name":{compact(value)},')
        found = sorted(document.found, key=lambda one: one.column.name)
        if document.rows_format:
            parts += (f'"{_INSTANCES}":[', Gap(DATA, 0), "]}")
        elif document.named:
            parts.append(f'"{_INPUTS}":{{')
            for at, each in enumerate(found):
                parts += ("," if at else "", f"{compact(each.column.name)}:[", Gap(DATA, at), "]")
            parts.append("}}")
        else:
            parts += (f'"{_INPUTS}":[', Gap(DATA, 0), "]}")
        return document.tensors(put_together(parts), found)

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        document = _Document(read_text(body), _PREDICTIONS, _OUTPUTS)
        gaps = [(*each.span, Gap(DATA, at)) for at, each in enumerate(document.found)]
        return document.tensors(cut_out(document.text, gaps), document.found)

    def _write_request(self, form: _Form, request: Draft) -> Written:
        return _write(form, request)

    def _write_replies(self, form: _Form, replies: Sequence[Draft]) -> list[Written]:
        return [_write(form, reply) for reply in replies]


class _Found(NamedTuple):
    """One column, its rows, and where its items lie."""

    column: _Column
    rows: int
    span: tuple[int, int]


class _Document:
    """A message as it is written, in rows or in columns."""

    def __init__(self, text: str, rows: str, columns: str) -> None:
        self.text = text
        self.found: list[_Found] = []
        self.others: dict[str, Any] = {}
        self.rows_format = self.named = False
        self._is_reply = rows == _PREDICTIONS  # whose style is kept
        self._reader = reader = Reader(text)
        for name in reader.members():
            if name == rows:
                self.rows_format = True
                self._array(name)
            elif name != columns:
                self.others[name] = reader.value()
            elif text.startswith("{", reader.at):
                self.named = True
                for name_of_column in reader.members():
                    check_number(len(self.found) + 1)
                    self._array(name_of_column)
            else:
                self._array(name)
        reader.end()

    def tensors(self, text: Template, found: Sequence[_Found]) -> Tensors[_Form]:
        """The message in this text with these columns."""
        if self.rows_format and len(found) > 1:  # it has both
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        rows = {each.rows for each in found}
        if len(rows) != 1:
            raise NotShared(AloneReason.ROWS_DIFFER if rows else AloneReason.NO_TENSORS)
        form = _Form(text, tuple([each.column for each in found]))
        return Tensors(form, b"", found[0].rows, tuple([self.text[slice(*each.span)] for each in found]))

    def _array(self, name: str) -> None:
        reader, start = self._reader, self._reader.at
        values = reader.value()
        if not isinstance(values, list):
            raise NotShared(AloneReason.NO_BATCH_DIMENSION)
        span = reader.inside(start)
        separator = ","
        if self._is_reply:
            # TF Serving begins a line for each object, and puts plain rows one after the other.
            separator += self.text[start + 1 : span[0]] or " "
        if values and isinstance(values[0], dict) and not _is_base64(values[0]):
            self.found.append(_Found(_Column(name, Items(1, 0, separator), _objects(values), True), len(values), span))
            return
        shape, kinds = shape_of(values)
        said = frozenset([_tensor(name if self.named else "", shape[1:], kinds)])
        column = _Column(name, Items(1, lists_in(shape[1:]), separator), said, False)
        self.found.append(_Found(column, len(values), span))


def _objects(rows: Sequence[Any]) -> frozenset[tuple[str, tuple[int, ...], frozenset[str]]]:
    """What objects have in common that are one row each. Raises Misfit."""
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, set[type]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or (number and row.keys() != shapes.keys()):
            raise Misfit("rows of different inputs")
        for name, value in row.items():
            shape, more = shape_of(value)
            if shapes.setdefault(name, shape) != shape:
                raise Misfit("rows of different shapes")
            kinds.setdefault(name, set()).update(more)
    return frozenset([_tensor(name, shape, kinds[name]) for name, shape in shapes.items()])


def _tensor(name: str, shape: tuple[int, ...], types: set[type]) -> tuple[str, tuple[int, ...], frozenset[str]]:
    kinds = frozenset([_KINDS.get(kind, "") for kind in types])
    if "" in kinds or len(kinds) > 1:
        raise Misfit("values of several types")
    return name, shape, kinds


def _is_base64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _write(form: _Form, message: Draft) -> Written:
    values = ["".join(message.columns[gap.tensor]) for gap in form.text.gaps]
    return Written(write_text(form.text.filled(values)))
