"""TF Serving's gRPC calls that share a batch: PredictRequest and PredictResponse in rows.

Both are maps of TensorProtos beside a few other fields. They are written with their fields in the order of their
numbers, as every protobuf library does, unknown ones last, and no values change the field that they came in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import NamedTuple, Self, cast

from ext_proc.wire.batch import (
    MAX_RANK,
    AloneReason,
    Draft,
    NotShared,
    TensorBatches,
    Tensors,
    Written,
    check_number,
)
from ext_proc.wire.forms import names_of
from ext_proc.wire.layouts import Binary, Bytes, StringFields
from ext_proc.wire.names import decode
from ext_proc.wire.protobuf.fields import FIXED32, LEN, MAX_FIELDS, VARINT, len_field, varint, varint_field
from ext_proc.wire.protobuf.spans import (
    Span,
    content,
    grouped,
    integer,
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
from ext_proc.wire.tfs.tensor_layouts import CONTENT, LAST_TYPED, content_layout, typed_field, typed_layout
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors.dtypes import BY_TF

MAX_REPLY_FIELDS = 1 << 20  # strings of one output; each takes about half a microsecond
MAX_FILL = 65_536
"""Bytes that a short list of values is lengthened by at most, so that few bytes cannot become many."""

_MODEL_SPEC, _INPUTS, _OUTPUT_FILTER = 1, 2, 3  # fields of a PredictRequest
_OUTPUTS = 1  # of a PredictResponse
_REMEMBERED = 512  # bytes of a tensor without its data, up to which it is remembered
_KEY, _VALUE = 1, 2  # of a map's entry
_DTYPE, _SHAPE, _VERSION_NUMBER = 1, 2, 3  # of a TensorProto
_DIM, _SIZE = 2, 1  # of a TensorShapeProto, and of one of its dimensions


class _Tensor(NamedTuple):
    """A tensor but for its rows and data: its entry's key, and its fields before the shape, before the data, after."""

    name: str
    tail: tuple[int, ...]  # its shape but for the rows
    layout: Binary
    data: int  # the field of its data
    wire: int  # the wire type of a value that stands there alone; LEN: of strings
    key: bytes
    dtype: bytes
    version: bytes
    unknown: bytes

    def head(self, rows: int) -> bytes:
        """Its fields before the data, for so many rows."""
        dims = [len_field(_DIM, varint_field(_SIZE, size) if size else b"") for size in (rows, *self.tail)]
        return b"".join((self.dtype, len_field(_SHAPE, b"".join(dims)), self.version))

    @property
    def tails(self) -> Mapping[str, tuple[int, ...]]:
        """See `Cut`."""
        return {self.name: self.tail}

    def resized(self, name: str, dim: int, size: int, value: Value, rows: int, data: Bytes) -> tuple[Self, Bytes]:
        """See `Cut`."""
        dtype = BY_TF.get(cast(tfs.DataType, integer(self.dtype, spans(self.dtype, 0, len(self.dtype))[0])))
        one = element(self.layout, dtype, value)
        data = resized_binary(self.layout, self.tail, rows, data, dim, size, one)
        tail = changed(self.tail, dim, size)
        return self._replace(tail=tail, layout=replace(self.layout, elements=prod(tail))), data


class _Form(NamedTuple):
    """A message but for its rows and data: the field of its tensors, and what goes before and after them."""

    number: int
    before: bytes
    tensors: tuple[_Tensor, ...]
    after: bytes
    wanted: frozenset[str]

    def with_tensor(self, place: int, tensor: _Tensor) -> Self:
        """See `Form`."""
        return self._replace(tensors=(*self.tensors[:place], tensor, *self.tensors[place + 1 :]))


class TfsGrpcBatches(TensorBatches[_Form]):
    """See `TensorBatches`."""

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        fields = grouped(body, 0, len(body))
        spec = joined(body, take_one(fields, _MODEL_SPEC))
        filtered = fields.get(tag_of(_OUTPUT_FILTER), ())
        wanted = [decode(body[span[2] : span[3]], "name of an output") for span in filtered]
        rows, found = _tensors(body, fields, _INPUTS, MAX_FIELDS)
        # A map has no order, and each client's library writes it in its own.
        found.sort(key=lambda one: one[0].name)
        filled = tuple([_filled(tensor, rows, data) for tensor, data in found])
        tensors = tuple([tensor for tensor, _ in found])
        return Tensors(_Form(_INPUTS, spec, tensors, rest(body, fields), frozenset(wanted)), b"", rows, filled)

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[_Form]:
        fields = grouped(body, 0, len(body))
        rows, found = _tensors(body, fields, _OUTPUTS, MAX_REPLY_FIELDS)
        tensors = tuple([tensor for tensor, _ in found])
        form = _Form(_OUTPUTS, b"", tensors, rest(body, fields), frozenset())
        return Tensors(form, b"", rows, tuple([data for _, data in found]))

    def _reply_like(self, first: Tensors[_Form], other: Tensors[_Form]) -> Tensors[_Form]:
        names = names_of(first.form)
        by_name = dict(zip(names_of(other.form), zip(other.form.tensors, other.columns, strict=True), strict=True))
        if by_name.keys() != set(names):
            return other
        tensors, columns = zip(*[by_name[name] for name in names], strict=True)
        return Tensors(other.form._replace(tensors=tensors), other.id, other.rows, columns)

    def _write_request(self, form: _Form, request: Draft) -> Written:
        return _write(form, request, _heads(form, request.rows))

    def _write_replies(self, form: _Form, replies: Sequence[Draft]) -> list[Written]:
        heads = {rows: _heads(form, rows) for rows in {reply.rows for reply in replies}}
        return [_write(form, reply, heads[reply.rows]) for reply in replies]


def _tensors(
    body: bytes, fields: dict[int, list[Span]], number: int, limit: int
) -> tuple[int, list[tuple[_Tensor, memoryview]]]:
    """The tensors of this field, taken out of the message, and the rows that all of them have."""
    found: dict[str, tuple[_Tensor, memoryview]] = {}
    sizes = set()
    entries = take(fields, number)
    check_number(len(entries))
    for _, _, at, end in entries:
        entry = grouped(body, at, end)
        key, value = take_one(entry, _KEY), take_one(entry, _VALUE)
        if entry or not value:
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        rows, tensor, data = _tensor(body, joined(body, key), spans(body, value[0][2], value[0][3], limit))
        sizes.add(rows)
        found[tensor.name] = tensor, data
    if not found:
        raise NotShared(AloneReason.NO_TENSORS)
    if len(found) < len(entries):  # the last one of a name would count
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    if len(sizes) > 1:
        raise NotShared(AloneReason.ROWS_DIFFER)
    return rows, list(found.values())


def _tensor(body: bytes, key: bytes, fields: Sequence[Span]) -> tuple[int, _Tensor, memoryview]:
    """A tensor, its rows and its data; `key` is the field of its name."""
    said: list[Span] = []
    values: list[Span] = []
    for span in fields:
        (values if CONTENT <= span[0] >> 3 <= LAST_TYPED else said).append(span)
    number = values[0][0] >> 3 if values else 0
    head = joined(body, said)
    rows, tensor = (_remembered if len(key) + len(head) <= _REMEMBERED else _head)(key, head, number)
    tags = (tag_of(tensor.data), tag_of(tensor.data, tensor.wire))
    if any(span[0] not in tags for span in values) or (number == CONTENT and len(values) > 1):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return rows, tensor, run(body, values) if tensor.wire == LEN else packed(body, values)


def _head(key: bytes, head: bytes, number: int) -> tuple[int, _Tensor]:
    """A tensor without its data, which are in this field, and its rows; 0: it has none, and its values are typed."""
    fields = grouped(head, 0, len(head))
    of_type = take_one(fields, _DTYPE, VARINT)
    dtype = integer(head, of_type[0]) if of_type else 0
    rows, tail = _shape(content(head, take_one(fields, _SHAPE)))
    typed = typed_field(dtype)
    layout = content_layout(dtype, tail) if number == CONTENT else typed_layout(dtype, tail)
    if layout is None or typed is None or number not in (0, CONTENT, typed.number):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    version = take_one(fields, _VERSION_NUMBER, VARINT)
    tensor = _Tensor(
        decode(content(key, spans(key, 0, len(key))), "name of a tensor"),
        tail,
        layout,
        number or typed.number,
        FIXED32 if number == CONTENT else typed.wire,
        key,
        joined(head, of_type),
        joined(head, version),
        rest(head, fields),
    )
    return rows, tensor


_remembered = lru_cache(2048)(_head)
"""Calls to one model say the same but for their data, and a look-up takes a tenth of the time."""


def _shape(shape: bytes) -> tuple[int, tuple[int, ...]]:
    """Rows, and the shape of one, out of a TensorShapeProto."""
    sizes = []
    for tag, _, at, end in spans(shape, 0, len(shape), MAX_RANK):
        if tag != tag_of(_DIM):  # unknown_rank
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        dim = grouped(shape, at, end)
        size = take_one(dim, _SIZE, VARINT)
        if dim:  # a name
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        sizes.append(integer(shape, size[0]) if size else 0)
    if not sizes:
        raise NotShared(AloneReason.NO_BATCH_DIMENSION)
    if min(sizes) < 0:
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    return sizes[0], tuple(sizes[1:])


def _filled(tensor: _Tensor, rows: int, data: memoryview) -> memoryview:
    """Typed values of which the last one is repeated, where there are fewer than elements, as TensorFlow does."""
    layout = tensor.layout
    if tensor.data == CONTENT:
        return data
    wanted = rows * layout.elements
    missing = wanted - layout.count(data, wanted)
    if missing <= 0:
        return data
    ends = layout.ends(data, wanted)
    last = bytes(data[ends[-2] if len(ends) > 1 else 0 :]) or layout.zero()
    if missing * len(last) > MAX_FILL:
        raise NotShared(AloneReason.TOO_MANY)
    return memoryview(b"".join((data, last * missing)))


def _heads(form: _Form, rows: int) -> list[bytes]:
    return [tensor.head(rows) for tensor in form.tensors]


def _write(form: _Form, message: Draft, heads: Sequence[bytes]) -> Written:
    out: list[Bytes] = [form.before]
    for tensor, head, pieces in zip(form.tensors, heads, message.columns, strict=True):
        size = sum(map(len, pieces))
        start = head
        if size and not isinstance(tensor.layout, StringFields):
            start += varint(tag_of(tensor.data)) + varint(size)
        value = varint(tag_of(_VALUE)) + varint(len(start) + size + len(tensor.unknown)) + start
        entry = len(tensor.key) + len(value) + size + len(tensor.unknown)
        out += (varint(tag_of(form.number)) + varint(entry) + tensor.key + value, *pieces, tensor.unknown)
    out.append(form.after)
    return Written(b"".join(out))
