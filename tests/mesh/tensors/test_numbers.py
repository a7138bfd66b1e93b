"""Numbers by parts are the same numbers."""

import numpy as np
import pytest

from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import numbers
from mesh.tensors.numbers import extend, from_numbers


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_in_parts_as_in_one(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "_PART", 3)
    given = tfs.TensorProto(double_val=[n + 0.5 for n in range(count)])
    array = from_numbers(given.double_val, np.float64)
    assert array.tolist() == list(given.double_val)
    back = tfs.TensorProto()
    extend(back.double_val, array.reshape(1, -1))
    assert back == given
    assert from_numbers(given.double_val, np.float64, 5).tolist() == list(given.double_val)[:5]


def test_the_ends_of_the_types() -> None:
    assert from_numbers([1, 2**64 - 1], np.uint64).tolist() == [1, 2**64 - 1]
    with pytest.raises(OverflowError):
        from_numbers([1, 2**64], np.uint64)
    with pytest.raises(OverflowError):
        from_numbers([-1], np.uint64)
