"""How the rows of a V2 tensor lie, by datatype: raw bytes, and gRPC's typed contents.

Source: KServe's open inference protocol, "Tensor Data", and its gRPC service's InferTensorContents.
"""

import math
from collections.abc import Sequence

from ext_proc.wire.layouts import Binary, Fixed, Prefixed, StringFields, Varints
from ext_proc.wire.protobuf.fields import FIXED32, FIXED64, LEN, VARINT

_WIDTHS = {
    "BOOL": 1,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Bytes of an element."""

_CONTENTS = {
    "BOOL": (1, VARINT),
    "INT8": (2, VARINT),
    "INT16": (2, VARINT),
    "INT32": (2, VARINT),
    "INT64": (3, VARINT),
    "UINT8": (4, VARINT),
    "UINT16": (4, VARINT),
    "UINT32": (4, VARINT),
    "UINT64": (5, VARINT),
    "FP32": (6, FIXED32),
    "FP64": (7, FIXED64),
    "BYTES": (8, LEN),
}
"""The field of InferTensorContents, and the wire type of a value that stands there alone."""


def contents_field(datatype: str) -> tuple[int, int] | None:
    """Where a datatype travels in typed contents: see `_CONTENTS`. None: raw only, or unknown."""
    return _CONTENTS.get(datatype)


def raw_layout(datatype: str, tail: Sequence[int]) -> Binary | None:
    """The layout of raw bytes whose rows have the shape `tail`; None for an unknown datatype."""
    elements = math.prod(tail)
    if datatype == "BYTES":
        return Prefixed(elements)
    width = _WIDTHS.get(datatype)
    return None if width is None else Fixed(elements, width)


def typed_layout(datatype: str, tail: Sequence[int]) -> Binary | None:
    """The layout of typed contents whose rows have the shape `tail`; None where there are none of the datatype."""
    number, wire = _CONTENTS.get(datatype, (0, 0))
    elements = math.prod(tail)
    if not number:
        return None
    if wire == LEN:
        return StringFields(elements, number)
    return Varints(elements) if wire == VARINT else Fixed(elements, _WIDTHS[datatype])
