"""Inferences of V2 over REST."""

from tests.integration.parity.row import OURS, Has, Http, Like, Reply, Row, differs
from tests.integration.parity.rows.v2_words import NO_ID, PLAIN, REPLY, SOURCE, SPEC
from tests.integration.parity.rows.words import INFER, X, Y, as_json, infer, text

NO_GENERATE = "The embedded server has no generate extension: its models make one reply of tensors."


ROWS = (
    Row("one row", SPEC, infer(), Reply(200, {"model_name": "double", "model_version": "1", "outputs": [Y]})),
    Row(
        "sent as a form, as curl -d does",
        "triton-inference-server/server#2643",
        Http("POST", INFER, as_json({"inputs": [X]}), {"Content-Type": "application/x-www-form-urlencoded"}),
        Reply(200, REPLY),
    ),
    Row(
        "sent as a stream of octets",
        "triton-inference-server/server#2563",
        Http("POST", INFER, as_json({"inputs": [X]}), {"Content-Type": "application/octet-stream"}),
        Reply(200, REPLY, {"content-type": "application/json"}),
    ),
    Row("no outputs named", "triton-inference-server/server#4570", infer(outputs=[]), Reply(200, REPLY)),
    Row(
        "a shape that the model does not take",
        "triton-inference-server/server#104",
        infer({**X, "shape": [1, 3], "data": [1, 2, 3]}),
        Reply(400, NO_ID + "unexpected shape for input 'x' for model 'double'. Expected [-1,2], got [1,3]. "),
    ),
    Row(
        "a shape of too many dimensions",
        "triton-inference-server/server#3158",
        infer({**X, "shape": [1, 1, 2]}),
        Reply(400, NO_ID + "unexpected shape for input 'x' for model 'double'. Expected [-1,2], got [1,1,2]. "),
    ),
    Row(
        "more data than the shape says",
        "triton-inference-server/server#3158",
        infer({**X, "data": [1, 2, 3]}),
        Reply(500, "Unable to parse 'data': Shape does not match true shape of 'data' field"),
    ),
    Row(
        "less data than the shape says",
        "triton-inference-server/tensorrtllm_backend#502",
        infer({**X, "data": [1]}),
        Reply(500, "Unable to parse 'data': Shape does not match true shape of 'data' field"),
    ),
    Row(
        "a negative size in a shape",
        "triton-inference-server/server#1649",
        infer({**X, "shape": [-1, 2]}),
        Reply(500, "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer"),
    ),
    Row(
        "a shape that is text",
        "triton-inference-server/server#1649",
        infer({**X, "shape": "-1"}),
        Reply(500, "Unable to parse 'shape': attempt to access JSON non-array as array"),
    ),
    Row(
        "an input twice",
        "triton-inference-server/server#5956",
        infer(X, X),
        Reply(400, NO_ID + "input 'x' already exists in request"),
    ),
    Row(
        "an input that is missing",
        "triton-inference-server/server#2254",
        infer({"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}, model="two"),
        Reply(400, Like(".*expected 2 inputs but got 1 inputs for model 'two'.*")),
    ),
    Row(
        "an unknown model",
        "kserve/kserve#2755",
        infer(model="sklearn-iris-triton-onnx"),
        Reply(404, "Request for unknown model: 'sklearn-iris-triton-onnx' is not found", PLAIN),
    ),
    Row(
        "a base path in the client's URL",
        "kserve/kserve#3513",
        infer(model="v2"),
        Reply(404, "Request for unknown model: 'v2' is not found"),
    ),
    Row(
        "a version that is not there",
        "clearml/clearml-serving#22",
        Http("POST", "/v2/models/double/versions/9/infer", as_json({"inputs": [X]})),
        Reply(404, "Request for unknown model: 'double' version 9 is not found"),
    ),
    Row(
        "the generate extension",
        "triton-inference-server/tensorrtllm_backend#369",
        Http("POST", "/v2/models/double/generate", as_json({"x": [1, 2]})),
        Reply(200, {"model_name": "double", "model_version": "1", "y": [2, 4]}),
        differences=differs(NO_GENERATE, Reply(404, "Not Found"), OURS),
    ),
    Row(
        "the id comes back",
        SPEC,
        infer(id="42"),
        Reply(200, {"id": "42", "model_name": "double", "model_version": "1", "outputs": [Y]}),
    ),
    Row(
        "the id of .NET: null",
        SOURCE,
        infer(id=None),
        Reply(500, "Unable to parse 'id': attempt to access JSON non-string as string"),
    ),
    Row("an unknown datatype", SPEC, infer({**X, "datatype": "FLOAT32"}), Reply(400, "invalid datatype for input x")),
    Row(
        "another datatype than the model's",
        SPEC,
        infer({**X, "datatype": "INT32"}),
        Reply(400, NO_ID + "inference input 'x' data-type is 'INT32', but model 'double' expects 'FP32'"),
    ),
    Row(
        "infinity in a reply",
        "openvinotoolkit/model_server#4337",
        Http("POST", INFER, b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[Infinity,1]}]}'),
        Reply(200, Like('.*"data":.Infinity,2.0.*')),
    ),
    Row(
        "no number in a reply",
        SOURCE,
        Http("POST", INFER, b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}'),
        Reply(200, Like('.*"data":.NaN,2.0.*')),
    ),
    Row("nested data", SPEC, infer({**X, "data": [[1, 2]]}), Reply(200, REPLY)),
    Row(
        "a model that fails",
        SOURCE,
        infer({**X, "shape": [3], "data": [1, 2, 3]}, model="failing"),
        Reply(500, None, PLAIN),
    ),
    Row("a query", SOURCE, Http("POST", f"{INFER}?trace=1", as_json({"inputs": [X]})), Reply(200, REPLY)),
    Row(
        "strings one to a row",
        "triton-inference-server/server#4405",
        infer(text(["a"], ["b"]), model="text", outputs=[{"name": "t"}]),
        Reply(200, Has({"outputs": [{"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]})),
    ),
    Row(
        "two rows declared, one given",
        "triton-inference-server/server#6791",
        infer({**X, "shape": [2, 2]}),
        Reply(500, "Unable to parse 'data': Shape does not match true shape of 'data' field"),
    ),
    Row(
        "an output that the model calls otherwise",
        "ELS-RD/transformer-deploy#14",
        infer(outputs=[{"name": "score"}]),
        Reply(400, "unexpected inference output 'score' for model 'double'"),
    ),
    Row(
        "data behind the JSON, and no header that says where they begin",
        "ELS-RD/transformer-deploy#14",
        Http("POST", INFER, b'{"inputs":[]}....'),
        Reply(
            500,
            "failed to parse the request JSON buffer: The document root must not be followed by other values. at 13",
        ),
    ),
    Row(
        "a client that sends blanks for JSON",
        "triton-inference-server/server#4196",
        Http("POST", INFER, b" "),
        Reply(500, "failed to parse the request JSON buffer: The document is empty. at 1"),
    ),
    Row(
        "the datatype's name in a configuration, not in the protocol",
        "triton-inference-server/server#1649",
        infer(text("a", datatype="STRING"), model="text"),
        Reply(400, "invalid datatype for input s"),
    ),
)
