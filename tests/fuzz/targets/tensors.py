"""Tensors on the wire: TensorFlow's TensorProto, V2's raw bytes and typed contents."""

from google.protobuf.message import DecodeError

from mesh.protos import tfs_pb2 as pb
from mesh.tensors import tf, v2
from mesh.tensors.dtypes import BY_NUMPY, DTYPES
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    reader = Reader(data)
    if reader.flag():
        try:
            array = tf.decode(pb.TensorProto.FromString(reader.rest()))
        except (DecodeError, tf.TensorError):
            return
        assert tf.decode(tf.encode(array)).shape == array.shape
        return
    dtype = reader.pick(DTYPES)
    shape = [reader.number(reader.pick((3, (1 << 32) - 1, 0))) for _ in range(reader.number(70))]
    raw = reader.rest()
    try:
        array = v2.from_raw(raw, dtype, shape)
    except v2.DataError:
        return
    assert array.dtype == BY_NUMPY[array.dtype].numpy
    assert v2.from_raw(v2.to_raw(array), dtype, shape).shape == array.shape


FLOATS = pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1.0])
FLOATS.tensor_shape.dim.add(size=3)
TARGET = Target(
    run,
    (b"\1" + FLOATS.SerializeToString(), b"\0\3\2\0\1\0\2" + bytes(8), b"\0\0\1\0\2\1\0\0\0a\0\0\0\0"),
    (b"\x08\1", b"\x12\4\x12\2\x08\3", b"\x22\4\0\0\x80\x3f", b"\x2a\4\0\0\x80\x3f", b"\1\0\0\0a", b"\x18\1"),
)
