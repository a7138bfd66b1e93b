from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process
from mesh.discovery.sources.envoy import EnvoySource, EnvoySourceSettings, nodes_of
from mesh.errors import MeshError
from mesh.node import Node
from tests.mesh.discovery.etcd import ids


def settings(**fields: object) -> EnvoySourceSettings:
    return EnvoySourceSettings.model_validate({"kind": "envoy", "grpc": "models_grpc", "rest": "models_rest", **fields})


def host(ip: str, port: int, **health: object) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": ip, "port_value": port}}, "health_status": health}


def clusters(**hosts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cluster_statuses": [{"name": name, "host_statuses": found} for name, found in hosts.items()]}


def test_hosts_of_one_address_are_one_node() -> None:
    told = clusters(
        models_grpc=[host("10.0.0.1", 8500), host("fd00::2", 8500)],
        models_rest=[host("10.0.0.1", 8501)],
        other=[host("10.0.0.9", 1)],
    )
    assert nodes_of(told, settings(residency=9903)).nodes == (
        Node("10.0.0.1", "10.0.0.1:8500", "10.0.0.1:8501", residency="10.0.0.1:9903"),
        Node("fd00-0-0-0-0-0-0-2", "[fd00::2]:8500", residency="[fd00::2]:9903"),
    )


def test_hosts_of_one_machine_are_nodes_of_their_own() -> None:
    told = clusters(models_rest=[host("127.0.0.1", 1001), host("127.0.0.1", 1002)])
    found = nodes_of(told, settings())
    assert found.nodes == (
        Node("127.0.0.1-1001", None, "127.0.0.1:1001"), Node("127.0.0.1-1002", None, "127.0.0.1:1002"),
    )  # fmt: skip


@pytest.mark.parametrize("status", ["UNHEALTHY", "DRAINING", "TIMEOUT"])
def test_a_host_that_the_control_plane_took_out_is_no_node(status: str) -> None:
    told = clusters(models_rest=[host("10.0.0.1", 1, eds_health_status=status), host("10.0.0.2", 1)])
    assert ids(nodes_of(told, settings())) == ["10.0.0.2"]


def test_a_host_that_is_removed_while_calls_still_run_is_no_node() -> None:
    told = clusters(models_rest=[host("10.0.0.1", 1, pending_dynamic_removal=True)])
    assert nodes_of(told, settings()).nodes == ()


def test_a_star_stands_for_the_end_of_a_name() -> None:
    told = {"cluster_statuses": [{"name": "models-0123456789abcdef", "host_statuses": [host("10.0.0.1", 1)]}]}
    assert ids(nodes_of(told, settings(rest="models-*"))) == ["10.0.0.1"]
    with pytest.raises(MeshError, match="no cluster"):
        nodes_of(told, settings())


@pytest.mark.parametrize("told", [None, [], {}, {"cluster_statuses": [3]}, {"cluster_statuses": [{"name": 3}]}])
def test_what_no_envoy_says_is_an_error(told: Any) -> None:
    with pytest.raises(MeshError):
        nodes_of(told, settings())


@pytest.mark.envoy
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_a_real_envoy(unix: bool, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    socket = tmp_path / "admin.sock"
    pipe, tcp = {"pipe": {"path": str(socket)}}, {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def cluster(name: str, *ports: int) -> dict[str, Any]:
        places = [("127.0.0.1", ports[0]), ("::1", ports[1])]
        hosts = [
            {"endpoint": {"address": {"socket_address": {"address": ip, "port_value": each}}}} for ip, each in places
        ]
        assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}
        return {"name": name, "type": "STATIC", "load_assignment": assignment}

    config = {
        "admin": {"address": pipe if unix else tcp},
        "static_resources": {"clusters": [cluster("models_grpc", 8500, 8600), cluster("models_rest", 8501, 8601)]},
    }
    bootstrap = tmp_path / "envoy.yaml"
    bootstrap.write_text(yaml.safe_dump(config))
    command: list[str | Path] = [envoy_binary("1.40"), "-c", bootstrap, "--disable-hot-restart", "--concurrency", "1"]
    envoy = Process("Envoy", command, tmp_path / "envoy.log")
    admin = f"unix:{socket}" if unix else f"127.0.0.1:{port}"

    async def listening() -> bool:
        connector = aiohttp.UnixConnector(str(socket)) if unix else aiohttp.TCPConnector()
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as http,
                http.get(f"http://127.0.0.1:{port}/ready") as reply,
            ):
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    await envoy.start(listening)
    try:
        async with aclosing(EnvoySource(settings(admin=admin, poll_seconds=0.1)).snapshots()) as snapshots:
            for _ in range(2):
                assert (await anext(snapshots)).nodes == (
                    Node("127.0.0.1", "127.0.0.1:8500", "127.0.0.1:8501"),
                    Node("0-0-0-0-0-0-0-1", "[::1]:8600", "[::1]:8601"),
                )
            await envoy.stop()
            with pytest.raises(MeshError):
                await anext(snapshots)
    finally:
        envoy.kill()
