"""Models change while the server runs; a configuration that cannot hold changes nothing, and says why."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest_asyncio

from ext_proc.wire.call import InferenceProtocol
from integration.stack.sidecar import Sidecar
from tests.integration.conftest import need_envoy
from tests.integration.racing.puppet import Part, puppet
from tests.integration.racing.racing import RULES, Client


@pytest_asyncio.fixture(loop_scope="session")
async def edge(tmp_path_factory) -> AsyncIterator[Sidecar]:
    need_envoy("1.40")
    async with puppet() as show:
        models = {"bert": {"alias": "svm"}}
        sections = {"broker": RULES, "models": models}
        async with Sidecar(tmp_path_factory.mktemp("reload"), [show.node], sections=sections) as running:
            show.plays(svm=Part(1), bayes=Part(2))
            yield running


async def reloads(edge: Sidecar, result: str) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{edge.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    name = f'tbms_config_reloads_total{{result="{result}"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


async def rewrite(edge: Sidecar, change: Callable[[str], str], result: str) -> None:
    """Returns once the server has read the changed file and come to that result."""
    before = await reloads(edge, result)
    changed = edge.config.with_suffix(".changed")
    changed.write_text(change(edge.config.read_text()))
    changed.replace(edge.config)
    async with asyncio.timeout(60):
        while await reloads(edge, result) == before:
            await asyncio.sleep(0.02)


async def test_a_cycle_is_refused_and_the_old_models_stay(edge: Sidecar) -> None:
    good = edge.config.read_text()
    async with Client(edge) as client:
        assert (await client.call(InferenceProtocol.TFS_REST, "bert")).value == 1
        await rewrite(edge, lambda text: text.replace("alias: svm", "alias: bert"), "refused")
        assert (await client.call(InferenceProtocol.TFS_REST, "bert")).value == 1
        log = edge.server.log.read_text()
        assert "configuration refused, the old one stays" in log
        assert "bert" in log.rpartition("configuration refused")[2]
        await rewrite(edge, lambda _: good.replace("alias: svm", "alias: bayes"), "taken")
        assert (await client.call(InferenceProtocol.TFS_REST, "bert")).value == 2
