"""V2 REST calls that share a batch: JSON data, the binary tensor extension, or both in one body.

A merged request says what its members say in common, and carries the text of their data. A reply is kept as it is
written, but for its id, the rows and the data.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ext_proc.wire.batch import MAX_RANK, AloneReason, Draft, NotShared, TensorBatches, Tensors, Written
from ext_proc.wire.json_text import (
    DATA,
    ID,
    ROWS,
    SIZE,
    Gap,
    Items,
    Reader,
    Template,
    compact,
    cut_out,
    put_together,
    shape_of,
    unescaped,
)
from ext_proc.wire.layouts import AnyLayout, Bytes, Misfit
from ext_proc.wire.v2.batch_parameters import check_request, check_tensor
from ext_proc.wire.v2.rest_outputs import HEADER
from ext_proc.wire.v2.tensor_layouts import raw_layout
from mesh.digits import number

_SIZE = "binary_data_size"
_FIRST = re.compile(r"\[[ \t\n\r]*([0-9]+)")  # of a shape
_KINDS: dict[str, set[type]] = {
    "BOOL": {bool},
    "BYTES": {str},
    "FP32": {int, float},
    "FP64": {int, float},
    **{f"{sign}INT{bits}": {int} for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
"""Types of JSON's values by datatype. FP16 and BF16 have no JSON."""


class _Tensor(NamedTuple):
    """A tensor but for its rows and data. `depth` of lists in the JSON; 0: binary data."""

    name: str
    layout: AnyLayout
    depth: int


class _Form(NamedTuple):
    """A message but for its id, rows and data."""

    text: Template
    tensors: tuple[_Tensor, ...]
    told: bool  # whether HEADER says how long the JSON is
    wanted: frozenset[str]

    @property
    def layouts(self) -> tuple[AnyLayout, ...]:
        """See `Form`."""
        return tuple([tensor.layout for tensor in self.tensors])

    @property
    def names(self) -> tuple[str, ...]:
        """See `Form`."""
        return tuple([tensor.name for tensor in self.tensors])


class _Read(NamedTuple):
    """One tensor as a message tells it: its members but for the data, and where of the text the gaps are."""

    tensor: _Tensor
    shape: list[int]
    data: str | memoryview
    members: dict[str, Any]
    gaps: dict[str, tuple[int, int]]


class _Document:
    """A message as it is written. `tensors` is the name of its list of tensors."""

    def __init__(self, headers: Mapping[str, str], body: bytes, tensors: str) -> None:
        told = headers.get(HEADER)
        size = len(body) if told is None else number(told, 18)
        if size is None or size > len(body):
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        if not size:
            raise NotShared(AloneReason.NO_SHAPE)
        self._is_reply = tensors == "outputs"  # whose style is kept
        self.told = told is not None
        self.text = body[:size].decode()
        self.members: dict[str, Any] = {}
        self.tensors: list[_Read] = []
        self.id_gap: tuple[int, int] | None = None
        self._binary = memoryview(body)[size:]
        reader = Reader(self.text)
        for name in reader.members():
            start = reader.at
            if name == tensors:
                self.tensors = [self._tensor(reader) for _ in reader.items()]
                continue
            self.members[name] = reader.value()
            if name == "id":
                self.id_gap = (start, reader.at)
        reader.end()
        if len(self._binary):
            raise NotShared(AloneReason.MISFIT)
        if not self.tensors:
            raise NotShared(AloneReason.NO_TENSORS)
        self.rows = self.tensors[0].shape[0]
        if any(each.shape[0] != self.rows for each in self.tensors):
            raise NotShared(AloneReason.ROWS_DIFFER)

    def id(self) -> bytes:
        """Its id, as JSON; empty if it has none."""
        value = self.members.get("id", "")
        if not isinstance(value, str):
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        # Not escaped, as servers write it.
        return unescaped(value).encode() if value else b""

    def columns(self) -> tuple[str | memoryview, ...]:
        """The tensors' data."""
        return tuple([each.data for each in self.tensors])

    def _tensor(self, reader: Reader) -> _Read:
        members: dict[str, Any] = {}
        gaps: dict[str, tuple[int, int]] = {}
        values: Any = None
        text, separator = self.text, ","
        for name in reader.members():
            start = reader.at
            if name == "data":
                values = reader.value()
                gaps[DATA] = reader.inside(start)
                separator = "," + text[start + 1 : gaps[DATA][0]] if self._is_reply else ","
                continue
            if name == "parameters":
                members[name] = parameters = {}
                for key in reader.members():
                    start = reader.at
                    parameters[key] = reader.value()
                    if key == _SIZE:
                        gaps[SIZE] = (start, reader.at)
                continue
            members[name] = reader.value()
            if name == "shape" and (first := _FIRST.match(text, start)):
                gaps[ROWS] = first.span(1)
        check_tensor(members.get("parameters", ()))
        shape, datatype = _shape(members.get("shape")), _string(members.get("datatype"))
        if (DATA in gaps) == (SIZE in gaps):
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        data: str | memoryview
        layout: AnyLayout | None
        if DATA in gaps:
            layout, depth = _items(values, datatype, shape, separator)
            data = text[slice(*gaps[DATA])]
        else:
            layout, depth, data = raw_layout(datatype, shape[1:]), 0, self._blob(members["parameters"][_SIZE])
        if layout is None:
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        return _Read(_Tensor(_string(members.get("name")), layout, depth), shape, data, members, gaps)

    def _blob(self, size: Any) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self._binary):
            raise NotShared(AloneReason.MISFIT)
        blob, self._binary = self._binary[:size], self._binary[size:]
        return blob


class V2RestBatches(TensorBatches):
    """See `TensorBatches`."""

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors:
        said = _Document(headers, body, "inputs")
        its_id = said.id()
        said.members.pop("id", None)
        check_request(_object(said.members.get("parameters", {})))
        wanted = []
        for output in _array(said.members.get("outputs", [])):
            wanted.append(_string(_object(output).get("name")))
            check_tensor(_object(output.get("parameters", {})))
        # Binary data are told apart by the order of the inputs, which may be any.
        said.tensors.sort(key=lambda each: each.tensor.name)
        form = _Form(_request_text(said), tuple([each.tensor for each in said.tensors]), said.told, frozenset(wanted))
        return Tensors(form, its_id, said.rows, said.columns())

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors:
        said = _Document(headers, body, "outputs")
        gaps = [] if said.id_gap is None else [(*said.id_gap, Gap(ID))]
        for at, each in enumerate(said.tensors):
            gaps += [(*span, Gap(what, 0 if what == ROWS else at)) for what, span in each.gaps.items()]
        form = _Form(cut_out(said.text, gaps), tuple([each.tensor for each in said.tensors]), said.told, frozenset())
        return Tensors(form, said.id(), said.rows, said.columns())

    def _write_request(self, form: _Form, request: Draft) -> Written:
        return _write(form, request)

    def _write_replies(self, form: _Form, replies: Sequence[Draft]) -> list[Written]:
        return [_write(form, reply) for reply in replies]


def _request_text(said: _Document) -> Template:
    """What a request says but for its id, in one way for all calls that say the same."""
    parts: list[str | Gap] = ["{"]
    for name, value in sorted(said.members.items()):
        parts.append(f"{compact(name)}:{compact(value)},")
    parts.append('"inputs":[{')
    for at, each in enumerate(said.tensors):
        members, binary = each.members, not each.tensor.depth
        parts += ("},{" if at else "", '"shape":[', Gap(ROWS), *[f",{size}" for size in each.shape[1:]], "]")
        plain = sorted(members.keys() - {"shape", "parameters"})
        parts += [f",{compact(name)}:{compact(members[name])}" for name in plain]
        others = {name: value for name, value in members.get("parameters", {}).items() if name != _SIZE}
        if others or binary:
            parts += (',"parameters":', compact(others)[:-1])
            parts += (f'{"," if others else ""}"{_SIZE}":', Gap(SIZE, at)) if binary else ()
            parts.append("}")
        parts += ("",) if binary else (',"data":[', Gap(DATA, at), "]")
    parts.append("}]}")
    return put_together(parts)


def _write(form: _Form, message: Draft) -> Written:
    values = {Gap(ROWS): str(message.rows)}
    blobs: list[Bytes] = []
    for at, (tensor, pieces) in enumerate(zip(form.tensors, message.columns, strict=True)):
        if tensor.depth:
            values[Gap(DATA, at)] = "".join(pieces)
        else:
            values[Gap(SIZE, at)] = str(sum(map(len, pieces)))
            blobs += pieces
    its_id = message.id.decode()
    values[Gap(ID)] = its_id
    text = form.text.filled(values)
    if its_id and Gap(ID) not in form.text.gaps:
        text = f'{{"id":{its_id},{text[1:]}'
    written = text.encode()
    return Written(b"".join([written, *blobs]), ((HEADER, str(len(written))),) if form.told else ())


def _items(values: Any, datatype: str, shape: Sequence[int], separator: str) -> tuple[Items, int]:
    """The layout of JSON data, flat or nested as the shape is, and their depth. Raises Misfit."""
    nested, kinds = shape_of(values)
    if not kinds <= _KINDS.get(datatype, set()):
        raise Misfit("values of another type")
    if nested == tuple(shape):
        return Items(1, separator), len(nested)
    if nested != (math.prod(shape),):
        raise Misfit("other values than the shape has")
    return Items(math.prod(shape[1:]), separator), 1


def _shape(shape: Any) -> list[int]:
    """At least one dimension, none of them negative."""
    if len(_array(shape)) > MAX_RANK or any(type(size) is not int or size < 0 for size in shape):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    if not shape:
        raise NotShared(AloneReason.NO_BATCH_DIMENSION)
    sizes: list[int] = shape
    return sizes


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return value


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return value
