import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from integration.peers.consul_agent import ConsulAgent, consul_agent
from mesh.discovery.registration import RegistrationSettings, open_registrations
from mesh.discovery.registration.keeping import Registration
from mesh.discovery.sources.consul import ConsulSettings, ConsulSource
from tests.mesh.discovery.etcd import PATIENCE, until
from tests.mesh.discovery.registration.work import eventually, running


@pytest.fixture
async def agent() -> AsyncIterator[ConsulAgent]:
    async with consul_agent() as agent:
        yield agent


def settings(url: str, node: dict[str, Any] | None = None, **fields: Any) -> RegistrationSettings:
    via = {"kind": "consul", "url": url, "service": "models", "ttl_seconds": 3, "timeout": 2, **fields}
    basic = {"id": "node-a", "grpc": "[fd00::1]:8500", "rest": "[fd00::1]:8501", "zone": "west", "weight": 2.5}
    return RegistrationSettings.model_validate({**basic, "models": ["m", "n"], **(node or {}), "via": [via]})


def registration(url: str, **fields: Any) -> Registration:
    (opened,) = open_registrations(settings(url, **fields))
    return opened


async def test_what_is_registered_is_what_the_source_finds_and_it_is_withdrawn(agent: ConsulAgent) -> None:
    opened = registration(agent.url)
    source = ConsulSource(ConsulSettings(kind="consul", url=agent.url, service="models", wait_seconds=1))
    async with aclosing(source.snapshots()) as snapshots:
        async with running(opened.run()):
            found = await until(snapshots, lambda found: found.nodes != ())
            assert found.nodes == (settings(agent.url).node(),)
            assert opened.registered
        assert agent.instances == ["node-a"]
        await opened.withdraw()
        assert not opened.registered
        await until(snapshots, lambda found: found.nodes == ())
    await opened.withdraw()


async def test_it_outlives_its_time_while_it_runs_and_not_when_it_is_gone(agent: ConsulAgent) -> None:
    opened = registration(agent.url)
    async with running(opened.run()):
        await eventually(lambda: _renewed(agent, 4))  # four thirds of its time
        assert agent.instances == ["node-a"]
        assert len(agent.registered) == 1
    await eventually(lambda: _is(agent, []))


async def test_what_the_agent_has_forgotten_is_registered_anew(agent: ConsulAgent) -> None:
    opened = registration(agent.url)
    async with running(opened.run()):
        await eventually(lambda: _is(agent, ["node-a"]))
        await agent.forget()
        await eventually(lambda: _is(agent, ["node-a"]))
    assert len(agent.registered) == 2


async def test_what_another_process_of_the_node_has_registered_is_not_taken_back(agent: ConsulAgent) -> None:
    leaves, comes = registration(agent.url), registration(agent.url)
    async with running(leaves.run()):
        await eventually(lambda: _is(agent, ["node-a"]))
        async with running(comes.run()):
            await eventually(lambda: _registered(agent, 2))
            both = agent.renewals + 4
            await eventually(lambda: _renewed(agent, both))
            assert len(agent.registered) == 2  # neither writes over the other
    await leaves.withdraw()
    assert agent.instances == ["node-a"]
    await comes.withdraw()
    assert agent.instances == []


async def test_a_wrong_token_is_logged_without_it_and_the_right_one_is_taken_up(
    agent: ConsulAgent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent.token, file = "good", tmp_path / "token"
    file.write_text("evil\n")
    opened = registration(agent.url, token_file=str(file))
    async with running(opened.run()) as task:
        await eventually(lambda: _logged(caplog, "cannot register"))
        file.write_text("good\n")
        await eventually(lambda: _is(agent, ["node-a"]))
        assert not task.done()
    record = next(record for record in caplog.records if record.message == "cannot register")
    assert 'status 403: "Permission denied' in record.__dict__["cause"]
    assert "evil" not in caplog.text + str([record.__dict__ for record in caplog.records])


async def test_it_waits_for_an_agent_that_is_away_and_a_withdrawal_does_not(agent: ConsulAgent) -> None:
    opened = registration("http://127.0.0.1:1")
    async with running(opened.run()) as task:
        await asyncio.sleep(0)
        assert not task.done()
    async with asyncio.timeout(PATIENCE):
        await opened.withdraw()


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"rest": "10.0.0.2:8501"}, "Consul knows one address for an instance"),
        ({"models": ["a,b"]}, "leave them out"),
        ({"models": [f"model-{number}" for number in range(100)]}, "leave them out"),
    ],
)
def test_what_an_instance_cannot_say_is_refused(node: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings("http://127.0.0.1:8500", node)


async def _is(agent: ConsulAgent, instances: list[str]) -> bool:
    return agent.instances == instances


async def _renewed(agent: ConsulAgent, times: int) -> bool:
    return agent.renewals >= times


async def _registered(agent: ConsulAgent, times: int) -> bool:
    return len(agent.registered) >= times


async def _logged(caplog: pytest.LogCaptureFixture, message: str) -> bool:
    return any(record.message == message for record in caplog.records)
