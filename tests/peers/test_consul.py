"""The Consul source and registration against a real agent, with ACLs."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from integration.peers.consul import Consul, ConsulTls
from integration.peers.ways import CONSUL_EDGE, CONSUL_NODE
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from mesh.discovery.registration import RegistrationSettings, open_registrations
from mesh.discovery.registry import Registry
from mesh.discovery.sources.consul import ConsulSettings, ConsulSource
from mesh.errors import MeshError
from mesh.node import Node
from tests.certificates import Authority
from tests.mesh.discovery.etcd import PATIENCE, ids, until
from tests.mesh.discovery.registration.work import running
from tests.mesh.routing import population as fresh
from tests.peers.following import following

ROOT = Path(__file__).parents[2]
NOBODY = Served("127.0.0.1:1", "127.0.0.1:1")


def real_consul(folder: Path, tls: ConsulTls | None = None) -> Consul:
    try:
        return Consul(folder, tls)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consul]:
    async with real_consul(tmp_path_factory.mktemp("consul")) as agent:
        yield agent


@pytest_asyncio.fixture(loop_scope="session")
async def agent(started: Consul) -> Consul:
    """Without instances of earlier tests."""
    for name, service in (await started.call("GET", "/v1/agent/services")).items():
        if service["Service"] == "models":
            await started.delete(name)
    return started


async def source(agent: Consul, folder: Path, rules: str = CONSUL_EDGE, **fields: Any) -> ConsulSource:
    (folder / "edge.token").write_text(await agent.token(rules))
    basic = {"kind": "consul", "url": agent.url, "service": "models", "token_file": folder / "edge.token"}
    return ConsulSource(ConsulSettings.model_validate({**basic, "wait_seconds": 1, **fields}))


async def eventually(what: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(2 * PATIENCE):
        while not await what():
            await asyncio.sleep(0.1)


async def instances(agent: Consul) -> list[str]:
    """Those that pass their checks, as the servers know them."""
    found = await agent.call("GET", "/v1/health/service/models?passing=true")
    return sorted(each["Service"]["ID"] for each in found)


def test_what_edges_and_nodes_must_be_allowed_stands_in_the_document() -> None:
    page = (ROOT / "docs/discovery.md").read_text()
    assert all(rule in page for rules in (CONSUL_EDGE, CONSUL_NODE) for rule in rules.splitlines())


async def test_instances_join_leave_and_fail_their_checks(agent: Consul, tmp_path: Path) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500", rest="8501", residency="9903", zone="west", weight="2")
    async with aclosing((await source(agent, tmp_path)).snapshots()) as snapshots:
        assert (await anext(snapshots)).nodes == (
            Node("a", "10.0.0.1:8500", "10.0.0.1:8501", "west", 2.0, residency="10.0.0.1:9903"),
        )
        await agent.put("b", "fd00::2", grpc="8500")
        await until(snapshots, lambda found: sorted(ids(found)) == ["a", "b"])
        check = {"Name": "of b", "ID": "of-b", "ServiceID": "b", "TTL": "600s", "Status": "critical"}
        await agent.call("PUT", "/v1/agent/check/register", check)
        await until(snapshots, lambda found: ids(found) == ["a"])
        await agent.call("PUT", "/v1/agent/check/pass/of-b")
        await until(snapshots, lambda found: sorted(ids(found)) == ["a", "b"])
        await agent.delete("a")
        await until(snapshots, lambda found: ids(found) == ["b"])
        assert ids(await anext(snapshots)) == ["b"]  # nothing new within `wait_seconds`


async def test_what_tf_serving_cache_registers_is_read(agent: Consul, tmp_path: Path) -> None:
    await agent.put("cache-1", "10.0.0.1", tags=("rest:8093", "grpc:8100"))
    async with aclosing((await source(agent, tmp_path, layout="tfservingcache")).snapshots()) as snapshots:
        assert (await anext(snapshots)).nodes == (Node("cache-1", "10.0.0.1:8100", "10.0.0.1:8093"),)


@pytest.mark.parametrize("rules", ['service "others" { policy = "read" }', 'service "models" { policy = "read" }'])
async def test_a_token_that_may_not_read_all_of_it_is_an_error_and_no_fleet_without_nodes(
    rules: str, agent: Consul, tmp_path: Path
) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500")
    with pytest.raises(MeshError, match="the token does not allow"):
        await anext((await source(agent, tmp_path, rules)).snapshots())


async def test_a_token_that_is_wrong_and_one_that_is_revoked_keep_the_last_nodes(agent: Consul, tmp_path: Path) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500")
    chosen = await source(agent, tmp_path)
    router = fresh.router()
    async with following(Registry({"consul": chosen}, router)) as registry:
        await eventually(lambda: _are(router, "a"))
        secret = (tmp_path / "edge.token").read_text()
        accessors = await agent.call("GET", "/v1/acl/tokens")
        (accessor,) = [each["AccessorID"] for each in accessors if each["SecretID"] == secret]
        await agent.call("DELETE", f"/v1/acl/token/{accessor}")
        await eventually(lambda: _is_down(registry))
        cause = str(registry.states()[0].cause)
        assert "status 403: 'ACL not found'" in cause
        assert secret not in cause
        assert [node.id for node in router.nodes] == ["a"]
        (tmp_path / "edge.token").write_text(await agent.token(CONSUL_EDGE))
        await agent.put("b", "10.0.0.2", grpc="8500")
        await eventually(lambda: _are(router, "a", "b"))


async def test_a_restart_of_the_agent_takes_no_node_away_and_what_its_servers_forgot_it_tells_them_again(
    agent: Consul, tmp_path: Path
) -> None:
    await agent.put("a", "10.0.0.1", grpc="8500")
    await agent.put("b", "10.0.0.2", grpc="8500")
    router = fresh.router()
    async with following(Registry({"consul": await source(agent, tmp_path)}, router)) as registry:
        await agent.process.stop()
        await eventually(lambda: _is_down(registry))
        assert [node.id for node in router.nodes] == ["a", "b"]
        await agent.start()
        await eventually(lambda: _is_up(registry))
        await eventually(lambda: _are(router, "a", "b"))
        # Behind the agent's back. It compares what it knows with what they know when it starts, and each minute.
        await agent.call("PUT", "/v1/catalog/deregister", {"Node": "vm", "ServiceID": "b"})
        await eventually(lambda: _are(router, "a"))
        await agent.process.stop()
        await agent.start()
        await eventually(lambda: _are(router, "a", "b"))


def registration(agent: Consul, token: Path, **node: Any) -> RegistrationSettings:
    via = {"kind": "consul", "url": agent.url, "service": "models", "ttl_seconds": 3, "token_file": str(token)}
    basic = {"id": "node-a", "grpc": "10.0.0.1:8500", "rest": "10.0.0.1:8501", "zone": "west", "models": ["m", "n"]}
    return RegistrationSettings.model_validate({**basic, **node, "via": [via]})


async def test_a_node_registers_itself_lives_on_and_is_gone_when_it_is_withdrawn_or_dies(
    agent: Consul, tmp_path: Path
) -> None:
    token = tmp_path / "node.token"
    token.write_text(await agent.token(CONSUL_NODE))
    settings = registration(agent, token)
    (leaves,) = open_registrations(settings)
    async with aclosing((await source(agent, tmp_path)).snapshots()) as snapshots:
        async with running(leaves.run()):
            found = await until(snapshots, lambda found: found.nodes != ())
            assert found.nodes == (settings.node(),)
            await agent.delete("node-a")  # as by an agent that comes back without its data
            await until(snapshots, lambda found: found.nodes == ())
            await until(snapshots, lambda found: ids(found) == ["node-a"])
            await asyncio.sleep(4.5)  # longer than the check passes by itself
            assert await instances(agent) == ["node-a"]
        await leaves.withdraw()
        await until(snapshots, lambda found: found.nodes == ())
        (dies,) = open_registrations(settings)
        async with running(dies.run()):
            await until(snapshots, lambda found: ids(found) == ["node-a"])
        await until(snapshots, lambda found: found.nodes == ())


async def test_of_two_processes_of_a_node_the_one_that_leaves_does_not_take_the_others_entry_back(
    agent: Consul, tmp_path: Path
) -> None:
    token = tmp_path / "node.token"
    token.write_text(await agent.token(CONSUL_NODE))
    settings = registration(agent, token)
    (leaves,), (comes,) = open_registrations(settings), open_registrations(settings)
    async with running(leaves.run()):
        await eventually(lambda: _known(agent))
        async with running(comes.run()):
            await eventually(lambda: _yes(comes.registered))
            await leaves.withdraw()
            assert await _known(agent)
    await comes.withdraw()
    assert not await _known(agent)


async def test_a_token_that_may_not_register_is_logged_and_the_registration_waits(
    agent: Consul, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "node.token"
    token.write_text(await agent.token(CONSUL_EDGE))
    (opened,) = open_registrations(registration(agent, token))
    async with running(opened.run()):
        await eventually(lambda: _yes(any(record.message == "cannot register" for record in caplog.records)))
        (cause, *_) = [record.__dict__["cause"] for record in caplog.records if record.message == "cannot register"]
        assert "status 403" in cause
        assert "Permission denied" in cause
        assert not opened.registered
        token.write_text(await agent.token(CONSUL_NODE))
        await eventually(lambda: _yes(opened.registered))
    await opened.withdraw()


async def test_a_server_in_the_node_role_is_taken_back_before_it_goes(agent: Consul, tmp_path: Path) -> None:
    token = tmp_path / "node.token"
    token.write_text(await agent.token(CONSUL_NODE))
    (tmp_path / "shelf").mkdir()
    node = CachedNode(CachedSpec("node-a"), tmp_path / "shelf", tmp_path / "node", NOBODY, drain_seconds=600)
    via = {"kind": "consul", "url": agent.url, "service": "models", "token_file": str(token), "ttl_seconds": 600}
    section = {"id": "node-a", "grpc": node.node.grpc, "residency": node.node.residency, "via": [via]}
    node.agent.add_to("node", {"registration": section})
    node.agent.write_config()
    try:
        await node.agent.start_server()
        await eventually(lambda: _known(agent))
        node.agent.server.signal(signal.SIGTERM)
        await eventually(lambda: _yes(not node.agent.server.running))
        assert not await _known(agent)
    finally:
        node.kill()


async def test_tls_with_certificates_of_both_sides_and_expired_ones(authority: Authority, tmp_path: Path) -> None:
    theirs, gone = authority.issue("127.0.0.1"), authority.issue("127.0.0.1", expired=True)
    shown = ConsulTls(tmp_path / "consul.pem", tmp_path / "consul.key", authority.ca)
    shown.certificate.write_bytes(theirs.certificate.read_bytes())
    shown.key.write_bytes(theirs.key.read_bytes())
    async with real_consul(tmp_path, shown) as agent:
        await agent.put("a", "10.0.0.1", grpc="8500")

        async def over_tls(*, expired: bool = False) -> ConsulSource:
            ours = authority.issue("edge.test", expired=expired)
            tls = {"ca": authority.ca, "certificate": ours.certificate, "key": ours.key}
            return await source(agent, tmp_path, url=agent.tls_url, tls=tls)

        with pytest.raises(MeshError, match=r"TLS failed: .*CERTIFICATE"):
            await anext((await over_tls(expired=True)).snapshots())
        router = fresh.router()
        async with following(Registry({"consul": await over_tls()}, router)) as registry:
            assert [node.id for node in router.nodes] == ["a"]
            shown.certificate.write_bytes(gone.certificate.read_bytes())
            shown.key.write_bytes(gone.key.read_bytes())
            await agent.process.stop()
            await agent.process.start(_at_once)
            await eventually(lambda: _yes("certificate has expired" in str(registry.states()[0].cause)))
            assert [node.id for node in router.nodes] == ["a"]


async def _at_once() -> bool:
    return True


async def _yes(answer: bool) -> bool:
    return answer


async def _known(agent: Consul) -> bool:
    return await instances(agent) == ["node-a"]


async def _is_down(registry: Registry) -> bool:
    return registry.states()[0].down is not None


async def _is_up(registry: Registry) -> bool:
    return registry.states()[0].down is None


async def _are(router: Any, *wanted: str) -> bool:
    return [node.id for node in router.nodes] == list(wanted)
