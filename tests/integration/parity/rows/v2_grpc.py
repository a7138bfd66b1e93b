"""Triton's gRPC service."""

from tritonclient.grpc import service_pb2 as pb

from tests.integration.parity.row import OURS, Has, Like, Reply, Row, differs
from tests.integration.parity.rows.triton_calls import infer, output, raw, tensor
from tests.integration.parity.rows.v2_words import NO_ID
from tests.integration.parity.rows.words import NO_BYTES_OUT, NOT_UTF_8, v2

SPEC = "https://kserve.github.io/website/latest/modelserving/data_plane/v2_protocol/"
GOOD = tensor(fp32=[1, 2])
LARGE = 5 << 20
_Y = {"name": "y", "datatype": "FP32", "shape": ["1", "2"]}
DOUBLED = {"model_name": "double", "model_version": "1", "outputs": [_Y], "raw_output_contents": ["AAAAQAAAgEA="]}

ROWS = (
    Row(
        "the reply is raw, even to typed contents",
        "triton-inference-server/server#2937",
        v2("ModelInfer", infer("double", GOOD)),
        Reply("OK", DOUBLED),
    ),
    Row("raw contents", "triton-inference-server/server#2582", v2("ModelInfer", raw()), Reply("OK", DOUBLED)),
    Row(
        "contents without a datatype",
        "triton-inference-server/server#2359",
        v2("ModelInfer", infer("double", tensor(datatype="", fp32=[1, 2]))),
        Reply(
            "INVALID_ARGUMENT",
            Like("unexpected explicit tensor data for input .* of type 'FP32', expected datatype '<invalid>'"),
        ),
    ),
    Row(
        "raw contents without a datatype",
        "triton-inference-server/server#1832",
        v2("ModelInfer", raw(datatype="")),
        Reply(
            "INVALID_ARGUMENT",
            NO_ID + "inference input 'x' data-type is '<invalid>', but model 'double' expects 'FP32'",
        ),
    ),
    Row(
        "a negative size in a shape",
        "triton-inference-server/server#3563",
        v2("ModelInfer", raw(shape=(-1, 2))),
        Reply("INVALID_ARGUMENT", Like(".*-1.*")),
    ),
    Row(
        "the bytes of an image as contents",
        "kserve/modelmesh-serving#269",
        v2("ModelInfer", infer("picture", tensor("image_bytes", "BYTES", (1,), bytes=[b"\xff\xd8\xff"]))),
        Reply("OK", Has({"raw_output_contents": ["AwAAAP/Y/w=="]})),
        differences=differs(NO_BYTES_OUT, Reply("INTERNAL", NOT_UTF_8), OURS),
    ),
    Row(
        "raw strings without their lengths",
        "triton-inference-server/server#999",
        v2("ModelInfer", raw(b"123456", "text", name="s", datatype="BYTES", shape=(1,))),
        Reply("INVALID_ARGUMENT", Like(".*'s'.*")),
    ),
    Row(
        "an unknown model",
        "triton-inference-server/server#2419",
        v2("ModelInfer", infer("cls_resnet50", GOOD)),
        Reply("NOT_FOUND", "Request for unknown model: 'cls_resnet50' is not found"),
    ),
    Row(
        "a model of another name",
        "triton-inference-server/server#6497",
        v2("ModelMetadata", pb.ModelMetadataRequest(name="simple_sequence")),
        Reply("NOT_FOUND", "Request for unknown model: 'simple_sequence' is not found"),
    ),
    Row(
        "an output that the model lacks",
        SPEC,
        v2("ModelInfer", infer("double", GOOD, outputs=[output("z")])),
        Reply("INVALID_ARGUMENT", "unexpected inference output 'z' for model 'double'"),
    ),
    Row(
        "alive",
        "triton-inference-server/server#3410",
        v2("ServerLive", pb.ServerLiveRequest()),
        Reply("OK", {"live": True}),
    ),
    Row(
        "ready",
        "triton-inference-server/server#4523",
        v2("ServerReady", pb.ServerReadyRequest()),
        Reply("OK", {"ready": True}),
    ),
    Row(
        "a message of 5 MiB",
        "triton-inference-server/server#5840",
        v2("ModelInfer", raw(b"\0" * LARGE, shape=(LARGE // 8, 2))),
        Reply("OK", Has({"model_name": "double"})),
    ),
)
