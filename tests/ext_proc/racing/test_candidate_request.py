"""What goes out for a candidate: the client's call, but for the model, the headers that steer, and the time."""

import zlib
from dataclasses import replace
from typing import Any

import pytest

from ext_proc.broker.effects import Start
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Held, Seat
from ext_proc.racing.candidate_request import Candidates
from ext_proc.upstream.client import Request
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.framing import frame
from ext_proc.wire.naming import name_call
from mesh.node import Node
from mesh.protos import tfs_pb2
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.state import Residency
from tests.ext_proc.racing.scene import NODE, Nodes, heard, held, plan, rest_reply

HOP = HopMark("s" * 32)


PLAN = plan("bert")


def request(
    call: Held, candidate: Candidate, ms: float = 40.0, limit: int = 1 << 20, rank: int = 0, by: Plan = PLAN
) -> Request:
    nodes = Nodes()
    if call.call.protocol.is_grpc:
        call = call.unpacked(limit)
    start = Start(rank, 0, candidate, ms, False)
    made, lease, _ = Candidates(nodes, HOP, heard(), lambda: limit).placed(call, start, by, "r1.2", 0.0)
    assert nodes.load == 1
    lease.release()
    return made


def tfs_call(model: str, encoding: str = "identity", pack: bool = False) -> Held:
    message = tfs_pb2.PredictRequest(model_spec=tfs_pb2.ModelSpec(name=model, signature_name="serve"))
    message.inputs["x"].float_val.extend([1.0] * 100)
    raw = message.SerializeToString()
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(raw) + packer.flush()
    body = b"\x01" + len(packed).to_bytes(4, "big") + packed if pack else frame(raw)
    return held(model, InferenceProtocol.TFS_GRPC, body, grpc_encoding=encoding, grpc_timeout="50m")


def test_rest_for_another_model() -> None:
    call = held("bert", InferenceProtocol.TFS_REST, b'{"instances": [1]}', x_mine="1", accept_encoding="gzip")
    made = request(call, Candidate("svm", version="3"))
    assert (made.method, made.path, made.body) == ("POST", "/v1/models/svm/versions/3:predict", call.chunks)
    assert not made.is_grpc
    assert made.authority == "models.local"
    assert dict(made.headers) == {
        "x-mine": b"1",
        "accept-encoding": b"gzip",
        "x-tbms-hop": HOP.write((NODE, "10.0.0.2:8501")).encode(),
        "x-tbms-model": b"svm/versions/3",
        "x-tbms-call": b"40;race=r1.2",
        "x-envoy-upstream-rq-timeout-ms": b"42",
    }
    assert made.timeout == pytest.approx(0.042)


def test_the_same_model_keeps_the_path_as_it_was_written() -> None:
    call = held("bert")
    call.head.headers[":path"] = "/v1/models/%62ert:predict?x=1"
    assert request(call, Candidate("bert")).path == "/v1/models/%62ert:predict?x=1"


@pytest.mark.parametrize(
    "steering",
    ["tloc", "backup", "primary", "tbms-key", "x-tbms-hop", "x-tbms-node", "x-tbms-model", "x-tbms-call",
     "grpc-timeout", "x-envoy-upstream-rq-timeout-ms", "x-tbms-session", "x-envoy-max-retries", "x-tbms-residency",
     "x-tbms-retries"],
)  # fmt: skip
def test_what_steers_is_not_sent_on(steering: str) -> None:
    made = request(held(**{steering: "forged"}), Candidate("svm"))
    assert b"forged" not in dict(made.headers).values()


@pytest.mark.parametrize(("ms", "header"), [(0.2, b"3"), (1.0, b"3"), (37.4, b"40"), (30_000.0, b"30002")])
def test_a_candidate_is_given_what_is_left_and_a_moment_more(ms: float, header: bytes) -> None:
    made = request(held(), Candidate("svm"), ms)
    assert dict(made.headers)["x-envoy-upstream-rq-timeout-ms"] == header
    assert made.timeout == pytest.approx((ms + 2) / 1000)


@pytest.mark.parametrize(
    ("ms", "rank", "wish", "told"),
    [
        (37.4126, 0, {}, "37.413;race=r1.2"),
        (12.0, 2, {"cross_request": True, "cross_lag_ms": 10.0}, "12;race=r1.2;lag=10;share;rank=2"),
        (0.25, 1, {"cross_request": False, "priority": -3}, "0.25;race=r1.2;share=?0;priority=-3;rank=1"),
    ],
)
def test_the_node_is_told_the_terms_of_the_call(ms: float, rank: int, wish: dict[str, Any], told: str) -> None:
    """What is left without the grace: a batch that is late by that is late."""
    for call in (held(), tfs_call("bert")):
        made = request(call, Candidate("svm"), ms, rank=rank, by=plan("bert", **wish))
        assert dict(made.headers)["x-tbms-call"] == told.encode()


@pytest.mark.parametrize("pack", [False, True])
def test_grpc_for_another_model_is_a_bare_plain_message(pack: bool) -> None:
    made = request(tfs_call("bert", "gzip" if pack else "identity", pack), Candidate("svm", version="3"))
    assert made.is_grpc
    message = tfs_pb2.PredictRequest.FromString(b"".join(made.body))
    assert (message.model_spec.name, message.model_spec.version.value) == ("svm", 3)
    assert message.model_spec.signature_name == "serve"
    assert list(message.inputs["x"].float_val) == [1.0] * 100
    assert {"grpc-encoding", "grpc-timeout", "host"}.isdisjoint(dict(made.headers))


def test_grpc_for_the_same_model_is_untouched() -> None:
    call = tfs_call("bert")
    assert b"".join(request(call, Candidate("bert")).body) == b"".join(call.chunks)[5:]


def test_a_packed_message_may_not_unpack_to_more_than_the_limit() -> None:
    with pytest.raises(CallError) as refused:
        request(tfs_call("bert", "gzip", pack=True), Candidate("bert"), limit=300)
    assert refused.value.reason is Reason.TOO_LARGE


def test_a_label_that_v2_has_no_words_for() -> None:
    with pytest.raises(CallError) as refused:
        request(held("bert", InferenceProtocol.V2_REST), Candidate("svm", label="stable"))
    assert refused.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("name", ["bért", "модель", "50%off", "a%20b", "two words", "plain.name-1", "🙂"])
def test_the_model_header_names_what_naming_reads(name: str) -> None:
    """Any name that a model may have comes back from the header, and goes through HTTP as plain ASCII."""
    made = request(tfs_call("bert"), Candidate(name))
    value = dict(made.headers)["x-tbms-model"].decode("ascii")
    assert value == value.strip()
    headers = {":path": made.path, "content-type": "application/grpc", "x-tbms-model": value}
    assert name_call(headers, 100).model == name


def test_a_call_of_a_session_goes_to_its_seat_and_says_what_that_says() -> None:
    for call, claim in ((held("bert"), "a claim"), (tfs_call("bert"), "a claim"), (held("bert"), "")):
        made = dict(request(replace(call, seat=Seat("node-1", claim)), Candidate("bert")).headers)
        assert made.get("x-tbms-session") == (claim.encode() or None)
        assert made["x-tbms-hop"] == HOP.write(("node-1",)).encode()
        assert made["x-tbms-retries"] == b"0"


def test_a_node_that_is_not_heard_is_asked_how_the_model_stands_there() -> None:
    cache_map, node = CacheMap(), Node("node-1", rest=NODE)
    hints = ReplyHints(cache_map, 10.0)
    candidates, start = Candidates(Nodes(), HOP, hints, lambda: 100), Start(0, 0, Candidate("svm"), 5, False)
    asked = []
    for now in (0.0, 1.0, 2.0):
        made, _, _ = candidates.placed(held(), start, PLAN, None, now)
        asked.append(dict(made.headers).get("x-tbms-residency"))
        hints.silence(node)
    assert asked == [None, b"?1", None], "once in a while is enough"
    for word in (None, "", "?1", "available" * 100, "\x00", "available"):
        assert cache_map.holders("svm") == {}
        candidates.replied(Candidate("svm"), replace(rest_reply(), residency=word), 3.0)
    assert cache_map.holders("svm") == {"node-1": Residency.AVAILABLE}


def test_a_rest_path_with_any_name_is_read_back() -> None:
    made = request(held("bert"), Candidate("модель"))
    assert name_call({":path": made.path}, 100).model == "модель"


def test_a_call_that_cannot_be_written_is_no_load_of_the_node() -> None:
    nodes = Nodes()
    candidates = Candidates(nodes, HOP, heard(), lambda: 100)
    start = Start(0, 0, Candidate("svm", label="stable"), 5, False)
    with pytest.raises(CallError):
        candidates.placed(held("bert", InferenceProtocol.V2_REST), start, PLAN, None, 0.0)
    assert nodes.load == 0


def test_repeated_metadata_goes_on_line_by_line() -> None:
    call = held("bert", k_bin="AQ, Ag", text="1")
    call = replace(call, head=replace(call.head, repeated={"k-bin": ("AQ", "Ag")}))
    sent = request(call, Candidate("svm")).headers
    assert [pair for pair in sent if pair[0] in ("k-bin", "text")] == [
        ("k-bin", b"AQ"),
        ("k-bin", b"Ag"),
        ("text", b"1"),
    ]
