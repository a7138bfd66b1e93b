"""Both gRPC APIs, and what gRPC itself carries: metadata, deadlines, packed messages, large ones, health."""

import grpc
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb

from mesh.protos import tfs_pb2 as tfs
from tests.integration.parity.row import OURS, Grpc, Has, Like, Reply, Row, differs
from tests.integration.parity.rows.triton_calls import infer, output, raw, tensor
from tests.integration.parity.rows.words import NO_BYTES_OUT, NOT_UTF_8, floats, tfs_predict, v2

PROTOCOL = "https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md"
SPEC = "https://kserve.github.io/website/latest/modelserving/data_plane/v2_protocol/"
PREDICTOR = "tensorflow/serving: servables/tensorflow/predict_util.cc"
CORE = "tensorflow/serving: model_servers/server_core.cc"
GOOD = tensor(fp32=[1, 2])
LARGE = 5 << 20
BY_THE_BOOK = "Triton does not look at the name; the embedded server answers as grpc.health.v1 says."
_Y = {"name": "y", "datatype": "FP32", "shape": ["1", "2"]}
DOUBLED = {"model_name": "double", "model_version": "1", "outputs": [_Y], "raw_output_contents": ["AAAAQAAAgEA="]}
PREDICTED = {
    "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "1"}, {"size": "2"}]}, "tensor_content": "AAAAQAAAgEA="}},
    "model_spec": {"name": "double", "version": "1", "signature_name": "serving_default"},
}  # fmt: skip
STRING = tfs.TensorProto(dtype="DT_STRING", tensor_shape={"dim": [{"size": 1}]}, string_val=[b"a"])


def _tfs(about: str, source: str, request: Grpc, status: str, body: object = None, **more: object) -> Row:
    return Row(about, source, request, Reply(status, body), OURS, **more)  # type: ignore[arg-type]


def _health(service: str = "") -> Grpc:
    request = health_pb2.HealthCheckRequest(service=service)
    return Grpc("/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)


V2 = (
    Row("V2: the reply is raw, even to typed contents", "triton-inference-server/server#2937", v2("ModelInfer", infer("double", GOOD)), Reply("OK", DOUBLED)),
    Row("V2: raw contents", "triton-inference-server/server#2582", v2("ModelInfer", raw()), Reply("OK", DOUBLED)),
    Row("V2: contents without a datatype", "triton-inference-server/server#2359", v2("ModelInfer", infer("double", tensor(datatype="", fp32=[1, 2]))), Reply("INVALID_ARGUMENT", "unexpected explicit tensor data for input tensor 'x' for model 'double' of type 'FP32', expected datatype '<invalid>'")),
    Row("V2: raw contents without a datatype", "triton-inference-server/server#1832", v2("ModelInfer", raw(datatype="")), Reply("INVALID_ARGUMENT", "[request id: <id_unknown>] inference input 'x' data-type is '<invalid>', but model 'double' expects 'FP32'")),
    Row("V2: a negative size in a shape", "triton-inference-server/server#3563", v2("ModelInfer", raw(shape=(-1, 2))), Reply("INVALID_ARGUMENT", Like(".*-1.*"))),
    Row("V2: the bytes of an image as contents", "kserve/modelmesh-serving#269", v2("ModelInfer", infer("picture", tensor("image_bytes", "BYTES", (1,), bytes=[b"\xff\xd8\xff"]))), Reply("OK", Has({"raw_output_contents": ["AwAAAP/Y/w=="]})), differences=differs(NO_BYTES_OUT, Reply("INTERNAL", NOT_UTF_8), OURS)),
    Row("V2: raw strings without their lengths", "triton-inference-server/server#999", v2("ModelInfer", raw(b"123456", "text", name="s", datatype="BYTES", shape=(1,))), Reply("INVALID_ARGUMENT", Like(".*'s'.*"))),
    Row("V2: an unknown model", "triton-inference-server/server#2419", v2("ModelInfer", infer("cls_resnet50", GOOD)), Reply("NOT_FOUND", "Request for unknown model: 'cls_resnet50' is not found")),
    Row("V2: a model of another name", "triton-inference-server/server#6497", v2("ModelMetadata", pb.ModelMetadataRequest(name="simple_sequence")), Reply("NOT_FOUND", "Request for unknown model: 'simple_sequence' is not found")),
    Row("V2: an output that the model lacks", SPEC, v2("ModelInfer", infer("double", GOOD, outputs=[output("z")])), Reply("INVALID_ARGUMENT", "unexpected inference output 'z' for model 'double'")),
    Row("V2: alive", "triton-inference-server/server#3410", v2("ServerLive", pb.ServerLiveRequest()), Reply("OK", {"live": True})),
    Row("V2: ready", "triton-inference-server/server#4523", v2("ServerReady", pb.ServerReadyRequest()), Reply("OK", {"ready": True})),
    Row("V2: a message of 5 MiB", "triton-inference-server/server#5840", v2("ModelInfer", raw(b"\0" * LARGE, shape=(LARGE // 8, 2))), Reply("OK", Has({"model_name": "double"}))),
)  # fmt: skip

TFS = (
    _tfs("TFS: predict", PREDICTOR, tfs_predict("double", {"x": floats((1, 2))}), "OK", Has({"model_spec": PREDICTED["model_spec"]})),
    _tfs("TFS: strings for floats", "tensorflow/serving#1495", tfs_predict("double", {"x": STRING}), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
    _tfs("TFS: an unknown model", "tensorflow/serving#441", tfs_predict("model", {"x": floats((1, 2))}), "NOT_FOUND", "Servable not found for request: Latest(model)"),
    _tfs("TFS: a signature that there is not", "GoogleCloudPlatform/training-data-analyst#380", tfs_predict("double", {"x": floats((1, 2))}, signature="predict"), "FAILED_PRECONDITION", 'Serving signature key "predict" not found.'),
    _tfs("TFS: no inputs", PREDICTOR, tfs_predict("double", {}), "INVALID_ARGUMENT", Like("input size does not match signature: 0!=1 .*")),
    _tfs("TFS: an input of another name", PREDICTOR, tfs_predict("double", {"input": floats((1, 2))}), "INVALID_ARGUMENT", Like(".*input.*")),
    _tfs("TFS: no name", CORE, tfs_predict("", {"x": floats((1, 2))}), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    _tfs("TFS: a packed message", "tensorflow/serving#516", tfs_predict("double", {"x": floats((1, 2))}, compression=grpc.Compression.Gzip), "OK", Has({"model_spec": PREDICTED["model_spec"]})),
    _tfs("TFS: a message of 5 MiB", "grpc/grpc.io#1254", tfs_predict("double", {"x": tfs.TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": LARGE // 8}, {"size": 2}]}, tensor_content=b"\0" * LARGE)}), "OK", Has({"model_spec": PREDICTED["model_spec"]})),
    _tfs("TFS: a message that is none", "tensorflow/serving: apis/prediction_service.proto", Grpc("/tensorflow.serving.PredictionService/Predict", b"\xff\xff\xff", tfs.PredictResponse), "INVALID_ARGUMENT"),
)  # fmt: skip

CARRIED = (
    Row("metadata of the caller's", PROTOCOL, v2("ModelInfer", raw(), metadata=(("x-request-owner", "me"), ("x-request-owner", "you"))), Reply("OK", DOUBLED)),
    Row("metadata of bytes", PROTOCOL, v2("ModelInfer", raw(), metadata=(("x-trace-bin", b"\x00\xff"), ("x-trace-bin", b"\x01"))), Reply("OK", DOUBLED)),  # type: ignore[arg-type]
    Row("a packed message", "kserve/modelmesh-serving#111", v2("ModelInfer", raw(), compression=grpc.Compression.Gzip), Reply("OK", DOUBLED)),
    Row("a message packed by deflate", PROTOCOL, v2("ModelInfer", raw(), compression=grpc.Compression.Deflate), Reply("OK", DOUBLED)),
    Row("a deadline", PROTOCOL, v2("ModelInfer", raw(), timeout=30.0), Reply("OK", DOUBLED)),
    Row("health, as Kubernetes asks", "triton-inference-server/server#4609", _health(), Reply("OK", {"status": "SERVING"})),
    Row("health of a service that there is not", "triton-inference-server/server#5267", _health("nope"), Reply("OK", {"status": "SERVING"}), differences=differs(BY_THE_BOOK, Reply("NOT_FOUND"), OURS)),
    Row("reflection", "triton-inference-server/server#3465", Grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"", pb.ServerLiveResponse), Reply("UNIMPLEMENTED")),
    Row("a method that there is not", PROTOCOL, Grpc("/inference.GRPCInferenceService/Nothing", b"", pb.ServerLiveResponse), Reply("UNIMPLEMENTED")),
)  # fmt: skip

ROWS = V2 + TFS + CARRIED
