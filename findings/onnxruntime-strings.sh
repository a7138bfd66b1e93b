#!/usr/bin/env bash
# Strings in ONNX Runtime's Python API: which bytes arrive, in which form.
#
# An ONNX string is a run of bytes. The C++ API takes and gives any; the Python API takes numpy arrays:
#   object   elements must be str: texts of any length, NUL and all, but UTF-8 only (bytes are turned into their repr)
#   V<n>     elements of one length, taken byte by byte: NUL and bytes that are not UTF-8 arrive
#   S<n>     cut at the first NUL
# and gives strings as str only: an output that is not UTF-8 raises UnicodeDecodeError in run().
# So strings of several lengths that are not all UTF-8 have no form in which they could be given.
#
# Needs: python3 and the package index. Fails where something else is seen. Input: a few short strings.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

IMAGE = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
TEXT = "é\0a"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def session(node, kind):
    graph = helper.make_graph(
        [node],
        "strings",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["rows"])],
        [helper.make_tensor_value_info("y", kind, ["rows"])],
    )
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=9)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


identity = session(helper.make_node("Identity", ["x"], ["y"]), TensorProto.STRING)
# Says which of two strings has arrived, whole: 0 the image, 1 the text, -1 neither.
which = session(
    helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml",
        keys_strings=[IMAGE, TEXT.encode()], values_int64s=[0, 1], default_int64=-1,
    ),
    TensorProto.INT64,
)


def run(model, array):
    try:
        return model.run(["y"], {"x": array})[0].tolist()
    except UnicodeDecodeError:
        return "UnicodeDecodeError"


seen = [
    ("object of str: texts of several lengths, one with a NUL", run(which, np.array([TEXT, TEXT + "b", ""], object)), [1, -1, -1]),
    ("object of str, through Identity", run(identity, np.array([TEXT, "", "b"], object)), [TEXT, "", "b"]),
    ("object of bytes: an image does not arrive", run(which, np.array([IMAGE], object)), [-1]),
    ("V11: two images arrive", run(which, np.array([IMAGE, IMAGE], "V11")), [0, 0]),
    ("V4: a text arrives as well", run(which, np.array([TEXT.encode()], "V4")), [1]),
    ("S3 through Identity: cut at the NUL", run(identity, np.array([b"a\0b"], "S3")), ["a"]),
    ("S11: an image does not arrive", run(which, np.array([IMAGE], "S11")), [-1]),
    ("V11 through Identity: an image cannot be given out", run(identity, np.array([IMAGE], "V11")), "UnicodeDecodeError"),
]
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, numpy {np.__version__}")
for what, result, expected in seen:
    print(f"{'as known' if result == expected else 'OTHERWISE'}: {what}: {result!r}")
raise SystemExit(any(result != expected for _, result, expected in seen))
PYTHON
