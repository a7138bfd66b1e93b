from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from mesh.model_server.v2.inference import bad_data
from mesh.tensors import v2 as v2_tensors
from mesh.tensors.dtypes import BY_NUMPY, BY_V2, DTYPES, FLOAT, STRING
from tests.mesh.tensors.test_tf import arrays


@given(arrays())
def test_raw_bytes_come_back(array: Any) -> None:
    dtype = BY_NUMPY[array.dtype]
    np.testing.assert_array_equal(v2_tensors.from_raw(v2_tensors.to_raw(array), dtype, array.shape), array)


@given(st.lists(st.binary(max_size=9), min_size=1))
def test_strings_are_laid_out_as_triton_clients_do(texts: list[bytes]) -> None:
    array = np.array([*texts, b""], object)[:-1]
    raw = v2_tensors.to_raw(array)
    assert raw == serialize_byte_tensor(array).item()
    assert deserialize_bytes_tensor(raw).tolist() == texts


@given(st.binary(max_size=40), st.sampled_from(DTYPES), st.lists(st.integers(0, 2**62), max_size=4))
def test_any_bytes_are_an_array_or_refused(data: bytes, dtype: Any, shape: list[int]) -> None:
    try:
        array = v2_tensors.from_raw(data, dtype, shape)
    except v2_tensors.DataError as error:
        assert bad_data("m", "", "x", error).message  # noqa: PT017
    else:
        assert array.shape == tuple(shape)


def test_typed_values() -> None:
    assert v2_tensors.from_values([1, -1, 300], BY_V2["INT8"], (3,)).tolist() == [1, -1, 44]
    assert v2_tensors.from_values([2**64 - 1], BY_V2["UINT64"], (1,)).tolist() == [2**64 - 1]
    assert v2_tensors.from_values([b"a"], STRING, (1, 1)).tolist() == [[b"a"]]
    with pytest.raises(v2_tensors.DataError, match="Expected 8, got 4"):
        v2_tensors.from_values([1.0], FLOAT, (2,))


def test_a_shape_that_no_array_has_is_refused() -> None:
    with pytest.raises(v2_tensors.DataError, match="not that of an array"):
        v2_tensors.from_raw(b"", FLOAT, (0, 1 << 62, 1 << 62))
    with pytest.raises(v2_tensors.DataError, match="not that of an array"):
        v2_tensors.from_raw(b"1234", FLOAT, (1,) * 100)
