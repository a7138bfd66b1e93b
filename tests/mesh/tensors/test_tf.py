import json
import subprocess
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from integration.peers.tf_client import PYTHON, missing
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import DTYPES, FLOAT, HALF, STRING, DType, TensorSpec


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    dtype: DType = draw(st.sampled_from(DTYPES))
    shape = draw(st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if dtype is not STRING:
        return draw(st_numpy.arrays(dtype.numpy, shape))
    array = np.empty(shape, STRING.numpy)
    for index in np.ndindex(*shape):
        array[index] = draw(st.binary(max_size=5))
    return array


@given(arrays())
def test_what_is_encoded_is_decoded(array: Any) -> None:
    proto = tfs.TensorProto.FromString(tf_tensors.encode(array).SerializeToString())
    back = tf_tensors.decode(proto)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(arrays())
def test_tensor_content_is_decoded(array: Any) -> None:
    proto = tf_tensors.encode(array)
    if array.dtype != object:
        proto.tensor_content = array.tobytes()
    np.testing.assert_array_equal(tf_tensors.decode(proto), array)


def proto(**fields: Any) -> tfs.TensorProto:
    shape = fields.pop("shape", ())
    made = tfs.TensorProto(dtype=fields.pop("dtype", tfs.DT_FLOAT), **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def test_few_values_are_filled_up() -> None:
    assert tf_tensors.decode(proto(shape=[3], float_val=[1, 2])).tolist() == [1, 2, 2]
    assert tf_tensors.decode(proto(shape=[2])).tolist() == [0, 0]
    assert tf_tensors.decode(proto(shape=[2], dtype=tfs.DT_STRING)).tolist() == [b"", b""]
    assert tf_tensors.decode(proto(shape=[1], float_val=[1, 2])).tolist() == [1]
    assert tf_tensors.decode(proto(float_val=[5])).tolist() == 5


@pytest.mark.parametrize(
    "bad",
    [
        proto(shape=[2], tensor_content=b"1234"),
        proto(shape=[-1]),
        proto(shape=[2], dtype=tfs.DT_VARIANT),
        proto(shape=[2], dtype=tfs.DT_BFLOAT16),
        proto(shape=[1 << 40]),
        proto(shape=[1 << 40, 1 << 40], float_val=[1]),
        proto(shape=[0, 1 << 62, 1 << 62]),
        tfs.TensorProto(dtype=tfs.DT_FLOAT, tensor_shape=tfs.TensorShapeProto(unknown_rank=True)),
        tfs.TensorProto(),
    ],
)
def test_what_is_no_tensor_is_refused(bad: tfs.TensorProto) -> None:
    with pytest.raises(tf_tensors.TensorError):
        tf_tensors.decode(bad)


def test_narrow_integers_wrap() -> None:
    assert tf_tensors.decode(proto(shape=[2], dtype=tfs.DT_UINT8, int_val=[-1, 256])).tolist() == [255, 0]


def test_halves_travel_as_bits() -> None:
    assert tf_tensors.encode(np.array([1.0], np.float16)).half_val == [0x3C00]
    assert tf_tensors.decode(proto(shape=[1], dtype=HALF.tf, half_val=[0x3C00])).tolist() == [1.0]


def test_info() -> None:
    info = tf_tensors.info(TensorSpec("x", FLOAT, (-1, 4)))
    assert (info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim]) == ("x:0", tfs.DT_FLOAT, [-1, 4])


REAL = """
import json, sys, numpy, tensorflow as tf
from tensorflow.core.framework import tensor_pb2
out = []
for text in json.load(sys.stdin):
    array = tf.make_ndarray(tensor_pb2.TensorProto.FromString(bytes.fromhex(text)))
    content = tf.make_tensor_proto(array).SerializeToString().hex()
    out.append([str(array.dtype), list(array.shape), [str(v) for v in array.ravel().tolist()], content])
print(json.dumps(out))
"""


def test_tensorflow_reads_and_writes_the_same() -> None:
    if reason := missing():
        pytest.skip(reason)
    examples: list[Any] = [
        np.arange(6).reshape(2, 3).astype(dtype.numpy)
        if dtype is not STRING
        else np.array([[b"a", b"\xff\x00"]], object)
        for dtype in DTYPES
    ]
    asked = json.dumps([tf_tensors.encode(array).SerializeToString().hex() for array in examples])
    answered = subprocess.run([PYTHON, "-c", REAL], input=asked, capture_output=True, check=True, text=True).stdout
    for array, (_, shape, values, theirs) in zip(examples, json.loads(answered), strict=True):
        assert shape == list(array.shape)
        assert values == [str(value) for value in array.ravel().tolist()]
        np.testing.assert_array_equal(tf_tensors.decode(tfs.TensorProto.FromString(bytes.fromhex(theirs))), array)
