"""One conversation of Envoy's with the server: any messages in any order, before the policy of an edge."""

from collections.abc import Iterator
from typing import Any

from ext_proc.edge.placing import Placing
from ext_proc.edge.policy import EdgePolicy
from ext_proc.edge.sessions import Sessions
from ext_proc.errors import CallError
from ext_proc.processing.decision import Decision, Held, Refuse, Respond
from ext_proc.processing.machine import Machine
from ext_proc.processing.request import StreamError, read_version
from ext_proc.protos import ext_proc_pb2 as pb
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets.naming import METHODS, PATHS, SPEC
from tests.fuzz.targets.race_headers import HOP, TABLE

NAMES = (
    ":path", "content-type", "tloc", "backup", "primary", "tbms-key", "grpc-timeout", "x-tbms-model", "x-tbms-hop",
    "x-tbms-node", "content-length", "grpc-encoding", ":method", ":authority", ":status", "x-tbms-residency", "x-a-bin",
)  # fmt: skip
VALUES = (
    "application/grpc", "application/json", "50", "svm;est=5", "bert", "prod", "trial", "/v1/models/prod:predict",
    "/v2/models/both/infer", "gzip", "200", "available", *PATHS, *METHODS,
)  # fmt: skip
VERSIONS = ("1.36.4", "1.38.3", "1.40.0", "x")
AS_BYTES = tuple(value.encode() for value in VALUES)


async def answered(held: Held, *_: Any) -> Decision:
    return Respond(200, (("content-type", b"application/grpc"),), b"answer", (("grpc-status", b"0"),))


def policy() -> EdgePolicy:
    router = Router(RoutingSettings(replicas=2), CacheMap(), LoadWaits())
    router.update(
        Node(f"n{n}", grpc=f"10.0.0.{n}:8500", rest=f"10.0.0.{n}:8501", residency=f"10.0.0.{n}:9903") for n in (1, 2)
    )
    hints = ReplyHints(router.cache_map, 10.0)
    for node in router.nodes:
        hints.silence(node)
    return EdgePolicy(
        Placing(router), Sessions(router).seat, answered, TABLE, HOP, hints, lambda *_: None, lambda: 1e9,
        body_limit=1 << 16, follows_replies=True,
    )  # fmt: skip


def run(data: bytes) -> None:
    reader = Reader(data)
    edge = policy()
    machine = Machine(edge, read_version(reader.pick(VERSIONS)))
    now = 1.0
    while reader:
        now += reader.number() / 1000
        try:
            check(machine.receive(_message(reader), now))
        except StreamError:
            break
        settle(machine, edge, now)
    if machine.lease is not None:
        machine.lease.release()


def settle(machine: Machine, edge: EdgePolicy, now: float) -> None:
    """What the shell does behind each message."""
    for _ in range(1000):
        if machine.waits:
            check(machine.go_on(now))
        elif machine.held is not None:
            check(machine.decided(decide(edge, machine.held)))
        else:
            return
    raise AssertionError("the machine does not come to rest")


def decide(edge: EdgePolicy, held: Held) -> Decision:
    """Of coroutines that wait for nothing."""
    deciding = edge.resolve(held)
    try:
        deciding.send(None)
    except StopIteration as done:
        decision: Decision = done.value
        return decision
    except CallError as error:
        return Refuse(error)
    deciding.close()
    raise AssertionError("a decision was waited for")


def check(replies: list[bytes]) -> None:
    for reply in replies:
        pb.ProcessingResponse.FromString(reply)


def _message(reader: Reader) -> bytes:
    message = pb.ProcessingRequest()
    kind = reader.number(7)
    if kind <= 1:
        message.request_headers.headers.headers.extend(_headers(reader))
        message.request_headers.end_of_stream = reader.number(7) == 1
        message.protocol_config.request_body_mode = reader.number(5)
        if reader.flag():
            message.attributes["envoy.filters.http.ext_proc"].fields["request.time"].string_value = reader.text()
    elif kind <= 3:
        message.request_body.body = reader.piece()
        message.request_body.end_of_stream = reader.flag()
    elif kind == 4:
        message.request_trailers.SetInParent()
    elif kind == 5:
        message.response_headers.headers.headers.extend(_headers(reader))
        message.attributes["x"].fields["upstream.address"].string_value = "10.0.0.1:8500"
    elif kind == 6:
        message.response_trailers.trailers.headers.extend(_headers(reader))
    else:
        return reader.piece()
    return message.SerializeToString()


def _headers(reader: Reader) -> Iterator[pb.HeaderValue]:
    for _ in range(reader.number(9)):
        yield pb.HeaderValue(key=reader.pick(NAMES), raw_value=reader.pick((*AS_BYTES, b"")) or reader.piece())


def _named(name: str, value: str) -> bytes:
    return bytes([NAMES.index(name), VALUES.index(value)])


PREDICT = _named(":path", "/tensorflow.serving.PredictionService/Predict") + _named("content-type", "application/grpc")
REST = _named(":path", "/v1/models/prod:predict") + _named("content-type", "application/json")
BODY = b"\0" + len(SPEC).to_bytes(4, "big") + SPEC
TARGET = Target(
    run,
    (
        b"\2\0\0\2" + PREDICT + b"\0\0\0" + b"\0\2" + bytes([len(BODY)]) + BODY + b"\1",
        b"\2\0\0\3" + REST + _named("tloc", "50") + b"\0\0\0" + b"\0\2\5hello\1",
        b"\1\0\0\3"
        + PREDICT
        + _named("backup", "svm;est=5")
        + b"\0\4\0"
        + b"\0\2"
        + bytes([len(BODY)])
        + BODY
        + b"\0\0\4",
        b"\0\0\0\2" + REST + b"\0\0\0" + b"\0\5\1" + _named(":status", "200") + b"\0\6\0",
    ),
    (PREDICT, REST, BODY, b"\0\2\1x\0", b"\0\2\0\1", b"\0\4", _named("tloc", "50"), _named("x-tbms-model", "bert")),
)
