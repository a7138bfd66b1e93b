"""The page of an edge while it serves: what it shows is what happened, and a node that is killed is shown as dead."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.sidecar import Sidecar
from tests.integration.conftest import need_envoy
from tests.integration.dashboard.conftest import OpenTab
from tests.integration.node.cache_node import write_onnx
from tests.integration.raw import rest_client
from tests.integration.recorder import recorder

pytestmark = pytest.mark.envoy

MODELS = tuple(f"m{number}" for number in range(6))
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
RACED = {"tloc": "20000;est=10", "backup": "m1;est=10"}


@dataclass
class Fleet:
    edge: Sidecar
    node: CachedNode


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A node that loads what it is asked for and gathers calls, another one, and an edge with a page of them."""
    need_envoy("1.40")
    folder = tmp_path_factory.mktemp("dashboard")
    for model in MODELS:
        write_onnx(folder / "shelf", model)
    (folder / "edge").mkdir()
    gather = {"models": {"m0": {"max_rows": 8}}, "check_share": 0}
    spec = CachedSpec("node-a", {"capacity": {"models": 8}}, batching=gather)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(recorder("node-b"))
        node = await stack.enter_async_context(CachedNode(spec, folder / "shelf", folder / "node-a"))
        ui = {"peers": [urlsplit(node.agent.admin).netloc], "seconds": 0.3}
        nodes = [node.node, replace(other.node, models=frozenset({"other"}))]
        yield Fleet(
            await stack.enter_async_context(Sidecar(folder / "edge", nodes, sections={"server": {"ui": ui}})), node
        )


async def call_all(http: httpx.AsyncClient) -> None:
    for model in MODELS:
        reply = await http.post(f"/v2/models/{model}/infer", json=BODY)
        assert reply.status_code == 200, reply.text
    for _ in range(5):
        reply = await http.post("/v2/models/m2/infer", json=BODY, headers=RACED)
        assert reply.status_code == 200, reply.text


async def test_what_happens_is_shown_while_it_happens(fleet: Fleet, open_tab: OpenTab) -> None:
    edge = fleet.edge
    async with rest_client(edge.http) as http, open_tab(f"{edge.admin}/ui") as tab:
        page = tab.page
        await page.locator("#connection", has_text="Live").wait_for()
        await call_all(http)
        await page.locator("#found", has_text=re.compile(f"^{len(MODELS) + 1} models$")).wait_for()
        await page.locator("#why tr", has_text="primary").wait_for()
        await page.locator("#fates tr", has_text="primary").get_by_text("5", exact=True).wait_for()
        await page.locator("#batch-rows tr", has_text="m0").wait_for()
        await page.locator("#tiles div", has_text="nodes alive").get_by_text("2 of 2").wait_for()
        processes = page.locator("#processes tr")
        assert await processes.count() == 2
        assert await processes.locator("[data-mark=good]").count() == 2
        await page.locator("#sources tr", has_text="fresh").first.wait_for()
        assert tab.origins() == {urlsplit(edge.admin).netloc}

        fleet.node.kill()
        row = page.locator("#nodes tr", has_text="node-a")
        await row.get_by_text("dead", exact=True).wait_for()
        await page.locator("#alarm", has_text="node-a is dead").wait_for()
        await page.locator("#processes tr", has_text="away").wait_for()
        await page.locator("#tiles div", has_text="nodes alive").get_by_text("1 of 2").wait_for()
