"""The stream machine: every conversation of design, and every state against every input."""

import gzip
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.service_pb2 import ModelInferRequest

from ext_proc.errors import CallError, Reason
from ext_proc.processing.body import PORTION
from ext_proc.processing.decision import Decision, HeaderMutation, Hold, Pass, Refuse, Respond, Route
from ext_proc.processing.machine import Machine, State
from ext_proc.processing.request import Head, ReplyPart, StreamError
from ext_proc.wire.call import Call
from ext_proc.wire.naming import STEP
from tests.ext_proc.processing import envoy_says as envoy

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/v1/models/resnet:predict"
ROUTE = Route(nodes=("10.0.0.1:8500", "10.0.0.2:8500"))


class Policy:
    """Gives one decision to all, and remembers who asked."""

    follows_replies = False

    def __init__(self, decision: Decision | CallError = ROUTE, limit: int = 1 << 20) -> None:
        self.decision = decision
        self.body_limit = limit
        self.asked: list[Call] = []
        self.replies: list[tuple[Pass | Route, int, int, str | None]] = []
        self.amend: HeaderMutation | None = None

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        self.asked.append(call)
        if isinstance(self.decision, CallError):
            raise self.decision
        return self.decision

    def replied(
        self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float
    ) -> HeaderMutation | None:
        self.replies.append((decision, reply.status, reply.grpc_status, reply.upstream))
        return self.amend


def framed(model: str, filler: int = 0) -> bytes:
    message = ModelInferRequest(raw_input_contents=[b"\x07" * filler], model_name=model).SerializeToString()
    return b"\x00" + len(message).to_bytes(4, "big") + message


def drive(machine: Machine, *messages: bytes) -> list[envoy.Reply]:
    return envoy.read([reply for message in messages for reply in machine.receive(message, 0.0)])


def kinds(replies: list[envoy.Reply]) -> list[str]:
    return [reply.kind for reply in replies]


def test_a_path_that_names_the_model_is_routed_by_the_headers_alone() -> None:
    machine = Machine(policy := Policy())
    replies = drive(machine, envoy.rest(PREDICT))
    assert kinds(replies) == ["request_headers"]
    assert replies[0].nodes == "10.0.0.1:8500,10.0.0.2:8500"
    assert policy.asked[0].model == "resnet"
    assert machine.state is State.RELEASED
    assert machine.route == ROUTE


def test_a_grpc_call_named_by_a_header_never_has_its_body_read() -> None:
    machine = Machine(policy := Policy())
    replies = drive(machine, envoy.grpc(INFER, x_tbms_model="bert"))
    assert kinds(replies) == ["request_headers"]
    assert policy.asked[0].model == "bert"


def test_envoy_1_40_is_overridden_to_full_duplex_when_the_body_must_name_the_model() -> None:
    machine = Machine(policy := Policy())
    assert kinds(drive(machine, envoy.grpc(INFER))) == ["override"]
    replies = drive(machine, envoy.body(framed("bert")), envoy.body(b"", end=True))
    assert kinds(replies) == ["request_headers", "request_body", "request_body"]
    assert replies[0].nodes == "10.0.0.1:8500,10.0.0.2:8500"
    assert [reply.chunk for reply in replies[1:]] == [(framed("bert"), False), (b"", True)]
    assert policy.asked[0].model == "bert"


@pytest.mark.parametrize("mode", [envoy.NONE, envoy.FULL_DUPLEX])
def test_a_call_that_turns_out_to_need_no_model_passes(mode: str) -> None:
    machine = Machine(policy := Policy())
    drive(machine, envoy.grpc("/inference.GRPCInferenceService/ModelStatistics", mode))
    replies = drive(machine, envoy.body(b"\0\0\0\0\0"), envoy.body(b"", end=True))
    assert kinds(replies) == ["request_headers", "request_body", "request_body"]
    assert replies[0].nodes is None
    assert policy.asked == []
    assert machine.state is State.RELEASED


def test_no_override_is_sent_for_a_request_without_a_body() -> None:
    # Envoy 1.40 hangs on an override for a request that has ended.
    replies = drive(Machine(Policy()), envoy.grpc(INFER, end=True))
    assert kinds(replies) == ["immediate_response"]
    assert replies[0].message.immediate_response is not None
    assert replies[0].message.immediate_response.grpc_status is not None
    assert replies[0].message.immediate_response.grpc_status.status == Reason.INVALID.grpc


def test_full_duplex_by_the_matcher_needs_no_override() -> None:
    machine = Machine(Policy())
    assert drive(machine, envoy.grpc(INFER, envoy.FULL_DUPLEX)) == []
    replies = drive(machine, envoy.body(framed("bert"), end=True))
    assert kinds(replies) == ["request_headers", "request_body"]
    assert replies[1].chunk == (framed("bert"), True)
    assert machine.state is State.RELEASED


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_in_full_duplex_the_body_goes_on_unchanged_however_it_is_cut(data: st.DataObject) -> None:
    whole = framed("bert", filler=data.draw(st.integers(0, 300)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]
    with_trailers = data.draw(st.booleans())
    machine = Machine(Policy())
    replies = drive(machine, envoy.grpc(INFER, envoy.FULL_DUPLEX))
    for index, chunk in enumerate(chunks):
        last = index == len(chunks) - 1 and not with_trailers
        replies += drive(machine, envoy.body(chunk, end=last))
    if with_trailers:
        replies += drive(machine, envoy.trailers())
    bodies = [reply.chunk for reply in replies if reply.kind == "request_body"]
    assert b"".join(chunk for chunk, _ in bodies) == whole
    assert [end for _, end in bodies] == [False] * (len(chunks) - 1) + [not with_trailers]
    assert kinds(replies)[0] == "request_headers"
    assert (kinds(replies)[-1] == "request_trailers") == with_trailers
    assert machine.state is State.RELEASED


def test_a_repeated_last_chunk_is_ignored() -> None:
    machine = Machine(Policy())
    drive(machine, envoy.grpc(INFER, envoy.FULL_DUPLEX), envoy.body(framed("bert"), end=True))
    assert drive(machine, envoy.body(b"", end=True)) == []


def test_a_buffered_body_of_a_routed_call_is_nodded_through() -> None:
    machine = Machine(Policy())
    assert kinds(drive(machine, envoy.rest(PREDICT, envoy.BUFFERED))) == ["request_headers"]
    replies = drive(machine, envoy.body(b"{}", end=True))
    assert kinds(replies) == ["request_body"]
    assert replies[0].nodes is None


@pytest.mark.parametrize("mode", envoy.MODES)
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_held_call_with_its_body_can_be_routed(mode: str, body: bytes) -> None:
    machine = Machine(Policy(Hold(collect=True)))
    replies = drive(machine, envoy.rest(PREDICT, mode))
    expected = {envoy.NONE: ["override"], envoy.BUFFERED: ["request_headers"], envoy.FULL_DUPLEX: []}
    assert kinds(replies) == expected[mode]
    assert drive(machine, envoy.body(body, end=True)) == []
    assert machine.held is not None
    assert b"".join(machine.held.chunks) == body
    assert machine.held.call.model == "resnet"
    replies = envoy.read(machine.decided(ROUTE))
    if mode == envoy.BUFFERED:
        assert kinds(replies) == ["request_body"]
    else:
        assert kinds(replies) == ["request_headers", "request_body"]
        assert replies[1].chunk == (body, True)
    assert replies[0].nodes == "10.0.0.1:8500,10.0.0.2:8500"
    assert machine.held is None


def test_headers_are_set_on_a_request_whose_body_was_buffered() -> None:
    machine = Machine(Policy(Hold(collect=True)))
    drive(machine, envoy.rest(PREDICT, envoy.BUFFERED), envoy.body(b"{}", end=True))
    (reply,) = envoy.read(machine.decided(Route(ROUTE.nodes, headers=(("x-tbms-session", "a"),))))
    assert reply.message.request_body is not None
    assert reply.message.request_body.response is not None
    mutation = reply.message.request_body.response.header_mutation
    assert mutation is not None
    (option,) = mutation.set_headers
    assert option.header is not None
    assert (option.header.key, option.header.raw_value) == ("x-tbms-session", b"a")


def test_a_body_that_envoy_has_buffered_is_not_dropped_for_another_one() -> None:
    machine = Machine(Policy(Hold(collect=True)))
    drive(machine, envoy.rest(PREDICT, envoy.BUFFERED), envoy.body(b"{}", end=True))
    with pytest.raises(AssertionError, match="cannot be replaced"):
        machine.decided(Route(ROUTE.nodes, body=(b"[]",)))


@pytest.mark.parametrize("mode", envoy.MODES)
def test_a_hold_without_body_is_ended_by_its_decision(mode: str) -> None:
    machine = Machine(Policy(Hold()))
    assert drive(machine, envoy.rest(PREDICT, mode)) == []
    assert machine.state is State.HELD
    assert kinds(envoy.read(machine.decided(Pass()))) == ["request_headers"]


def test_a_refusal_names_its_status_and_cause() -> None:
    machine = Machine(Policy(CallError(Reason.UNAVAILABLE, "no node is alive")))
    (reply,) = drive(machine, envoy.rest(PREDICT))
    answer = reply.message.immediate_response
    assert answer is not None
    assert answer.status is not None
    assert answer.status.code == 503
    assert b"no node is alive" in answer.body
    assert machine.state is State.ENDED
    assert machine.refusal is not None


def test_refuse_as_a_decision_is_answered_too() -> None:
    machine = Machine(Policy(Refuse(CallError(Reason.DEADLINE, "the limit has passed"))))
    (reply,) = drive(machine, envoy.grpc(INFER, x_tbms_model="m"))
    answer = reply.message.immediate_response
    assert answer is not None
    assert answer.grpc_status is not None
    assert answer.grpc_status.status == 4
    assert answer.body == b"the limit has passed"


@pytest.mark.parametrize("mode", envoy.MODES)
def test_what_is_not_inference_passes(mode: str) -> None:
    machine = Machine(policy := Policy())
    (reply,) = drive(machine, envoy.rest("/index.html", mode))
    assert reply.kind == "request_headers"
    assert reply.nodes is None
    assert reply.removed == []
    assert policy.asked == []


@pytest.mark.parametrize("path", [PREDICT, "/index.html"])
def test_steering_headers_of_a_client_are_removed(path: str) -> None:
    forged = envoy.rest(path, x_tbms_node="node-z", x_tbms_hop="guess", x_tbms_call="5;priority=9")
    (reply,) = drive(Machine(Policy()), forged)
    assert reply.removed == ["x-tbms-node", "x-tbms-hop", "x-tbms-call"]


@pytest.mark.parametrize("asks", ["", "m"])
def test_what_a_request_has_from_us_goes_on(asks: str) -> None:
    """A candidate call: of what steers, only that which its node is to hear."""
    policy = Policy(replace(ROUTE, keeps=("x-tbms-call",), wants_residency=asks))
    (reply,) = drive(Machine(policy), envoy.rest(PREDICT, x_tbms_hop="s", x_tbms_call="5"))
    assert reply.removed == ["x-tbms-hop"]


def test_a_declared_length_over_the_limit_is_refused_by_the_headers() -> None:
    (reply,) = drive(Machine(Policy(Hold(collect=True), limit=100)), envoy.rest(PREDICT, content_length="101"))
    assert reply.message.immediate_response is not None
    assert reply.message.immediate_response.status is not None
    assert reply.message.immediate_response.status.code == 413


@pytest.mark.parametrize("decision", [ROUTE, Pass(), Hold()])
def test_the_limit_is_none_of_a_body_that_is_not_read(decision: Decision) -> None:
    machine = Machine(Policy(decision, limit=100))
    replies = drive(machine, envoy.rest(PREDICT, content_length="101"))
    if machine.held is not None:
        replies = envoy.read(machine.decided(ROUTE))
    assert kinds(replies) == ["request_headers"]


def test_the_limit_is_for_the_chunks_that_are_kept_until_the_call_is_named() -> None:
    machine = Machine(Policy(ROUTE, limit=100))
    body = b"\0" + (1000).to_bytes(4, "big") + b"\x0a\x06resnet\x1a\x00"
    opened = drive(machine, envoy.grpc(INFER, content_length="1005"), envoy.body(body), envoy.body(b"\x1a"))
    assert kinds(opened) == ["override", "request_headers", "request_body", "request_body"]
    machine = Machine(Policy(ROUTE, limit=100))
    late = drive(machine, envoy.grpc(INFER), envoy.body(framed("", filler=200)[:150]))
    assert kinds(late) == ["override", "immediate_response"]


def test_a_body_over_the_limit_is_refused_while_it_is_collected() -> None:
    machine = Machine(Policy(Hold(collect=True), limit=100))
    replies = drive(machine, envoy.rest(PREDICT, envoy.FULL_DUPLEX), envoy.body(b"x" * 60), envoy.body(b"x" * 60))
    assert kinds(replies) == ["immediate_response"]
    assert drive(machine, envoy.body(b"x", end=True)) == []


def test_response_messages_get_an_empty_nod() -> None:
    machine = Machine(Policy())
    drive(machine, envoy.rest(PREDICT))
    assert kinds(drive(machine, envoy.response_headers())) == ["response_headers"]


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_end_only_this_stream(data: bytes) -> None:
    machine = Machine(Policy())
    try:
        replies = machine.receive(data, 0.0)
    except StreamError:
        return
    assert isinstance(replies, list)


def test_a_body_mode_that_is_not_spoken_is_an_error() -> None:
    with pytest.raises(StreamError, match="mode 1"):
        Machine(Policy()).receive(envoy.rest(PREDICT, "STREAMED"), 0.0)


INPUTS = {
    "rest": envoy.rest(PREDICT, envoy.FULL_DUPLEX),
    "grpc": envoy.grpc(INFER, envoy.FULL_DUPLEX),
    "rest-none": envoy.rest(PREDICT),
    "rest-buffered": envoy.rest(PREDICT, envoy.BUFFERED),
    "chunk": envoy.body(framed("bert")),
    "end": envoy.body(b"", end=True),
    "trailers": envoy.trailers(),
    "response": envoy.response_headers(),
    "nothing": b"",
}


@pytest.mark.parametrize("decision", [ROUTE, Pass(), Hold(), Hold(collect=True), CallError(Reason.INTERNAL, "x")])
def test_every_order_of_inputs_is_answered_or_refused_with_a_stream_error(decision: Decision | CallError) -> None:
    for order in itertools.product(INPUTS, repeat=4):
        machine = Machine(Policy(decision))
        decided = heads = ends = 0
        try:
            for name in order:
                replies = drive(machine, INPUTS[name])
                if machine.held is not None:
                    replies += envoy.read(machine.decided(ROUTE))
                heads += sum(reply.kind in ("request_headers", "immediate_response") for reply in replies)
                ends += sum(reply.kind == "request_body" and _ends(reply) for reply in replies)
                decided += machine.route is not None or machine.refusal is not None
        except StreamError:
            continue
        assert heads <= 2, order  # a buffered call's headers are let through before it is answered
        assert ends <= 1, order


def _ends(reply: envoy.Reply) -> bool:
    body = reply.message.request_body
    mutation = body.response.body_mutation if body and body.response else None
    return bool(mutation and mutation.streamed_response and mutation.streamed_response.end_of_stream)


def test_a_rewritten_body_drops_the_length_that_no_longer_holds() -> None:
    machine = Machine(Policy(Hold(collect=True)))
    drive(machine, envoy.rest(PREDICT, content_length="2"), envoy.body(b"{}", end=True))
    route = Route(("10.0.0.1:8501",), headers=((":path", "/v1/models/other:predict"),), body=(b'{"a":1}',))
    head, chunk = envoy.read(machine.decided(route))
    assert head.removed == ["content-length"]
    assert head.message.request_headers is not None
    assert head.message.request_headers.response is not None
    assert head.message.request_headers.response.header_mutation is not None
    (option,) = head.message.request_headers.response.header_mutation.set_headers
    assert option.header is not None
    assert (option.header.key, option.header.raw_value) == (":path", b"/v1/models/other:predict")
    assert chunk.chunk == (b'{"a":1}', True)


def test_a_long_body_is_handed_on_in_portions_and_stays_in_order() -> None:
    """Between two portions other calls have their turn, and more of the body may come."""
    machine = Machine(Policy(limit=8 * PORTION))
    first = framed("resnet", filler=2 * PORTION + 7) + b"\0\0\0\0\0"
    drive(machine, envoy.grpc(INFER))
    sent = drive(machine, envoy.body(first))
    assert machine.waits
    assert drive(machine, envoy.body(b"more")) == []
    assert drive(machine, envoy.trailers()) == []
    while machine.waits:
        step = envoy.read(machine.go_on(0.0))
        assert sum(len(reply.chunk[0]) for reply in step if reply.kind == "request_body") <= PORTION
        sent += step
    *chunks, last = sent[1:]
    assert last.kind == "request_trailers"
    assert [reply.chunk[1] for reply in chunks] == [False] * len(chunks)
    assert b"".join(reply.chunk[0] for reply in chunks) == first + b"more"


@pytest.mark.parametrize("name_first", [False, True])
def test_a_packed_body_is_read_for_its_model_in_steps(name_first: bool) -> None:
    name, tensor = (ModelInferRequest(model_name="resnet"), ModelInferRequest(raw_input_contents=[bytes(8 * STEP)]))
    parts = [part.SerializeToString() for part in ((name, tensor) if name_first else (tensor, name))]
    content = gzip.compress(b"".join(parts))
    body = b"\1" + len(content).to_bytes(4, "big") + content
    policy = Policy(limit=9 * STEP)
    machine = Machine(policy)
    drive(machine, envoy.grpc(INFER, grpc_encoding="gzip"))
    sent, steps = drive(machine, envoy.body(body[:-3])), 0
    assert machine.waits is not name_first
    sent += drive(machine, envoy.body(body[-3:], end=True))
    while machine.waits:
        sent += envoy.read(machine.go_on(0.0))
        steps += 1
    assert steps in range(5, 10) or name_first
    assert [call.model for call in policy.asked] == ["resnet"]
    assert kinds(sent)[0] == "request_headers"
    assert b"".join(reply.chunk[0] for reply in sent[1:]) == body


def test_a_packed_body_that_is_broken_in_a_later_step_is_refused() -> None:
    content = gzip.compress(ModelInferRequest(raw_input_contents=[bytes(4 * STEP)]).SerializeToString())[:-9]
    machine = Machine(Policy(limit=9 * STEP))
    drive(machine, envoy.grpc(INFER, grpc_encoding="gzip"))
    sent = drive(machine, envoy.body(b"\1" + len(content).to_bytes(4, "big") + content, end=True))
    while machine.waits:
        sent += envoy.read(machine.go_on(0.0))
    assert kinds(sent) == ["immediate_response"]


def test_a_long_body_that_was_rewritten_ends_with_its_last_portion() -> None:
    machine = Machine(Policy(Hold(collect=True)))
    drive(machine, envoy.rest(PREDICT), envoy.body(b"{}", end=True))
    tensor = bytes(range(256)) * (PORTION // 128)
    replies = envoy.read(machine.decided(Route(ROUTE.nodes, body=(b"head", memoryview(tensor)))))
    while machine.waits:
        replies += envoy.read(machine.go_on(0.0))
    chunks = [reply.chunk for reply in replies[1:]]
    assert b"".join(chunk for chunk, _ in chunks) == b"head" + tensor
    assert [last for _, last in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_rest_answer_is_immediate() -> None:
    machine = Machine(Policy(Hold(collect=True)))
    drive(machine, envoy.rest(PREDICT, envoy.FULL_DUPLEX), envoy.body(b"{}", end=True))
    (reply,) = envoy.read(machine.decided(Respond(200, (("content-type", b"application/json"),), b"[1]")))
    answer = reply.message.immediate_response
    assert answer is not None
    assert (answer.body, answer.grpc_status) == (b"[1]", None)
    assert machine.state is State.ENDED


@pytest.mark.parametrize("body", [b"\x00\x00\x00\x00\x00", b""])
def test_a_grpc_answer_is_streamed_with_its_trailers(body: bytes) -> None:
    machine = Machine(Policy(Hold(collect=True)))
    drive(machine, envoy.grpc(INFER, envoy.FULL_DUPLEX), envoy.body(framed("bert"), end=True))
    headers = (("content-type", b"application/grpc"), ("x-raw", b"\xff"))
    replies = envoy.read(machine.decided(Respond(200, headers, body, trailers=(("grpc-status", b"0"),))))
    parts = [reply.message.streamed_immediate_response for reply in replies]
    assert parts[0] is not None
    assert parts[0].headers_response is not None
    assert parts[0].headers_response.headers is not None
    sent = [(header.key, header.raw_value) for header in parts[0].headers_response.headers.headers]
    assert sent == [(":status", b"200"), *headers]
    assert [part.body_response.body for part in parts if part and part.body_response] == ([body] if body else [])
    assert parts[-1] is not None
    assert parts[-1].trailers_response is not None
    assert parts[-1].trailers_response.headers[0].raw_value == b"0"


# Replies of nodes.


ASKING = Route(nodes=("10.0.0.1:8501",), wants_residency="resnet")


def test_a_call_that_asks_shows_us_the_head_of_its_reply() -> None:
    machine = Machine(policy := Policy(ASKING))
    (reply,) = drive(machine, envoy.rest(PREDICT, x_tbms_residency="?0"))
    assert reply.message.mode_override is not None
    assert reply.message.mode_override.response_header_mode.name == "SEND"
    assert reply.message.mode_override.request_body_mode.name == "NONE"
    assert reply.message.request_headers is not None
    assert reply.message.request_headers.response is not None
    mutation = reply.message.request_headers.response.header_mutation
    assert mutation is not None
    assert mutation.remove_headers == ["x-tbms-residency"]  # the client's
    assert [(each.header.key, each.header.raw_value) for each in mutation.set_headers if each.header] == [
        ("x-tbms-residency", b"?1")
    ]
    policy.amend = HeaderMutation(remove=("x-tbms-residency",))
    (answer,) = drive(machine, envoy.response_headers(upstream="10.0.0.1:8501"))
    assert policy.replies == [(ASKING, 200, 0, "10.0.0.1:8501")]
    assert answer.message.response_headers is not None
    assert answer.message.response_headers.response is not None
    assert answer.message.response_headers.response.header_mutation is not None
    assert answer.message.response_headers.response.header_mutation.remove_headers == ["x-tbms-residency"]


def test_a_call_whose_body_was_asked_for_can_ask_as_well() -> None:
    machine = Machine(Policy(ASKING))
    replies = drive(machine, envoy.grpc(INFER), envoy.body(framed("resnet"), end=True))
    assert kinds(replies) == ["override", "override", "request_body"]
    released = replies[1].message.mode_override
    assert released is not None
    assert (released.request_body_mode.name, released.request_trailer_mode.name) == ("FULL_DUPLEX_STREAMED", "SEND")
    assert replies[1].message.request_headers is not None


@pytest.mark.parametrize(("mode", "envoy_version"), [(envoy.FULL_DUPLEX, (1, 38)), (envoy.BUFFERED, (1, 36))])
def test_where_envoy_cannot_show_the_reply_nobody_is_asked(mode: str, envoy_version: tuple[int, int]) -> None:
    machine = Machine(Policy(ASKING), envoy_version)
    replies = drive(machine, envoy.grpc(INFER, mode), envoy.body(framed("resnet"), end=True))
    assert not any(reply.message.mode_override for reply in replies)


def test_statuses_are_read_from_the_part_that_has_them() -> None:
    machine = Machine(policy := Policy(Pass()))
    drive(machine, envoy.rest(PREDICT))
    replies = drive(
        machine,
        envoy.response_headers(200, end=True, grpc_status="5"),
        envoy.response_headers(200, grpc_status="5"),  # of no meaning before the end
        envoy.response_headers(503),
        envoy.response_trailers(grpc_status="14"),
        envoy.response_trailers(grpc_status="many"),
    )
    assert [told[1:3] for told in policy.replies] == [(200, 5), (200, 0), (503, 0), (0, 14), (0, 0)]
    assert kinds(replies) == ["response_headers"] * 3 + ["response_trailers"] * 2


def test_the_reply_to_a_call_that_we_answered_is_nobodys_business() -> None:
    machine = Machine(policy := Policy(CallError(Reason.NOT_FOUND, "no")))
    assert kinds(drive(machine, envoy.rest(PREDICT), envoy.response_headers())) == [
        "immediate_response",
        "response_headers",
    ]
    assert not policy.replies


THERE = Route(nodes=("@node-c",))


@pytest.mark.parametrize("mode", ["NONE", "FULL_DUPLEX_STREAMED"])
def test_a_body_that_grows_too_long_goes_on_as_it_comes(mode: str) -> None:
    """The server would have sent the call itself: up to `most` bytes it waits for it all, beyond Envoy sends it."""
    hold = Hold(collect=True, most=10, otherwise=THERE)
    machine = Machine(Policy(hold))
    replies = drive(machine, envoy.rest(PREDICT, mode=mode), envoy.body(b"0123456789"))
    assert kinds(replies) == (["override"] if mode == "NONE" else [])
    replies = drive(machine, envoy.body(b"a"), envoy.body(b"rest", end=True))
    assert kinds(replies) == ["request_headers", "request_body", "request_body", "request_body"]
    assert replies[0].nodes == "@node-c"
    assert b"".join(reply.chunk[0] for reply in replies[1:]) == b"0123456789arest"
    assert (machine.state, machine.held, machine.route) == (State.RELEASED, None, THERE)


def test_one_that_says_so_is_not_asked_for() -> None:
    machine = Machine(Policy(Hold(collect=True, most=10, otherwise=THERE), limit=5))
    (reply,) = drive(machine, envoy.rest(PREDICT, content_length="11"))
    assert (reply.kind, reply.nodes, machine.state) == ("request_headers", "@node-c", State.RELEASED)


def test_a_short_one_is_held() -> None:
    machine = Machine(Policy(Hold(collect=True, most=10, otherwise=THERE)))
    drive(machine, envoy.rest(PREDICT, content_length="10"), envoy.body(b"0123456789", end=True))
    assert machine.held is not None
    assert machine.held.chunks == (b"0123456789",)


def test_one_that_envoy_has_buffered_is_led_on() -> None:
    machine = Machine(Policy(Hold(collect=True, most=3, otherwise=THERE)), (1, 36))
    drive(machine, envoy.rest(PREDICT, mode="BUFFERED"))
    (reply,) = drive(machine, envoy.body(b"0123", end=True))
    assert (reply.kind, reply.nodes) == ("request_body", "@node-c")
