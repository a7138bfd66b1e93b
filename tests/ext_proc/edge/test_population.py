"""The nodes of an edge and where they come from, as the configuration is read anew and services fail."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ext_proc.config import Config
from ext_proc.edge.population import Population
from integration.peers.consul_agent import consul_agent
from integration.stack.ports import free_port
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from tests.certificates import Authority

PATIENCE = 60.0


def config(*discovery: dict[str, Any], nodes: tuple[dict[str, Any], ...] = ()) -> Config:
    return Config.model_validate({"nodes": nodes, "discovery": discovery, "probe": {"enabled": False}})


def static(*names: str) -> dict[str, Any]:
    return {"kind": "static", "nodes": [{"id": name, "rest": f"10.0.0.{ord(name)}:1"} for name in names]}


async def _no_far_node(node: Node) -> str | None:
    raise AssertionError(f"{node.id} is of this zone")


@asynccontextmanager
async def population(start: Config) -> AsyncIterator[tuple[Population, Callable[[], list[str]]]]:
    """It, and the ids of the nodes that the router knows."""
    cache_map, load_waits = CacheMap(), LoadWaits()
    router = Router(RoutingSettings(), cache_map, load_waits)
    made = Population(start, router, cache_map, load_waits, ReplyHints(cache_map, 10), time.monotonic, _no_far_node)
    async with made.running():
        yield made, lambda: sorted(node.id for node in router.nodes)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.02)


def metric(population: Population, name: str) -> dict[str, float]:
    """By source."""
    (family,) = [family for family in population.collect() if family.name == name]
    return {sample.labels["source"]: sample.value for sample in family.samples}


async def test_a_reload_takes_discovery_over_and_nodes_that_stay_are_never_away() -> None:
    async with consul_agent() as agent:
        await agent.put("c", "10.0.0.9", grpc="8500")
        here = {"kind": "consul", "url": agent.url, "service": "models", "wait_seconds": 1}
        async with population(config(here, static("a", "b"))) as (made, ids):
            assert ids() == ["a", "b", "c"]
            await until(lambda: len(agent.asked) >= 2)
            seen = []
            made.reload(config(static("b", "d"), here))
            while ids() != ["b", "c", "d"]:
                seen.append(ids())
                await asyncio.sleep(0.01)
            assert all({"b", "c"} <= set(each) for each in seen)
            assert agent.asked.count(0) == 1  # the entry that only moved was not opened anew
            assert [source.name for source in made.sources()] == [
                "the configuration", "discovery.0 (static)", "discovery.1 (consul)",
            ]  # fmt: skip
            # An entry that cannot be reached takes away nothing that was told by the one in whose place it stands.
            made.reload(config(static("b", "d"), {**here, "url": "http://127.0.0.1:1"}))
            await until(lambda: "discovery.1 (consul), replaced" in metric(made, "tbms_source_up"))
            await until(lambda: metric(made, "tbms_source_up")["discovery.1 (consul)"] == 0)
            assert ids() == ["b", "c", "d"]
            made.reload(config(static("b", "d")))
            await until(lambda: ids() == ["b", "d"])


async def test_a_certificate_that_expires_is_told_in_log_and_metric_and_takes_no_node_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, port = Authority(tmp_path), free_port()
    ours = authority.issue("edge.test")
    tls = {"ca": str(authority.ca), "certificate": str(ours.certificate), "key": str(ours.key)}
    entry = {"kind": "consul", "url": f"https://127.0.0.1:{port}", "service": "models", "tls": tls, "wait_seconds": 1}
    name = "discovery.0 (consul)"
    async with consul_agent(tls=authority.server(), port=port) as agent:
        await agent.put("c", "10.0.0.9", grpc="8500")
        running = population(config(entry))
        made, ids = await running.__aenter__()
    try:
        async with consul_agent(tls=authority.server(expired=True), port=port):
            await until(lambda: "certificate has expired" in str(made.sources()[1].cause))
            assert metric(made, "tbms_source_up")[name] == 0
            assert metric(made, "tbms_source_nodes")[name] == 1
            assert ids() == ["c"]
            told = [record for record in caplog.records if record.message == "a source of nodes failed"]
            assert told[-1].levelno == logging.WARNING
            assert told[-1].__dict__["source"] == name
            assert "its certificate is not accepted: 'certificate has expired'" in told[-1].__dict__["cause"]
        async with consul_agent(tls=authority.server(), port=port) as agent:
            await agent.put("d", "10.0.0.8", grpc="8500")
            await until(lambda: ids() == ["d"])
            assert metric(made, "tbms_source_up")[name] == 1
    finally:
        await running.__aexit__(None, None, None)
