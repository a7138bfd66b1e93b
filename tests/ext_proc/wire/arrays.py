"""Arrays of every type that mixes know."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ext_proc.wire.call import Call, InferenceProtocol, Verb

Array = NDArray[Any]
LIMIT = 1 << 20
DTYPES = [np.dtype("<" + kind) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ARRAYS = hnp.arrays(st.sampled_from(DTYPES), SHAPES)
NAMES = st.text(min_size=1, max_size=8)

TFS_GRPC = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
TFS_REST = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "m")
V2_GRPC = Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m")
V2_REST = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")


def same(first: Array, second: Array) -> bool:
    """Equal in type, shape and every element; a NaN equals a NaN."""
    return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
