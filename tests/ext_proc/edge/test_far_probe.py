"""Probes of nodes of another zone: what counts as an answer, and which way they go."""

import asyncio

import pytest

from ext_proc.edge.far_probe import FarProbe
from ext_proc.upstream.client import Request, Response, UpstreamError
from ext_proc.upstream.hop_mark import HopMark
from integration.virtual_time import run
from mesh.node import Node, ProtocolKind
from tests.ext_proc.racing.scene import grpc_reply, rest_reply


class Egress:
    def __init__(self, end: Response | UpstreamError | None) -> None:
        self.end = end
        self.sent: list[Request] = []

    async def call(self, request: Request) -> Response:
        self.sent.append(request)
        if self.end is None:
            await asyncio.Event().wait()
        if isinstance(self.end, UpstreamError):
            raise self.end
        assert self.end is not None
        return self.end


def probed(end: Response | UpstreamError | None, *speaks: ProtocolKind) -> tuple[str | None, Request]:
    egress = Egress(end)
    node = Node("node-c", reached_by="header", speaks=frozenset(speaks or ("rest",)))
    cause = run(FarProbe(egress, HopMark("s" * 32), 1.0)(node))
    return cause, egress.sent[0]


@pytest.mark.parametrize(
    "end",
    [
        rest_reply(),
        rest_reply(status=404),
        rest_reply(status=500),
        grpc_reply(status=12),
        UpstreamError("the egress listener cannot be reached", refused=True),
    ],
)
def test_any_answer_of_the_node_is_good_and_nothing_is_known_where_none_was_asked(
    end: Response | UpstreamError,
) -> None:
    assert probed(end)[0] is None


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (rest_reply(status=503), "503"),
        (grpc_reply(status=14), "UNAVAILABLE"),
        (UpstreamError("the call got no answer: reset"), "reset"),
        (None, "within 1 s"),
    ],
)
def test_what_an_ingress_says_for_a_node_that_is_dead_is_bad(end: Response | UpstreamError | None, cause: str) -> None:
    said = probed(end)[0]
    assert said is not None
    assert cause in said


def test_it_goes_the_way_of_calls() -> None:
    for speaks, path in (
        (("rest",), "/v1/models/tbms-probe"),
        (("grpc",), "/inference.GRPCInferenceService/ModelReady"),
    ):
        _, request = probed(rest_reply(), *speaks)  # type: ignore[arg-type]
        headers = dict(request.headers)
        assert (request.path, request.is_grpc, headers["x-tbms-node"]) == (path, "grpc" in speaks, b"node-c")
        assert headers["x-tbms-hop"] == b"s" * 32 + b" @node-c"
