"""V2 gRPC calls that share a batch: ModelInferRequest and ModelInferResponse in rows.

Both tell their tensors alike, with the data as raw bytes beside them or as typed contents within. They are written
with their fields in the order of their numbers, as every protobuf library does, unknown ones last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import NamedTuple, Self

from ext_proc.wire.batch import MAX_RANK, AloneReason, Draft, NotShared, TensorBatches, Tensors, Written, check_number
from ext_proc.wire.layouts import Binary, Bytes
from ext_proc.wire.names import decode
from ext_proc.wire.protobuf.fields import LEN, MAX_FIELDS, VARINT, Pieces, len_field, varint
from ext_proc.wire.protobuf.spans import (
    Span,
    content,
    grouped,
    integers,
    joined,
    packed,
    rest,
    run,
    spans,
    tag_of,
    take,
    take_one,
)
from ext_proc.wire.ragged import Value, changed, element, resized_binary
from ext_proc.wire.v2.batch_parameters import check_request, check_tensor
from ext_proc.wire.v2.tensor_layouts import contents_field, raw_layout, typed_layout
from mesh.tensors.dtypes import BY_V2

MAX_REPLY_FIELDS = 1 << 20  # strings of one output; each takes about half a microsecond
_REMEMBERED = 1024  # bytes of a message without id and data, up to which it is remembered

_NAME, _VERSION, _ID, _PARAMETERS, _TENSORS = range(1, 6)  # fields of both messages
_REQUESTED, _RAW_INPUT, _RAW_OUTPUT = 6, 7, 6
_TENSOR_NAME, _DATATYPE, _SHAPE, _TENSOR_PARAMETERS, _CONTENTS = range(1, 6)  # of inputs and outputs
_OUTPUT_NAME, _OUTPUT_PARAMETERS = 1, 2  # of a requested output
_KEY = 1  # of a map's entry


class _Tensor(NamedTuple):
    """A tensor but for its rows and data: its fields before its shape, and those after it but for contents."""

    name: str
    tail: tuple[int, ...]  # its shape but for the rows
    layout: Binary
    contents: tuple[int, int]  # number and wire type of its typed values; 0: raw
    start: bytes
    parameters: bytes
    unknown: bytes

    def head(self, rows: int) -> bytes:
        """Its fields before its contents, for so many rows."""
        shape = b"".join(map(varint, (rows, *self.tail)))
        return b"".join((self.start, len_field(_SHAPE, shape), self.parameters))

    @property
    def datatype(self) -> str:
        """As the message tells it."""
        return content(self.start, take_one(grouped(self.start, 0, len(self.start)), _DATATYPE)).decode("latin-1")

    @property
    def tails(self) -> Mapping[str, tuple[int, ...]]:
        """See `Cut`."""
        return {self.name: self.tail}

    def resized(self, name: str, dim: int, size: int, value: Value, rows: int, data: Bytes) -> tuple[Self, Bytes]:
        """See `Cut`."""
        one = element(self.layout, BY_V2.get(self.datatype), value)
        data = resized_binary(self.layout, self.tail, rows, data, dim, size, one)
        tail = changed(self.tail, dim, size)
        return self._replace(tail=tail, layout=replace(self.layout, elements=prod(tail))), data

    def with_contents(self, head: bytes, pieces: Pieces) -> Pieces:
        """The field of a message that it is, with these typed values."""
        number, wire = self.contents
        size = sum(map(len, pieces))
        if not size:
            return [len_field(_TENSORS, head + self.unknown)]
        if wire != LEN:
            start = varint(tag_of(number)) + varint(size)
            size += len(start)
            pieces = [start, *pieces]
        start = head + varint(tag_of(_CONTENTS)) + varint(size)
        size += len(start) + len(self.unknown)
        return [varint(tag_of(_TENSORS)) + varint(size), start, *pieces, self.unknown]


class GrpcForm(NamedTuple):
    """A message but for its id, rows and data."""

    start: bytes  # its fields before the id
    parameters: bytes
    tensors: tuple[_Tensor, ...]
    requested: bytes
    raw: int  # the field of raw data; 0: contents are typed
    unknown: bytes
    wanted: frozenset[str]

    @property
    def model(self) -> tuple[str, str]:
        """The model and its version, as a reply tells them."""
        fields = grouped(self.start, 0, len(self.start))
        name, version = (content(self.start, take_one(fields, number)) for number in (_NAME, _VERSION))
        return decode(name), decode(version, "version")

    def with_tensor(self, place: int, tensor: _Tensor) -> Self:
        """See `Form`."""
        return self._replace(tensors=(*self.tensors[:place], tensor, *self.tensors[place + 1 :]))


class V2GrpcBatches(TensorBatches[GrpcForm]):
    """See `TensorBatches`."""

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[GrpcForm]:
        return _read(body, _RAW_INPUT, MAX_FIELDS)

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[GrpcForm]:
        return _read(body, _RAW_OUTPUT, MAX_REPLY_FIELDS)

    def _write_request(self, form: GrpcForm, request: Draft) -> Written:
        return Written(_write(form, request, _heads(form, request.rows)))

    def _write_replies(self, form: GrpcForm, replies: Sequence[Draft]) -> list[Written]:
        heads = {rows: _heads(form, rows) for rows in {reply.rows for reply in replies}}
        return [Written(_write(form, reply, heads[reply.rows])) for reply in replies]


class _Told(NamedTuple):
    """A tensor as a message tells it, and its place in the message's list."""

    tensor: _Tensor
    rows: int
    place: int


def _read(body: bytes, raw: int, limit: int) -> Tensors[GrpcForm]:
    """A message whose raw data are in this field."""
    fields = grouped(body, 0, len(body))
    its_id = content(body, take_one(fields, _ID))
    raws, contents = take(fields, raw), []
    said: list[bytes] = []
    check_number(len(fields.get(tag_of(_TENSORS), ())))
    if not raws:
        for _, _, at, end in take(fields, _TENSORS):
            inner = grouped(body, at, end)
            contents.append(take_one(inner, _CONTENTS))
            said.append(len_field(_TENSORS, rest(body, inner)))
    what = b"".join([rest(body, fields), *said])
    form, told = (_remembered if len(what) <= _REMEMBERED else _parse)(what, raw, not raws)
    if raws and len(raws) != len(told):
        raise NotShared(AloneReason.MISFIT)
    view = memoryview(body)
    columns = [
        view[raws[each.place][2] : raws[each.place][3]]
        if raws
        else _values(body, contents[each.place], each.tensor, limit)
        for each in told
    ]
    return Tensors(form, its_id, told[0].rows, tuple(columns))


def _parse(data: bytes, raw: int, typed: bool) -> tuple[GrpcForm, tuple[_Told, ...]]:
    """The form of a message without its id and data, and its tensors in the order of the form."""
    fields = grouped(data, 0, len(data))
    start = joined(data, [*take_one(fields, _NAME), *take_one(fields, _VERSION)])
    parameters = take(fields, _PARAMETERS)
    check_request(_keys(data, parameters))
    told = [
        _tensor(data, grouped(data, first, end), typed, place)
        for place, (_, _, first, end) in enumerate(take(fields, _TENSORS))
    ]
    if not told:
        raise NotShared(AloneReason.NO_TENSORS)
    if any(each.rows != told[0].rows for each in told):
        raise NotShared(AloneReason.ROWS_DIFFER)
    requested: Sequence[Span] = ()
    if raw == _RAW_INPUT:
        requested = take(fields, _REQUESTED)
        told.sort(key=lambda each: each.tensor.name)  # clients may have them in any order
    form = GrpcForm(
        start,
        joined(data, parameters),
        tuple([each.tensor for each in told]),
        joined(data, requested),
        0 if typed else raw,
        rest(data, fields),
        frozenset([_requested(data[span[2] : span[3]]) for span in requested]),
    )
    return form, tuple(told)


def read_reply(message: bytes) -> Tensors[GrpcForm]:
    """Raises NotShared, CallError and ValueError."""
    return _read(message, _RAW_OUTPUT, MAX_REPLY_FIELDS)


def form_of(message: bytes) -> GrpcForm:
    """The form of a request without id and data, whose data are raw. Raises NotShared."""
    return _parse(message, _RAW_INPUT, False)[0]


_remembered = lru_cache(2048)(_parse)
"""Calls to one model say the same but for id and data, and a look-up takes a tenth of the time."""


def _tensor(data: bytes, fields: dict[int, list[Span]], typed: bool, place: int) -> _Told:
    if tag_of(_CONTENTS) in fields:  # beside raw data
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    name, datatype = take_one(fields, _TENSOR_NAME), take_one(fields, _DATATYPE)
    parameters = take(fields, _TENSOR_PARAMETERS)
    check_tensor(_keys(data, parameters))
    rows, *tail = _shape(data, fields)
    kind = content(data, datatype).decode("latin-1")
    layout = typed_layout(kind, tail) if typed else raw_layout(kind, tail)
    field = contents_field(kind) if typed else (0, 0)
    if layout is None or field is None:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    tensor = _Tensor(
        decode(content(data, name), "name of a tensor"),
        tuple(tail),
        layout,
        field,
        joined(data, [*name, *datatype]),
        joined(data, parameters),
        rest(data, fields),
    )
    return _Told(tensor, rows, place)


def _values(data: bytes, contents: Sequence[Span], tensor: _Tensor, limit: int) -> memoryview:
    """The typed values of a tensor."""
    number, wire = tensor.contents
    inside = grouped(data, contents[0][2], contents[0][3], limit) if contents else {}
    values = take(inside, number, wire)
    if inside:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return run(data, values) if wire == LEN else packed(data, values)


def _shape(data: bytes, fields: dict[int, list[Span]]) -> list[int]:
    """At least one dimension, none of them negative."""
    shape: list[int] = []
    for span in take(fields, _SHAPE, VARINT):
        shape += integers(data, span[2], span[3], MAX_RANK)
    if not shape:
        raise NotShared(AloneReason.NO_BATCH_DIMENSION)
    if len(shape) > MAX_RANK or min(shape) < 0:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return shape


def _requested(data: bytes) -> str:
    """The name of a requested output. Raises NotShared if it is asked for in a way that has no rows."""
    fields = grouped(data, 0, len(data))
    check_tensor(_keys(data, take(fields, _OUTPUT_PARAMETERS)))
    return decode(content(data, take_one(fields, _OUTPUT_NAME)), "name of an output")


def _keys(data: bytes, entries: Sequence[Span]) -> list[str]:
    """The keys of a map."""
    return [
        data[span[2] : span[3]].decode("latin-1")
        for _, _, first, end in entries
        for span in spans(data, first, end)
        if span[0] == tag_of(_KEY)
    ]


def _heads(form: GrpcForm, rows: int) -> list[bytes]:
    """Each tensor for so many rows; complete, if it has no contents."""
    if not form.raw:
        return [tensor.head(rows) for tensor in form.tensors]
    return [len_field(_TENSORS, tensor.head(rows) + tensor.unknown) for tensor in form.tensors]


def _write(form: GrpcForm, message: Draft, heads: Sequence[bytes]) -> bytes:
    out: list[Bytes] = [form.start]
    if message.id:
        out.append(len_field(_ID, message.id))
    out.append(form.parameters)
    if form.raw:
        out += heads
        out.append(form.requested)
        for pieces in message.columns:
            out.append(varint(tag_of(form.raw)) + varint(sum(map(len, pieces))))
            out += pieces
    else:
        for tensor, head, pieces in zip(form.tensors, heads, message.columns, strict=True):
            out += tensor.with_contents(head, pieces)
        out.append(form.requested)
    out.append(form.unknown)
    return b"".join(out)
