"""The node's filter: which branch the matcher chooses by headers, and what passes without the server."""

import re

import pytest

from ext_proc.batching.terms import Terms, read_terms, write_terms
from ext_proc.contract import GATHERED_BY, GATHERED_PATHS
from ext_proc.envoy_config import EnvoyLimits, EnvoySettings, GatheredCalls
from ext_proc.wire.call import Call, Verb
from ext_proc.wire.codecs import GRPC_CODECS
from ext_proc.wire.naming import name_call
from tests.ext_proc.envoy_config.documents import VERSIONS, Document, chosen, manager, node_document

GRPC = {"content-type": "application/grpc"}
PREDICT = {":path": "/tensorflow.serving.PredictionService/Predict"}
INFER = {":path": "/inference.GRPCInferenceService/ModelInfer"}
STREAM_INFER = {":path": "/inference.GRPCInferenceService/ModelStreamInfer"}

# headers -> the branch on 1.40, and before
CALLS: list[tuple[dict[str, str], tuple[str, str]]] = [
    ({":path": "/v1/models/m:predict", "content-type": "application/json"}, ("open", "open")),
    ({":path": "/v2/models/m/ready"}, ("open", "open")),
    ({":path": "/v2/models/m/infer", "tloc": "50"}, ("open", "open")),
    ({**GRPC, **PREDICT}, ("open", "stream")),
    ({**GRPC, **INFER}, ("open", "stream")),
    ({**GRPC, **STREAM_INFER}, ("open", "stream")),
    ({**GRPC, **PREDICT, "x-tbms-model": "m"}, ("open", "open")),
    ({**GRPC, ":path": "/grpc.health.v1.Health/Check"}, ("open", "open")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/ServerLive"}, ("open", "open")),
    ({":path": "/v2/repository/models/m/unload"}, ("closed", "closed")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/RepositoryModelLoad"}, ("closed", "closed")),
    ({**GRPC, ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"}, ("closed", "closed")),
]


CALL = {"x-tbms-call": "40;share"}
NAMED = {"x-tbms-model": "m"}
REST_PREDICT = {":path": "/v1/models/m:predict", "content-type": "application/json"}
GATHERED = GatheredCalls(models=("big one@x",))
# Where the node batches: headers -> the branch on 1.40, on 1.38, on 1.36
BATCHED_CALLS: list[tuple[dict[str, str], tuple[str, str, str]]] = [
    # They ask to share a batch, or their edge does.
    ({**REST_PREDICT, **CALL}, ("open", "stream", "buffer")),
    ({**REST_PREDICT, "tloc": "50;cross-request=1"}, ("open", "stream", "buffer")),
    (
        {":path": "/v1/models/m:classify", "x-tbms-call": "none;race=r1.2;lag=7;share;rank=1"},
        ("open", "stream", "buffer"),
    ),
    ({":path": "/v1/models/m/versions/3:predict?x=1", **CALL}, ("open", "stream", "buffer")),
    ({":path": "/v1/models/m/labels/stable:predict", **CALL}, ("open", "stream", "buffer")),
    ({":path": "/v2/models/m/infer", **CALL}, ("open", "stream", "buffer")),
    ({":path": "/v2/models/m/versions/3/infer", "tloc": "5; cross-request; est=1"}, ("open", "stream", "buffer")),
    ({**GRPC, **PREDICT, **NAMED, **CALL}, ("open", "stream", "open")),
    ({**GRPC, **INFER, **NAMED, "tloc": "50;est=35;cross-request=1"}, ("open", "stream", "open")),
    ({**GRPC, **INFER, **CALL}, ("open", "stream", "stream")),
    # Their model has settings.
    ({":path": "/v1/models/big one@x:predict"}, ("open", "stream", "buffer")),
    ({":path": "/v1/models/big%20one@x/versions/3:predict"}, ("open", "stream", "buffer")),
    ({":path": "/v2/models/big%20one%40x/infer"}, ("open", "stream", "buffer")),
    ({**GRPC, **PREDICT, "x-tbms-model": "big%20one@x"}, ("open", "stream", "open")),
    ({**GRPC, **PREDICT, "x-tbms-model": "big%20one@x/versions/3"}, ("open", "stream", "open")),
    # Nobody wants them batched, or nobody can.
    (REST_PREDICT, ("open", "open", "open")),
    ({**GRPC, **PREDICT, **NAMED}, ("open", "open", "open")),
    ({**GRPC, **PREDICT, **NAMED, "x-tbms-call": "40;race=r1.2;share=?0;rank=1"}, ("open", "open", "open")),
    ({**REST_PREDICT, "tloc": "50;cross-request=0"}, ("open", "open", "open")),
    ({**REST_PREDICT, "tloc": "50", "x-tbms-call": "40;race=share"}, ("open", "open", "open")),
    ({**GRPC, **PREDICT, "x-tbms-model": "big%20one@xy"}, ("open", "open", "open")),
    ({**GRPC, **STREAM_INFER, **NAMED, **CALL}, ("open", "open", "open")),
    ({":path": "/v1/models/m:classified", **CALL}, ("open", "open", "open")),
    ({**GRPC, ":path": "/tensorflow.serving.SessionService/SessionRun", **NAMED, **CALL}, ("open", "open", "open")),
    ({":path": "/v1/models/big one@x"}, ("open", "open", "open")),
    ({":path": "/v2/models/m/ready?x=/infer", **CALL}, ("open", "open", "open")),
    ({":path": "/elsewhere/infer", **CALL}, ("open", "open", "open")),
    # As without batching.
    *[(headers, (newest, older, older)) for headers, (newest, older) in CALLS if "tloc" not in headers],
]


def choice(version: str, headers: dict[str, str], gathered: GatheredCalls | None = None) -> Document:
    return chosen(node_document(version, gathered=gathered), headers, "models")


@pytest.mark.parametrize("column", range(3), ids=["1.40", "1.38", "1.36"])
def test_a_node_that_batches_is_sent_what_it_may_gather(column: int) -> None:
    version = ("1.40", "1.38", "1.36")[column]
    for headers, ways in BATCHED_CALLS:
        processor = choice(version, headers, GATHERED)
        assert processor["branch"] == ways[column], headers
        mode = processor["processing_mode"]
        body = {"stream": "FULL_DUPLEX_STREAMED", "buffer": "BUFFERED"}.get(ways[column], "NONE")
        assert mode.get("request_body_mode", "NONE") == body
        if ways[column] != "closed":
            assert (mode["response_header_mode"], mode["response_trailer_mode"]) == ("SEND", "SEND")
        assert processor.get("failure_mode_allow", False) is (ways[column] == "open")


@pytest.mark.parametrize("version", VERSIONS)
def test_where_every_model_shares_every_prediction_is_sent(version: str) -> None:
    older = "buffer" if version == "1.36" else "stream"
    every = GatheredCalls(any_model=True)
    assert choice(version, REST_PREDICT, every)["branch"] == ("open" if version == "1.40" else older)
    assert choice(version, {":path": "/v1/models/m/metadata"}, every)["branch"] == "open"


# Each has one model, or one message for several, and one reply.
GATHERED_VERBS = {Verb.PREDICT, Verb.CLASSIFY, Verb.REGRESS, Verb.MULTI_INFERENCE, Verb.INFER}
REST_PATHS = [
    f"/v1/models/m{which}{what}"
    for which in ("", "/versions/3", "/labels/a%20b")
    for what in (":predict", ":classify", ":regress", "/metadata", "")
] + [
    f"/v2/models/m{which}{what}" for which in ("", "/versions/3") for what in ("/infer", "/ready", "/config", "/stats")
]


def test_what_may_be_gathered_is_what_the_codecs_name_so() -> None:
    methods = [(path, method.verb) for codec in GRPC_CODECS.values() for path, method in codec.methods.items()]
    for path in REST_PATHS:
        call = name_call({":path": path}, 100)
        assert isinstance(call, Call)
        methods.append((path, call.verb))
    assert {verb for _, verb in methods} > GATHERED_VERBS
    for path, verb in methods:
        assert (re.fullmatch(GATHERED_PATHS, path) is not None) == (verb in GATHERED_VERBS), path


@pytest.mark.parametrize(
    ("header", "value"),
    [
        *[("x-tbms-call", write_terms(Terms(5.0, lag, shares, priority, race=race)))
          for lag in (None, 7.0) for shares in (None, True, False) for priority in (0, 3) for race in (None, "share")],
        ("x-tbms-call", "5; share=?1"),
        ("x-tbms-call", "5;shares"),
        ("tloc", "50"),
        ("tloc", "50;cross-request=1"),
        ("tloc", "50;est=3;cross-request=?1;priority=1"),
        ("tloc", "50; cross-request"),
        ("tloc", "50;cross-request=0;est=1"),
        ("tloc", "50;cross-lag=1"),
    ],
)  # fmt: skip
def test_a_call_asks_for_company_by_these_values(header: str, value: str) -> None:
    found = re.fullmatch(GATHERED_BY[header], value) is not None
    assert found == bool(read_terms({header: value}).shares)


def test_a_buffered_call_may_wait_for_its_load_and_then_for_its_batch() -> None:
    settings = EnvoySettings(limits=EnvoyLimits(longest_tloc_seconds=100))
    document = node_document("1.36", settings, hold_seconds=20.0, gathered=GATHERED)
    assert chosen(document, {**REST_PREDICT, **CALL}, "models")["message_timeout"] == "130s"
    for name in ("models", "egress"):
        assert manager(document, name)["stream_idle_timeout"] == "150s"


@pytest.mark.parametrize("version", VERSIONS)
def test_headers_choose_how_the_conversation_is_held(version: str) -> None:
    for headers, (newest, older) in CALLS:
        assert choice(version, headers)["branch"] == (newest if version == "1.40" else older), headers


@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_that_may_use_a_model_is_followed_to_its_end(version: str) -> None:
    for headers, _ in CALLS:
        processor = choice(version, headers)
        mode = processor["processing_mode"]
        if processor["branch"] == "closed":
            assert mode["response_header_mode"] == "SKIP"
            continue
        assert (mode["response_header_mode"], mode["response_trailer_mode"]) == ("SEND", "SEND")
        streamed = processor["branch"] == "stream"
        assert mode.get("request_body_mode", "NONE") == ("FULL_DUPLEX_STREAMED" if streamed else "NONE")
        assert processor.get("allow_mode_override", False) is (version == "1.40")


@pytest.mark.parametrize("version", VERSIONS)
def test_without_the_server_calls_pass_where_this_envoy_can_let_them(version: str) -> None:
    for headers, _ in CALLS:
        processor = choice(version, headers)
        assert processor.get("failure_mode_allow", False) is (processor["branch"] == "open")
        # A call that can pass no more when the server is lost, since its body was streamed, is UNAVAILABLE too.
        assert processor["status_on_error"] == {"code": "ServiceUnavailable"}


def test_a_call_may_wait_for_its_load() -> None:
    short, long = node_document(hold_seconds=20.0), node_document(hold_seconds=5000.0)
    headers = {":path": "/v2/models/m/infer"}
    assert chosen(short, headers, "models")["message_timeout"] == "30s"
    assert chosen(long, headers, "models")["message_timeout"] == "5010s"
    assert manager(short, "models")["stream_idle_timeout"] == "630s"
    assert manager(long, "models")["stream_idle_timeout"] == "5030s"
    for document in (short, long):
        (host,) = manager(document, "models")["route_config"]["virtual_hosts"]
        assert {route["route"]["timeout"] for route in host["routes"]} == {"0s"}
