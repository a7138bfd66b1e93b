"""Real Envoys that trace and a real edge and node that do: what a collector gets of one call is one trace."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from integration.peers.collector import Collector, SentSpan
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.stack import Stack
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY
from tests.integration.node.cache_node import write_onnx
from tests.integration.raw import rest_client

pytestmark = pytest.mark.envoy

TOKEN = "Bearer of-the-collector"
TRACE, CLIENT = "ab" * 16, "cd" * 8
TRACED = {"traceparent": f"00-{TRACE}-{CLIENT}-01", "tracestate": "client=1"}


@dataclass
class Scene:
    stack: Stack[CachedNode]
    collector: Collector
    http: httpx.AsyncClient

    def ways_up(self, trace: str) -> set[str]:
        """Of every span of a trace the way from its root: `service:name/service:name/...`."""
        return {"/".join(self._way(span)) for span in self.collector.spans if span.trace == trace}

    def _way(self, span: SentSpan) -> Iterator[str]:
        above = self.collector.by_id(span.parent)
        if above is not None:
            yield from self._way(above)
        yield f"{span.service}:{span.name.split(' ')[0]}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    need_envoy("1.40")
    folder = tmp_path_factory.mktemp("tracing")
    for name in ("one", "two"):
        write_onnx(folder / "shelf", name)
    (folder / "token").write_text(f"Authorization: {TOKEN}\n")
    async with Collector() as collector:
        tracing = {"endpoint": collector.endpoint, "headers_file": str(folder / "token")}
        sections: dict[str, Any] = {"tracing": tracing, "envoy": {"server_wait_seconds": 30.0, **_envoys(collector)}}
        batching = {"default": {"max_rows": 16}, "check_share": 0}
        stack = Stack(folder / "shelf", [CachedSpec("n", batching=batching)], sections=sections)
        agent = stack.nodes["n"].agent
        agent.add_to("tracing", tracing)
        agent.add_to("envoy", _envoys(collector))
        async with stack, rest_client(stack.edge.http) as http:
            yield Scene(stack, collector, http)


def _envoys(collector: Collector) -> dict[str, Any]:
    return {"tracing": {"collector": collector.address, "sample_ratio": 0}}


EDGE = "envoy-clients:ingress/envoy-clients:async/tbms-edge:tbms.decide/tbms-edge:tbms.race/tbms-edge:tbms.candidate"
AT_NODE = f"{EDGE}/envoy-egress:ingress/envoy-egress:router/envoy-models:ingress"
HELD = f"{AT_NODE}/envoy-models:async/tbms-node:tbms.decide/tbms-node:tbms.hold"
WHOLE = {
    f"{EDGE}/envoy-egress:ingress/envoy-egress:async/tbms-edge:tbms.decide",
    f"{AT_NODE}/envoy-models:router",
    f"{HELD}/tbms-node:tbms.load/tbms-node:tbms.fetch",
    f"{HELD}/tbms-node:tbms.load/tbms-node:tbms.server_load",
}
"""The leaves of the trace of a raced call whose model has to be loaded first."""


async def test_from_the_client_to_the_load_it_is_one_trace(scene: Scene) -> None:
    reply = await scene.http.post("/v2/models/one/infer", content=BODY, headers={"tloc": "60000", **TRACED})
    assert reply.status_code == 200
    collector = scene.collector
    await collector.until(lambda: scene.ways_up(TRACE) >= WHOLE)
    spans = [span for span in collector.spans if span.trace == TRACE]
    (root,) = [span for span in spans if collector.by_id(span.parent) is None]
    assert (root.service, root.parent) == ("envoy-clients", CLIENT)
    assert {span.state for span in spans} == {"client=1"}
    assert not any(span.failed for span in spans)
    by_name = {span.name: span for span in spans if span.service.startswith("tbms")}
    assert by_name["tbms.race"].attributes["tbms.why"] == "primary"
    assert by_name["tbms.candidate"].attributes["tbms.fate"] == "won"
    assert by_name["tbms.load"].attributes["tbms.model"] == "one"
    hold, load, fetch, server = (by_name[f"tbms.{name}"] for name in ("hold", "load", "fetch", "server_load"))
    assert hold.begun <= load.begun <= fetch.begun < fetch.ended <= server.begun < server.ended <= load.ended
    assert {service for service, token in collector.tokens.items() if token == TOKEN} == {"tbms-edge", "tbms-node"}


async def queued(collector: Collector, calls: int) -> None:
    """Until so many have left their queue, and with them their batches."""
    await collector.until(lambda: len(collector.named("tbms.queue")) >= calls)


async def test_calls_that_share_a_batch_are_linked_with_it(scene: Scene) -> None:
    collector = scene.collector
    shared: list[SentSpan] = []
    sent = 0
    sharing = {"tloc": "60000;cross-request=1"}
    async with asyncio.timeout(60):
        while not shared:
            calls = [
                scene.http.post(
                    "/v2/models/one/infer",
                    content=BODY,
                    headers={**sharing, "traceparent": f"00-{n + 1:032x}-{CLIENT}-01"},
                )
                for n in range(16)
            ]
            assert {reply.status_code for reply in await asyncio.gather(*calls)} == {200}
            sent += len(calls)
            await queued(collector, sent)
            shared = [span for span in collector.named("tbms.batch") if len(span.links) > 1]
    batch = shared[0]
    assert batch.parent == ""
    assert len(batch.links) == batch.attributes["tbms.calls"]
    for trace, member in batch.links:
        await collector.until(lambda member=member: collector.by_id(member))
        queue = collector.by_id(member)
        assert queue is not None
        assert (queue.trace, queue.links) == (trace, ((batch.trace, batch.id),))
    # The batch's own call is in its trace, beyond the node's Envoy.
    beyond = "tbms-node:tbms.batch/envoy-egress:ingress"
    await collector.until(lambda: beyond in scene.ways_up(batch.trace))


async def test_a_call_without_a_sampled_caller_leaves_nothing_and_the_end_nothing_behind(scene: Scene) -> None:
    before = {span.trace for span in scene.collector.spans}
    unsampled = {"traceparent": f"00-{'ef' * 16}-{CLIENT}-00"}
    for headers in ({}, unsampled, {"traceparent": "00-nonsense", "tracestate": "x" * 4096}):
        assert (await scene.http.post("/v2/models/two/infer", content=BODY, headers=headers)).status_code == 200
    last = "12" * 16
    reply = await scene.http.post(
        "/v2/models/two/infer", content=BODY, headers={"traceparent": f"00-{last}-{CLIENT}-01", "tloc": "60000"}
    )
    assert reply.status_code == 200
    assert await scene.stack.edge.server.stop() == 0
    names = {span.name for span in scene.collector.spans if span.trace == last and span.service == "tbms-edge"}
    assert names >= {"tbms.decide", "tbms.race", "tbms.candidate"}, "a drain sends what is left"
    assert {span.trace for span in scene.collector.spans} - before == {last}
