"""The page of an edge while it serves: what it shows is what happened, and a node that is killed is shown as dead."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
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

pytestmark = pytest.mark.envoy

MODELS = tuple(f"m{number}" for number in range(6))
FLEET = ("node-a", "node-b")
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
RACED = {"tloc": "20000;est=10", "backup": "m1;est=10"}
FEW_SECONDS = 6_000  # milliseconds


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Sidecar, dict[str, CachedNode]]]:
    """Two nodes that load what they are asked for and gather calls, and an edge whose page shows all three."""
    need_envoy("1.40")
    folder = tmp_path_factory.mktemp("dashboard")
    shelf = folder / "shelf"
    for model in MODELS:
        write_onnx(shelf, model)
    gather = {"models": {"m0": {"max_rows": 8}}, "check_share": 0}
    capacity = {"capacity": {"models": 8}}
    nodes = {name: CachedNode(CachedSpec(name, capacity, batching=gather), shelf, folder / name) for name in FLEET}
    peers = [urlsplit(node.agent.admin).netloc for node in nodes.values()]
    edge_folder: Path = folder / "edge"
    edge_folder.mkdir()
    sections = {"server": {"ui": {"peers": peers, "seconds": 0.3}}, "routing": {"replicas": 1}}
    edge = Sidecar(edge_folder, [node.node for node in nodes.values()], sections=sections)
    try:
        await asyncio.gather(*(node.start() for node in nodes.values()))
        async with edge:
            yield edge, nodes
    finally:
        for node in nodes.values():
            node.kill()


async def call_all(http: httpx.AsyncClient) -> None:
    for model in MODELS:
        reply = await http.post(f"/v2/models/{model}/infer", json=BODY)
        assert reply.status_code == 200, reply.text
    for _ in range(5):
        reply = await http.post("/v2/models/m2/infer", json=BODY, headers=RACED)
        assert reply.status_code == 200, reply.text


async def test_what_happens_is_shown_while_it_happens(
    fleet: tuple[Sidecar, dict[str, CachedNode]], open_tab: OpenTab
) -> None:
    edge, nodes = fleet
    async with rest_client(edge.http) as http, open_tab(f"{edge.admin}/ui") as tab:
        page = tab.page
        await page.locator("#connection", has_text="Live").wait_for()
        await call_all(http)
        await page.locator("#found", has_text=re.compile(f"^{len(MODELS)} models$")).wait_for()
        await page.locator("#why tr", has_text="primary").wait_for()
        assert await page.locator("#fates tr", has_text="primary").locator("td").nth(1).inner_text() == "5"
        await page.locator("#batch-rows tr", has_text="m0").wait_for()
        await page.locator("#tiles div", has_text="nodes alive").get_by_text("2 of 2").wait_for()
        processes = page.locator("#processes tr")
        assert await processes.count() == 3
        assert await processes.locator("[data-mark=good]").count() == 3
        await page.locator("#sources tr", has_text="fresh").first.wait_for()
        assert tab.origins() == {urlsplit(edge.admin).netloc}

        nodes["node-b"].kill()
        row = page.locator("#nodes tr", has_text="node-b")
        await row.get_by_text("dead", exact=True).wait_for(timeout=FEW_SECONDS)
        await page.locator("#alarm", has_text="node-b is dead").wait_for(timeout=FEW_SECONDS)
        await page.locator("#processes tr", has_text="away").wait_for(timeout=FEW_SECONDS)
        await page.locator("#tiles div", has_text="nodes alive").get_by_text("1 of 2").wait_for(timeout=FEW_SECONDS)


async def test_a_page_whose_server_drains_says_so_and_finds_the_next_one(
    fleet: tuple[Sidecar, dict[str, CachedNode]], open_tab: OpenTab
) -> None:
    edge, _ = fleet
    async with open_tab(f"{edge.admin}/ui") as tab:
        await tab.page.locator("#connection", has_text="Live").wait_for()
        await edge.server.stop()
        await tab.page.locator("#connection:not([data-state=live])").wait_for()
        await edge.start_server()
        await tab.page.locator("#connection", has_text="Live").wait_for()
        # The browser itself tells its console of tries that failed.
        tab.complaints[:] = [each for each in tab.complaints if "Failed to load resource" not in each]
