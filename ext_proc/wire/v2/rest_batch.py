"""V2 REST calls that share a batch: JSON data, the binary tensor extension, or both in one body.

A merged request says what its members say in common, and carries the text of their data. A reply is kept as it is
written, but for its id, the rows and the data.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from ext_proc.wire.batch import MAX_RANK, AloneReason, Draft, NotShared, TensorBatches, Tensors, Written, check_number
from ext_proc.wire.json_text import (
    DATA,
    ID,
    ROWS,
    SIZE,
    Gap,
    Items,
    Reader,
    Skeleton,
    Template,
    compact,
    cut_out,
    lists_in,
    put_together,
    read_text,
    shape_of,
    take_out,
    taker,
    unescaped,
    write_text,
)
from ext_proc.wire.layouts import Binary, Misfit
from ext_proc.wire.ragged import (
    Value,
    changed,
    element,
    element_text,
    resized_binary,
    resized_items,
    resized_lists,
)
from ext_proc.wire.v2.batch_parameters import check_request, check_tensor
from ext_proc.wire.v2.rest_outputs import HEADER
from ext_proc.wire.v2.tensor_layouts import raw_layout
from mesh.digits import number
from mesh.tensors.dtypes import BY_V2

_SIZE: Final = "binary_data_size"
_ROWS: Final = Gap(ROWS)
_ID: Final = Gap(ID)
_REMEMBERED: Final = 2048  # characters of a message but for its data, up to which it is remembered
_TAKEN: Final = taker("id", "data")
_FIRST: Final = re.compile(r"\[[ \t\n\r]*([0-9]+)")  # of a shape
_KINDS: Final[dict[str, set[type]]] = {
    "BOOL": {bool},
    "BYTES": {str},
    "FP32": {int, float},
    "FP64": {int, float},
    **{f"{sign}INT{bits}": {int} for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
"""Types of JSON's values by datatype. FP16 and BF16 have no JSON."""


class _Tensor(NamedTuple):
    """A tensor but for its rows and data. `depth` of lists in the JSON; 0: binary data. `tail`: the shape of a row."""

    name: str
    layout: Binary | Items
    depth: int
    datatype: str
    tail: tuple[int, ...]

    @property
    def tails(self) -> Mapping[str, tuple[int, ...]]:
        """See `Cut`."""
        return {self.name: self.tail}

    def resized(self, name: str, dim: int, size: int, value: Value, rows: int, data: Any) -> tuple[Self, Any]:
        """See `Cut`."""
        layout, dtype, tail = self.layout, BY_V2.get(self.datatype), changed(self.tail, dim, size)
        if isinstance(layout, Binary):
            one = element(layout, dtype, value)
            data = resized_binary(layout, self.tail, rows, data, dim, size, one)
            return self._replace(tail=tail, layout=replace(layout, elements=math.prod(tail))), data
        text = element_text(BY_V2[self.datatype], value)
        if self.depth > 1:
            data = resized_lists(data, self.tail, dim, size, text)
            layout = replace(layout, lists=lists_in(tail))
        else:
            data = resized_items(layout, self.tail, rows, data, dim, size, text)
            layout = replace(layout, per_row=math.prod(tail))
        return self._replace(tail=tail, layout=layout), data


class RestForm(NamedTuple):
    """A message but for its id, rows and data."""

    text: Template
    tensors: tuple[_Tensor, ...]
    told: bool  # whether HEADER says how long the JSON is
    wanted: frozenset[str]

    def with_tensor(self, place: int, tensor: _Tensor) -> Self:
        """See `Form`: the text tells the shape."""
        at = [number for number, gap in enumerate(self.text.gaps, 1) if gap.what == ROWS][place]
        texts = list(self.text.texts)
        texts[at] = "".join([f",{size}" for size in tensor.tail]) + texts[at][texts[at].index("]") :]
        tensors = (*self.tensors[:place], tensor, *self.tensors[place + 1 :])
        return self._replace(text=self.text._replace(texts=tuple(texts)), tensors=tensors)


class _Said(NamedTuple):
    """One tensor as a message tells it, but for its data."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    value: int  # which of the values that were taken out is its data; -1: they are binary
    size: int  # bytes of binary data
    members: dict[str, Any]
    tensors: Mapping[tuple[int, ...], _Tensor]  # by the shape of its data in JSON, nested or flat; or by (): binary


class _Skeleton:
    """A message but for its id and data. `id` is which of the values that were taken out it is; -1: it has none."""

    __slots__ = ("_newest", "_text", "_wanted", "id", "order", "tensors")

    def __init__(
        self, text: Template, tensors: tuple[_Said, ...], order: tuple[int, ...], id: int, wanted: frozenset[str]
    ) -> None:
        self._text = text
        self._wanted = wanted
        self._newest: RestForm | None = None
        self.tensors = tensors
        """In the order in which they are told, which is that of binary data."""
        self.order = order
        """In which the template has them."""
        self.id = id

    def form(self, tensors: tuple[_Tensor, ...], told: bool) -> RestForm:
        """That of a message that says this: the same one as a rule, so that it need not be compared by parts."""
        form = self._newest
        if form is None or form.tensors != tensors or form.told != told:
            form = self._newest = RestForm(self._text, tensors, told, self._wanted)
        return form


class V2RestBatches(TensorBatches[RestForm]):
    """See `TensorBatches`."""

    def _read_request(self, headers: Mapping[str, str], body: bytes) -> Tensors[RestForm]:
        return _read(headers, body, "inputs")

    def _read_reply(self, headers: Mapping[str, str], body: bytes) -> Tensors[RestForm]:
        return _read(headers, body, "outputs")

    def _write_request(self, form: RestForm, request: Draft) -> Written:
        return _write(form, request)

    def _write_replies(self, form: RestForm, replies: Sequence[Draft]) -> list[Written]:
        return [_write(form, reply) for reply in replies]


def _read(headers: Mapping[str, str], body: bytes, tensors: str) -> Tensors[RestForm]:
    """A message whose list of tensors has this name."""
    told = headers.get(HEADER)
    at = len(body) if told is None else number(told, 18)
    if at is None or at > len(body):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    if not at:
        raise NotShared(AloneReason.NO_SHAPE)
    # Names of a request are written anew, so it has to be text throughout.
    texts, values = take_out(body[:at].decode() if tensors == "inputs" else read_text(body[:at]), _TAKEN)
    said = (_remembered if sum(map(len, texts)) <= _REMEMBERED else _skeleton)(texts, tensors)
    found: list[_Tensor] = []
    data: list[str | memoryview] = []
    for each in said.tensors:
        if each.value >= 0:
            value = values[each.value]
            found.append(_in_json(each, value.value))
            data.append(value.text)
            continue
        if not each.tensors:
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        found.append(each.tensors[()])
        data.append(memoryview(body)[at : at + each.size])
        at += each.size
    if at != len(body):
        raise NotShared(AloneReason.MISFIT)
    its_id = values[said.id].value if said.id >= 0 else ""
    return Tensors(
        said.form(tuple([found[at] for at in said.order]), told is not None),
        write_text(unescaped(its_id)) if its_id else b"",
        said.tensors[0].shape[0],
        tuple([data[at] for at in said.order]),
    )


def _skeleton(texts: tuple[str, ...], tensors: str) -> _Skeleton:
    document = _Document(texts, tensors)
    said = document.tensors
    rows = {each.shape[0] for each in said}
    if len(rows) != 1:
        raise NotShared(AloneReason.ROWS_DIFFER if rows else AloneReason.NO_TENSORS)
    if tensors == "outputs":
        return _Skeleton(document.template(), tuple(said), tuple(range(len(said))), document.id, frozenset())
    order = sorted(range(len(said)), key=lambda at: said[at].name)
    check_request(_object(document.members.get("parameters", {})))
    wanted = []
    for output in _array(document.members.get("outputs", [])):
        wanted.append(_string(_object(output).get("name")))
        check_tensor(_object(output.get("parameters", {})))
    text = _request_text(document.members, [said[at] for at in order])
    return _Skeleton(text, tuple(said), tuple(order), document.id, frozenset(wanted))


_remembered = lru_cache(2048)(_skeleton)
"""Calls to one model say the same but for id and data, and a look-up takes a tenth of the time."""


class _Document:
    """A message without its id and its data, as it is written. `tensors` is the name of its list of tensors."""

    def __init__(self, texts: tuple[str, ...], tensors: str) -> None:
        self.members: dict[str, Any] = {}
        self.tensors: list[_Said] = []
        self.id = -1
        self._skeleton = Skeleton(texts)
        self._gaps: list[tuple[int, int, Gap]] = []
        self._used = 0
        reader = Reader(self._skeleton.text)
        for name in reader.members():
            if name == tensors:
                for place in reader.items():
                    check_number(place + 1)
                    self.tensors.append(self._tensor(reader, place))
            elif name == "id":
                self.id = int(_string(reader.value()))
                self._use(self.id, _ID)
            else:
                self.members[name] = reader.value()
        reader.end()
        if self._used != len(self._skeleton.spans):  # a member of such a name is somewhere else
            raise NotShared(AloneReason.NOT_UNDERSTOOD)

    def template(self) -> Template:
        """Its text, with gaps for what differs from message to message."""
        return cut_out(self._skeleton.text, self._gaps)

    def _use(self, value: int, gap: Gap) -> None:
        self._gaps.append((*self._skeleton.spans[value], gap))
        self._used += 1

    def _tensor(self, reader: Reader, number: int) -> _Said:
        text, value, size = reader.text, -1, -1
        members: dict[str, Any] = {}
        separator = ","
        for name in reader.members():
            start = reader.at
            if name == "parameters":
                members[name] = parameters = {}
                for key in reader.members():
                    start = reader.at
                    parameters[key] = reader.value()
                    if key == _SIZE:
                        self._gaps.append((start, reader.at, Gap(SIZE, number)))
            elif name == "data":
                (value,) = _array(reader.value())
                self._use(value, Gap(DATA, number))
                separator += text[start + 1 : self._skeleton.spans[value][0]]
            else:
                members[name] = reader.value()
                if name == "shape" and (first := _FIRST.match(text, start)):
                    self._gaps.append((*first.span(1), _ROWS))
        parameters = members.get("parameters", {})
        check_tensor(parameters)
        if (value >= 0) == (_SIZE in parameters):
            raise NotShared(AloneReason.NOT_UNDERSTOOD)
        if value < 0:
            size = parameters.pop(_SIZE)
            if type(size) is not int or size < 0:
                raise NotShared(AloneReason.NOT_UNDERSTOOD)
        name, datatype = _string(members.get("name")), _string(members.get("datatype"))
        shape = _shape(members.get("shape"))
        tensors = _tensors_in_json(name, datatype, shape, separator) if value >= 0 else _binary(name, datatype, shape)
        return _Said(name, datatype, shape, value, size, members, tensors)


def _request_text(members: Mapping[str, Any], tensors: Sequence[_Said]) -> Template:
    """What a request says, in one way for all calls that say the same."""
    parts: list[str | Gap] = ["{"]
    parts += [f"{compact(name)}:{compact(value)}," for name, value in sorted(members.items())]
    parts.append('"inputs":[{')
    for at, each in enumerate(tensors):
        parts += ("},{" if at else "", '"shape":[', _ROWS, *[f",{size}" for size in each.shape[1:]], "]")
        plain = sorted(each.members.keys() - {"shape", "parameters"})
        parts += [f",{compact(name)}:{compact(each.members[name])}" for name in plain]
        parameters = each.members.get("parameters", {})
        if each.value < 0:
            start = f"{compact(parameters)[:-1]}{',' if parameters else ''}"
            parts += (f',"parameters":{start}"{_SIZE}":', Gap(SIZE, at), "}")
        else:
            parts += (f',"parameters":{compact(parameters)}' if parameters else "", ',"data":[', Gap(DATA, at), "]")
    parts.append("}]}")
    return put_together(parts)


def _write(form: RestForm, message: Draft) -> Written:
    its_id = read_text(message.id) if message.id else ""
    columns, gaps = message.columns, form.text.gaps
    values: list[str] = []
    for what, tensor in gaps:
        if what == DATA:
            values.append("".join(columns[tensor]))
        elif what == ROWS:
            values.append(str(message.rows))
        elif what == ID:
            values.append(its_id)
        else:
            values.append(str(sum(map(len, columns[tensor]))))
    text = form.text.filled(values)
    if its_id and _ID not in gaps:
        text = f'{{"id":{its_id},{text[1:]}'
    written = write_text(text)
    blobs = [piece for at, tensor in enumerate(form.tensors) if not tensor.depth for piece in columns[at]]
    body = b"".join([written, *blobs]) if blobs else written
    return Written(body, ((HEADER, str(len(written))),)) if form.told else Written(body)


def _tensors_in_json(
    name: str, datatype: str, shape: tuple[int, ...], separator: str
) -> dict[tuple[int, ...], _Tensor]:
    """A tensor by the shape of its data: nested as it is itself, or flat."""
    tail = shape[1:]
    flat = _Tensor(name, Items(math.prod(tail), 0, separator), 1, datatype, tail)
    nested = _Tensor(name, Items(1, lists_in(tail), separator), len(shape), datatype, tail)
    return {(math.prod(shape),): flat, shape: nested}


def _binary(name: str, datatype: str, shape: tuple[int, ...]) -> dict[tuple[int, ...], _Tensor]:
    """A tensor whose data are bytes; none where these have no known layout."""
    raw = raw_layout(datatype, shape[1:])
    return {} if raw is None else {(): _Tensor(name, raw, 0, datatype, shape[1:])}


def _in_json(said: _Said, values: Any) -> _Tensor:
    """The tensor whose JSON data these are. Raises Misfit."""
    shape, kinds = shape_of(values)
    if not kinds <= _KINDS.get(said.datatype, set()):
        raise Misfit("values of another type")
    tensor = said.tensors.get(shape)
    if tensor is None:
        raise Misfit("other values than the shape has")
    return tensor


def _shape(shape: Any) -> tuple[int, ...]:
    """At least one dimension, none of them negative."""
    if len(_array(shape)) > MAX_RANK or any(type(size) is not int or size < 0 for size in shape):
        raise NotShared(AloneReason.NOT_UNDERSTOOD)
    if not shape:
        raise NotShared(AloneReason.NO_BATCH_DIMENSION)
    return tuple(shape)


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
