import asyncio
import json
from pathlib import Path

import pytest
import yaml
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from ext_proc.edge.endpoint_files import EndpointFiles, update_endpoint_files
from ext_proc.envoy_config.parts.endpoints import assignment
from mesh.address import parse_endpoint
from mesh.node import Node

A, B = Node("a", "10.0.0.1:8500", "[fd00::1]:8501"), Node("b", "10.0.0.2:8500", "10.0.0.2:8501")


def listed(folder: Path, name: str) -> list[str]:
    (resource,) = yaml.safe_load((folder / f"{name}.yaml").read_text())["resources"]
    assert resource["cluster_name"] == name
    found = []
    for locality in resource["endpoints"]:
        for host in locality["lb_endpoints"]:
            socket = host["endpoint"]["address"]["socket_address"]
            found.append(f"{socket['address']} {socket['port_value']}")
    return found


def test_a_file_is_what_the_typed_message_would_be(tmp_path: Path) -> None:
    update_endpoint_files(tmp_path, [A, B])
    (resource,) = json.loads((tmp_path / "models_rest.yaml").read_text())["resources"]
    assert resource.pop("@type").endswith("/envoy.config.endpoint.v3.ClusterLoadAssignment")
    wanted = assignment("models_rest", map(parse_endpoint, ("[fd00::1]:8501", "10.0.0.2:8501")))
    assert ClusterLoadAssignment.from_dict(resource) == wanted


def test_until_every_source_has_spoken_nothing_is_taken_out(tmp_path: Path) -> None:
    update_endpoint_files(tmp_path, [A])
    update_endpoint_files(tmp_path, [B], keep=True)
    assert listed(tmp_path, "models_grpc") == ["10.0.0.2 8500", "10.0.0.1 8500"]
    assert listed(tmp_path, "models_rest") == ["10.0.0.2 8501", "fd00::1 8501"]
    update_endpoint_files(tmp_path, [B], keep=True)
    assert listed(tmp_path, "models_grpc") == ["10.0.0.2 8500", "10.0.0.1 8500"]
    update_endpoint_files(tmp_path, [B])
    assert listed(tmp_path, "models_grpc") == ["10.0.0.2 8500"]
    update_endpoint_files(tmp_path, [])
    assert listed(tmp_path, "models_grpc") == []


@pytest.mark.parametrize("text", ["", "[", "resources: 3", "resources: [{endpoints: [{}]}]", "\x00", "- a"])
def test_a_file_that_somebody_broke_is_written_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "models_grpc.yaml").write_text(text)
    update_endpoint_files(tmp_path, [A], keep=True)
    assert listed(tmp_path, "models_grpc") == ["10.0.0.1 8500"]


async def test_it_writes_each_change_until_it_is_cancelled(tmp_path: Path) -> None:
    files = EndpointFiles(tmp_path / "made", lambda: True)
    running = asyncio.create_task(files.run())
    files.update([A])
    await files.written.wait()
    assert listed(tmp_path / "made", "models_grpc") == ["10.0.0.1 8500"]
    files.update([B])
    async with asyncio.timeout(60):
        while listed(tmp_path / "made", "models_grpc") != ["10.0.0.2 8500"]:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
