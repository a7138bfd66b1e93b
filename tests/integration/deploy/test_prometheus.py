"""A real Prometheus scrapes a running edge and node: dashboards show something, rules are healthy, nothing fires."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from integration.peers.collector import Collector
from integration.peers.prometheus import Prometheus, binary
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.stack import Stack
from tests.deploy.expressions import DASHBOARDS, RULES, alerts, queries
from tests.integration.conftest import need_envoy
from tests.integration.eventually import comes_to
from tests.integration.kinds import BODY
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import rest_client

pytestmark = pytest.mark.envoy

EXPECTED_EMPTY = {
    ("edge", "Beside the races", "not raced: Envoy {{envoy}}"): "this Envoy is new enough",
    ("edge", "Beside the races", "copies: {{outcome}}"): "no model has a shadow here",
    ("nodes", "Free room: disk and memory", "{{instance}} memory"): "the node has no bound on memory",
    ("nodes", "Refused, alone, failed", "refused: {{why}}"): "nothing is late",
    ("nodes", "Refused, alone, failed", "alone: {{why}}"): "all calls take company",
    **{
        ("edge", title, legend): "a node that has a tbms gathers by itself"
        for title, legend in (
            ("Calls of a batch", "{{model}}"),
            ("Lag", "{{model}}"),
            ("Time of a batch", "{{model}}"),
            ("Why batches left", "{{why}}"),
            ("Refused, alone, failed", "refused: {{why}}"),
            ("Refused, alone, failed", "alone: {{why}}"),
            ("Refused, alone, failed", "batches: {{outcome}}"),
        )
    },
}
"""Queries that give nothing on a fleet that is well, and why. A node has the same queries of batches."""
JOBS = {"edge": "tbms-edge", "nodes": "tbms-node"}

TRACE = "ab" * 16
RACED = {"tloc": "20000", "backup": "two;est=5", "traceparent": f"00-{TRACE}-{'cd' * 8}-01"}
SHARING = {"tloc": "20000;cross-request=1;cross-lag=5"}


@dataclass
class Scene:
    """A fleet and who scrapes it."""

    stack: Stack[CachedNode]
    prometheus: Prometheus
    begun: float


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    need_envoy("1.40")
    try:
        binary("prometheus")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    shelf = tmp_path_factory.mktemp("shelf")
    for name in ("one", "two", "three"):
        write_onnx(shelf, name)
    node = CachedSpec(
        "a",
        cache={"capacity": {"models": 2, "disk_bytes": "1GiB"}},
        batching={"default": {"max_rows": 16}, "check_share": 0},
    )
    sections: dict[str, Any] = {
        "envoy": {"server_wait_seconds": 30.0},
        "batching": {"models": {"three": {"max_rows": 16, "cross_request": True}}, "check_share": 0},
    }
    async with Collector() as collector:
        sections["tracing"] = {"endpoint": collector.endpoint}
        stack = Stack(shelf, [node], sections=sections)
        stack.nodes["a"].agent.add_to("tracing", sections["tracing"])
        async with scraping(stack, tmp_path_factory.mktemp("prometheus")) as running:
            yield running


@asynccontextmanager
async def scraping(stack: Stack[CachedNode], folder: Path) -> AsyncIterator[Scene]:
    begun = time.time()
    async with stack:
        targets = {
            JOBS["edge"]: [stack.edge.admin.removeprefix("http://")],
            JOBS["nodes"]: [stack.nodes["a"].agent.admin.removeprefix("http://")],
        }
        async with Prometheus(folder, targets, [RULES]) as prometheus, rest_client(stack.edge.http) as http:
            await until(lambda: scraped(prometheus, 1))
            await some_calls(http)
            await until(lambda: scraped(prometheus, 4))
            await some_calls(http)
            await until(lambda: scraped(prometheus, 7))
            yield Scene(stack, prometheus, begun)


async def scraped(prometheus: Prometheus, times: int) -> bool:
    found = await prometheus.query("min(count_over_time(up[5m]))")
    return bool(found) and float(found[0]["value"][1]) >= times


async def some_calls(http: httpx.AsyncClient) -> None:
    """Of each way: known or decided, raced, gathered; with loads, and one that makes room for another model."""
    for name in ("one", "two", "three", "one"):
        assert (await http.post(f"/v2/models/{name}/infer", content=BODY)).status_code == 200
    for headers in (RACED, SHARING):
        replies = await asyncio.gather(
            *(http.post("/v2/models/one/infer", content=BODY, headers=headers) for _ in range(4))
        )
        assert {reply.status_code for reply in replies} == {200}


def filled_in(expression: str, job: str) -> str:
    """As Grafana does, with every instance chosen."""
    return expression.replace("$job", job).replace("$instance", ".*").replace("$__rate_interval", "1m")


async def test_every_query_of_the_dashboards_gives_something(scene: Scene) -> None:
    async def empty() -> set[tuple[str, str, str]]:
        return {
            (name, title, legend)
            for name in DASHBOARDS
            for title, legend, expression in queries(name)
            if not await scene.prometheus.query(filled_in(expression, JOBS[name]))
        }

    # A busy machine may have kept a scrape from its answer.
    assert await comes_to(empty, set(EXPECTED_EMPTY)) == set(EXPECTED_EMPTY)


async def test_a_traced_call_is_an_exemplar_of_the_histograms_that_it_was_counted_in(scene: Scene) -> None:
    for series in ("tbms_decision_seconds_bucket", "tbms_race_seconds_bucket"):
        found = await scene.prometheus.exemplars(series, scene.begun)
        assert TRACE in {each["labels"]["trace_id"] for each in found}, series


async def test_rules_are_healthy_and_see_the_one_thing_that_is_wrong_with_this_fleet(scene: Scene) -> None:
    rules = {rule["name"]: rule for rule in await scene.prometheus.rules()}
    assert {name: rule["health"] for name, rule in rules.items()} == dict.fromkeys(alerts(), "ok")

    async def stirred() -> dict[str, str]:
        return {rule["name"]: rule["state"] for rule in await scene.prometheus.rules() if rule["state"] != "inactive"}

    too_small = {"TbmsCacheTooSmall": "pending"}
    assert await comes_to(stirred, too_small) == too_small, "three models, and room for two"


async def test_names_are_as_prometheus_has_them(scene: Scene) -> None:
    for admin in (scene.stack.edge.admin, scene.stack.nodes["a"].agent.admin):
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{admin}/metrics")).content
        command = [binary("promtool"), "check", "metrics"]
        done = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, timeout=60)
        told = (done.stdout + done.stderr).decode()
        assert "tbms_" in text.decode()
        assert [line for line in told.splitlines() if "tbms_" in line] == []
