"""Thousands of raced calls at once, onto a server that has not yet made a connection for candidates."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from ext_proc.http2.aio.connection_pool import ConnectionPool
from ext_proc.http2.client_stream import HttpResponse
from ext_proc.http2.hpack_literals import literal
from integration.peers.answerer import answerer
from integration.stack.sidecar import Section, Sidecar
from mesh.node import Node
from tests.integration.conftest import need_envoy
from tests.integration.metrics import metric

CALLS = 3_000
BODY = b'{"instances": [[1.0]]}'
BLOCK = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/v1/models/primary:predict"),
        (b":authority", b"models"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(BODY)),
        (b"tloc", b"60000"),
        (b"backup", b"other;est=10"),
    )
)


async def test_none_of_thousands_of_raced_calls_onto_a_cold_pool_fails_for_dialling(tmp_path: Path) -> None:
    """Some may fail for the overload: what Envoy has to wait for too long it ends itself."""
    need_envoy("1.40")
    sections: dict[str, Section] = {"server": {"log": {"level": "error"}}, "envoy": {"server_wait_seconds": 60}}
    async with answerer(tmp_path) as upstream, AsyncExitStack() as stack:
        node = Node("upstream", grpc=upstream, rest=upstream)
        edge = await stack.enter_async_context(Sidecar(tmp_path, [node], sections=sections))
        clients = [await stack.enter_async_context(ConnectionPool(edge.target, connect_seconds=60)) for _ in range(20)]
        async with asyncio.timeout(110):
            calls = (clients[n % len(clients)].request(BLOCK, (BODY,), 1 << 20) for n in range(CALLS))
            outcomes = await asyncio.gather(*calls)
            seen = Counter(
                (outcome.status, "cannot be reached" in outcome.body.decode())
                if isinstance(outcome, HttpResponse)
                else outcome.cause
                for outcome in outcomes
            )
            assert not [key for key in seen if key[1] is True], seen
            while True:
                outcome = await clients[0].request(BLOCK, (BODY,), 1 << 20)
                if isinstance(outcome, HttpResponse) and outcome.status == 200:
                    break
        assert b"primary" in dict(outcome.headers)["tbms-answer"]
        assert await metric(edge.admin, "tbms_egress_reachable") == 1
