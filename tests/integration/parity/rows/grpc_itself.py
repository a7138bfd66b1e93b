"""What gRPC itself carries: metadata, deadlines, packed messages; health and reflection."""

import grpc
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb

from tests.integration.parity.row import OURS, Grpc, Reply, Row, differs
from tests.integration.parity.rows.triton_calls import raw
from tests.integration.parity.rows.words import v2

PROTOCOL = "https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md"
BY_THE_BOOK = "Triton does not look at the name; the embedded server answers as grpc.health.v1 says."
_Y = {"name": "y", "datatype": "FP32", "shape": ["1", "2"]}
DOUBLED = {"model_name": "double", "model_version": "1", "outputs": [_Y], "raw_output_contents": ["AAAAQAAAgEA="]}


def _health(service: str = "") -> Grpc:
    request = health_pb2.HealthCheckRequest(service=service)
    return Grpc("/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)


ROWS = (
    Row(
        "metadata of the caller's",
        PROTOCOL,
        v2("ModelInfer", raw(), metadata=(("x-request-owner", "me"), ("x-request-owner", "you"))),
        Reply("OK", DOUBLED),
    ),
    Row(
        "metadata of bytes",
        PROTOCOL,
        v2("ModelInfer", raw(), metadata=(("x-trace-bin", b"\x00\xff"), ("x-trace-bin", b"\x01"))),
        Reply("OK", DOUBLED),
    ),  # type: ignore[arg-type]
    Row(
        "a packed message",
        "kserve/modelmesh-serving#111",
        v2("ModelInfer", raw(), compression=grpc.Compression.Gzip),
        Reply("OK", DOUBLED),
    ),
    Row(
        "a message packed by deflate",
        PROTOCOL,
        v2("ModelInfer", raw(), compression=grpc.Compression.Deflate),
        Reply("OK", DOUBLED),
    ),
    Row("a deadline", PROTOCOL, v2("ModelInfer", raw(), timeout=30.0), Reply("OK", DOUBLED)),
    Row(
        "health, as Kubernetes asks",
        "triton-inference-server/server#4609",
        _health(),
        Reply("OK", {"status": "SERVING"}),
    ),
    Row(
        "health of a service that there is not",
        "triton-inference-server/server#5267",
        _health("nope"),
        Reply("OK", {"status": "SERVING"}),
        differences=differs(BY_THE_BOOK, Reply("NOT_FOUND"), OURS),
    ),
    Row(
        "reflection",
        "triton-inference-server/server#3465",
        Grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"", pb.ServerLiveResponse),
        Reply("UNIMPLEMENTED"),
    ),
    Row(
        "a method that there is not",
        PROTOCOL,
        Grpc("/inference.GRPCInferenceService/Nothing", b"", pb.ServerLiveResponse),
        Reply("UNIMPLEMENTED"),
    ),
)
