"""V2 gRPC calls that share a batch: ModelInferRequest and ModelInferResponse in rows.

Both tell their tensors alike, with the data as raw bytes beside them or as typed contents within. They are written
with their fields in the order of their numbers, as every protobuf library does, unknown ones last.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ext_proc.wire.batch import MAX_RANK, AloneReason, Draft, NotShared, TensorBatches, Tensors, Written
from ext_proc.wire.layouts import AnyLayout, Bytes
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
from ext_proc.wire.v2.batch_parameters import check_request, check_tensor
from ext_proc.wire.v2.tensor_layouts import contents_field, raw_layout, typed_layout

MAX_REPLY_FIELDS = 1 << 20  # strings of one output; each takes about half a microsecond
_REMEMBERED = 512  # bytes of a tensor without contents, up to which it is remembered

_NAME, _VERSION, _ID, _PARAMETERS, _TENSORS = range(1, 6)  # fields of both messages
_REQUESTED, _RAW_INPUT, _RAW_OUTPUT = 6, 7, 6
_TENSOR_NAME, _DATATYPE, _SHAPE, _TENSOR_PARAMETERS, _CONTENTS = range(1, 6)  # of inputs and outputs
_OUTPUT_NAME, _OUTPUT_PARAMETERS = 1, 2  # of a requested output
_KEY = 1  # of a map's entry


class _Tensor(NamedTuple):
    """A tensor but for its rows and data: its fields before its shape, and those after it but for contents."""

    name: str
    tail: tuple[int, ...]  # its shape but for the rows
    layout: AnyLayout
    contents: tuple[int, int]  # number and wire type of its typed values; 0: raw
    start: bytes
    parameters: bytes
    unknown: bytes

    def head(self, rows: int) -> bytes:
        """Its fields before its contents, for so many rows."""
        shape = b"".join(map(varint, (rows, *self.tail)))
        return b"".join((self.start, len_field(_SHAPE, shape), self.parameters))

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


class _Form(NamedTuple):
    """A message but for its id, rows and data."""

    start: bytes  # its fields before the id
    parameters: bytes
    tensors: tuple[_Tensor, ...]
    requested: bytes
    raw: int  # the field of raw data; 0: contents are typed
    unknown: bytes
    wanted: frozenset[str]

    @property
    def layouts(self) -> tuple[AnyLayout, ...]:
        """See `Form`."""
        return tuple([tensor.layout for tensor in self.tensors])

    @property
    def names(self) -> tuple[str, ...]:
        """See `Form`."""
        return tuple([tensor.name for tensor in self.tensors])


class V2GrpcBatches(TensorBatches):
    """See `TensorBatches`."""

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors:
        return _read(body, _RAW_INPUT, MAX_FIELDS)

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors:
        return _read(body, _RAW_OUTPUT, MAX_REPLY_FIELDS)

    def _write_request(self, form: _Form, request: Draft) -> Written:
        return Written(_write(form, request, _heads(form, request.rows)))

    def _write_replies(self, form: _Form, replies: Sequence[Draft]) -> list[Written]:
        heads = {rows: _heads(form, rows) for rows in {reply.rows for reply in replies}}
        return [Written(_write(form, reply, heads[reply.rows])) for reply in replies]


def _read(body: bytes, raw: int, limit: int) -> Tensors:
    fields = grouped(body, 0, len(body))
    start = joined(body, [*take_one(fields, _NAME), *take_one(fields, _VERSION)])
    its_id = content(body, take_one(fields, _ID))
    parameters = fields.pop(tag_of(_PARAMETERS), ())
    if parameters:
        check_request(_keys(body, parameters))
    raws = fields.pop(tag_of(raw), ())
    requested = fields.pop(tag_of(_REQUESTED), ())
    view = memoryview(body)
    found: list[tuple[_Tensor, int, Bytes]] = []
    for at, (_, _, first, end) in enumerate(fields.pop(tag_of(_TENSORS), ())):
        if raws:
            tensor, rows = (_remembered if end - first <= _REMEMBERED else _raw)(body[first:end])
            found.append((tensor, rows, view[raws[at][2] : raws[at][3]] if at < len(raws) else b""))
        else:
            found.append(_typed(body, first, end, limit))
    if not found:
        raise NotShared(AloneReason.NO_TENSORS)
    if raws and len(raws) != len(found):
        raise NotShared(AloneReason.MISFIT)
    if any(rows != found[0][1] for _, rows, _ in found):
        raise NotShared(AloneReason.ROWS_DIFFER)
    if raw == _RAW_INPUT and len(found) > 1:  # clients may name them in any order
        found.sort(key=lambda one: one[0].name)
    form = _Form(
        start,
        joined(body, parameters),
        tuple([tensor for tensor, _, _ in found]),
        joined(body, requested),
        raw if raws else 0,
        rest(body, fields),
        frozenset([_requested(body[span[2] : span[3]]) for span in requested]),
    )
    return Tensors(form, its_id, found[0][1], tuple([data for _, _, data in found]))


def _raw(data: bytes) -> tuple[_Tensor, int]:
    """A tensor without contents, and its rows."""
    fields = grouped(data, 0, len(data))
    if tag_of(_CONTENTS) in fields:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return _tensor(data, fields, typed=False)


_remembered = lru_cache(1024)(_raw)
"""Calls to one model say the same of their tensors, and a look-up takes a tenth of the time."""


def _typed(data: bytes, at: int, end: int, limit: int) -> tuple[_Tensor, int, Bytes]:
    """A tensor with contents, its rows and its data."""
    fields = grouped(data, at, end)
    contents = take_one(fields, _CONTENTS)
    tensor, rows = _tensor(data, fields, typed=True)
    inside = grouped(data, contents[0][2], contents[0][3], limit) if contents else {}
    values = take(inside, *tensor.contents)
    if inside:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return tensor, rows, run(data, values) if tensor.contents[1] == LEN else packed(data, values)


def _tensor(data: bytes, fields: dict[int, list[Span]], typed: bool) -> tuple[_Tensor, int]:
    name, datatype = take_one(fields, _TENSOR_NAME), take_one(fields, _DATATYPE)
    parameters = fields.pop(tag_of(_TENSOR_PARAMETERS), ())
    if parameters:
        check_tensor(_keys(data, parameters))
    rows, *tail = _shape(data, fields)
    kind = content(data, datatype).decode("latin-1")
    layout = typed_layout(kind, tail) if typed else raw_layout(kind, tail)
    contents = contents_field(kind) if typed else (0, 0)
    if layout is None or contents is None:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    tensor = _Tensor(
        decode(content(data, name), "name of a tensor"),
        tuple(tail),
        layout,
        contents,
        joined(data, [*name, *datatype]),
        joined(data, parameters),
        rest(data, fields),
    )
    return tensor, rows


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
    check_tensor(_keys(data, fields.get(tag_of(_OUTPUT_PARAMETERS), ())))
    return decode(content(data, take_one(fields, _OUTPUT_NAME)), "name of an output")


def _keys(data: bytes, entries: Sequence[Span]) -> list[str]:
    """The keys of a map."""
    return [
        data[span[2] : span[3]].decode("latin-1")
        for _, _, first, end in entries
        for span in spans(data, first, end)
        if span[0] == tag_of(_KEY)
    ]


def _heads(form: _Form, rows: int) -> list[bytes]:
    """Each tensor for so many rows; complete, if it has no contents."""
    if not form.raw:
        return [tensor.head(rows) for tensor in form.tensors]
    return [len_field(_TENSORS, tensor.head(rows) + tensor.unknown) for tensor in form.tensors]


def _write(form: _Form, message: Draft, heads: Sequence[bytes]) -> bytes:
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
