"""Answers as Envoy takes them: repeated headers, which it would drop, are kept."""

import pytest
from envoy_data_plane.envoy.service.ext_proc.v3 import ProcessingResponse

from ext_proc.processing import response
from ext_proc.processing.decision import Respond
from ext_proc.processing.request import BodyMode
from ext_proc.processing.response import answer
from ext_proc.protos import ext_proc_pb2 as pb

Lines = tuple[tuple[str, bytes], ...]

REPEATED = (("set-cookie", b"a=1"), ("x-mine", b"1"), ("set-cookie", b"b=2"))


def test_a_rest_answer_keeps_them_line_by_line() -> None:
    (message,) = answer(Respond(200, REPEATED, b"{}"))
    with pytest.warns(DeprecationWarning, match="append"):  # Envoy's ext_proc reads no other
        options = ProcessingResponse.parse(message).immediate_response.headers.set_headers
    told = [(one.header.key, one.header.raw_value, bool(one.append)) for one in options]
    assert told == [("set-cookie", b"a=1", False), ("x-mine", b"1", False), ("set-cookie", b"b=2", True)]


def test_a_grpc_answer_joins_text_and_keeps_the_last_of_binary_values() -> None:
    lines = (("x-two", b"a"), ("x-bin", b"AQ"), ("x-two", b"b"), ("x-bin", b"Ag"))
    head, _, last = [ProcessingResponse.parse(one) for one in answer(Respond(200, lines, b"\0\0\0\0\0", lines))]
    for headers in (
        head.streamed_immediate_response.headers_response.headers.headers,
        last.streamed_immediate_response.trailers_response.headers,
    ):
        told = [(one.key, one.raw_value) for one in headers if one.key != ":status"]
        assert told == [("x-two", b"a, b"), ("x-bin", b"Ag")]


@pytest.mark.parametrize("trailers", [None, (("grpc-status", b"0"),)], ids=["rest", "grpc"])
def test_what_is_of_one_call_stands_beside_what_many_have_in_common(trailers: Lines | None) -> None:
    """As Envoy's parser reads it: the same as if all had been written as one."""
    told = (("tbms-answer", b"m;rank=0"),)
    whole = pb.ProcessingResponse.FromString(answer(Respond(201, REPEATED, b"{}", trailers))[0])
    parted = pb.ProcessingResponse.FromString(answer(Respond(201, REPEATED + told, b"{}", trailers))[0])
    if trailers is None:
        ours = parted.immediate_response.headers.set_headers.pop()
        assert ours.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        header = ours.header
    else:
        header = parted.streamed_immediate_response.headers_response.headers.headers.pop()
    assert ((header.key, header.raw_value),) == told
    assert parted == whole


def test_no_reply_with_a_path_of_a_client_is_remembered() -> None:
    """A query may be another for every call."""
    memos = (response._CONTINUED, response._CONTINUED_AND_HEARD)
    before = [memo.bytes for memo in memos]
    path = ((":path", "/v1/models/m:predict?q=only-here"),)
    for headers in (path, (*path, ("x", "y")), (("x", "y"), *path)):
        assert b"only-here" in response.continue_headers(("10.0.0.1:1",), (), headers)
        assert b"only-here" in response.continue_and_hear(("10.0.0.1:1",), (), headers, BodyMode.NONE)
    assert [memo.bytes for memo in memos] == before


@pytest.mark.parametrize("mode", [None, BodyMode.NONE, BodyMode.BUFFERED])
def test_a_far_node_is_named_by_its_header_and_the_route_chosen_anew(mode: BodyMode | None) -> None:
    """Whatever a client says under that name is overwritten."""
    if mode is BodyMode.BUFFERED:
        told = pb.ProcessingResponse.FromString(response.continue_buffered(("@node-c",))).request_body.response
    elif mode is BodyMode.NONE:
        message = response.continue_and_hear(("@node-c",), ("x-tbms-node", "x-tbms-hop"), (), mode)
        told = pb.ProcessingResponse.FromString(message).request_headers.response
        assert list(told.header_mutation.remove_headers) == ["x-tbms-hop"]
    else:
        message = response.continue_headers(("@node-c",), ("x-tbms-node",), (("x", "y"),))
        told = pb.ProcessingResponse.FromString(message).request_headers.response
        assert not told.header_mutation.remove_headers
    header = told.header_mutation.set_headers[-1]
    assert (header.header.key, header.header.raw_value) == ("x-tbms-node", b"node-c")
    assert header.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    assert told.clear_route_cache


@pytest.mark.parametrize("nodes", [(), ("10.0.0.1:1",)])
def test_a_route_that_a_client_has_chosen_is_not_kept(nodes: tuple[str, ...]) -> None:
    """Envoy chooses it before the server hears of the call."""
    for removed, cleared in ((("x-tbms-node",), True), (("x-tbms-hop",), False), ((), False)):
        told = pb.ProcessingResponse.FromString(response.continue_headers(nodes, removed)).request_headers.response
        assert (list(told.header_mutation.remove_headers), told.clear_route_cache) == (list(removed), cleared)
