"""How the rows of a TensorProto lie, by dtype: in tensor_content, and in the typed field of the dtype.

Source: tensorflow/core/framework/{types,tensor}.proto and tensor.cc. What is not here (resources, variants, and types
whose typed field is one string) is not cut.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ext_proc.wire.layouts import Binary, Fixed, StringFields, Varints
from ext_proc.wire.protobuf.fields import FIXED32, FIXED64, LEN, VARINT
from mesh.protos import tfs_pb2 as tfs

CONTENT = 4
"""The field tensor_content."""


class TypedField(NamedTuple):
    """Where the values of a dtype are typed: the field, the wire type of a value that stands there alone, its name."""

    number: int
    wire: int


_FLOAT, _DOUBLE, _INT, _STRING = (
    TypedField(5, FIXED32),
    TypedField(6, FIXED64),
    TypedField(7, VARINT),
    TypedField(8, LEN),
)
_HALF = TypedField(13, VARINT)
_DTYPES: dict[int, tuple[int, TypedField]] = {
    tfs.DT_FLOAT: (4, _FLOAT),
    tfs.DT_DOUBLE: (8, _DOUBLE),
    tfs.DT_INT32: (4, _INT),
    tfs.DT_UINT8: (1, _INT),
    tfs.DT_INT16: (2, _INT),
    tfs.DT_INT8: (1, _INT),
    tfs.DT_STRING: (0, _STRING),
    tfs.DT_COMPLEX64: (8, TypedField(9, FIXED32)),
    tfs.DT_INT64: (8, TypedField(10, VARINT)),
    tfs.DT_BOOL: (1, TypedField(11, VARINT)),
    tfs.DT_QINT8: (1, _INT),
    tfs.DT_QUINT8: (1, _INT),
    tfs.DT_QINT32: (4, _INT),
    tfs.DT_BFLOAT16: (2, _HALF),
    tfs.DT_QINT16: (2, _INT),
    tfs.DT_QUINT16: (2, _INT),
    tfs.DT_UINT16: (2, _INT),
    tfs.DT_COMPLEX128: (16, TypedField(12, FIXED64)),
    tfs.DT_HALF: (2, _HALF),
    tfs.DT_UINT32: (4, TypedField(16, VARINT)),
    tfs.DT_UINT64: (8, TypedField(17, VARINT)),
}
"""Bytes of an element in tensor_content (0: strings, which have another form there), and the typed field."""
LAST_TYPED = 18
"""The typed fields are all those from CONTENT to this one."""


def typed_field(dtype: int) -> TypedField | None:
    """The typed field of a dtype; None for one that is not cut."""
    found = _DTYPES.get(dtype)
    return found and found[1]


def content_layout(dtype: int, tail: Sequence[int]) -> Binary | None:
    """The layout of tensor_content whose rows have the shape `tail`; None for a dtype that is not cut in it."""
    width, _ = _DTYPES.get(dtype, (0, None))
    return Fixed(math.prod(tail), width) if width else None


def typed_layout(dtype: int, tail: Sequence[int]) -> Binary | None:
    """The layout of the typed field; None for a dtype that is not cut."""
    width, field = _DTYPES.get(dtype, (0, None))
    elements = math.prod(tail)
    if field is None:
        return None
    if field.wire == LEN:
        return StringFields(elements, field.number)
    return Varints(elements) if field.wire == VARINT else Fixed(elements, width)
