"""The units, by systemd's own tools."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.address import parse_address
from tests.deploy.files import DEPLOY, configuration

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OURS = ("edge", "node")
# What systemd-analyze counts: from 0 to 10. Theirs have to reach GPUs and their libraries.
EXPOSURE = {"tbms-edge": "15", "tbms-node": "15", "tf-serving": "55", "triton": "55"}


def options(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.M):
        found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def analyze(tmp_path: Path) -> list[Path]:
    """The units with programs that this machine has, as systemd looks whether there are any."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    units = []
    for unit in UNITS:
        text = re.sub(r"^(Exec\w+=\+?)\S+", r"\1/bin/true", unit.read_text(), flags=re.M)
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)
    return units


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_systemd_takes_every_line_of_them(analyze: list[Path]) -> None:
    run("systemd-analyze", "verify", "--man=no", *analyze)


def test_they_are_exposed_to_little(analyze: list[Path]) -> None:
    assert {unit.stem for unit in analyze} == EXPOSURE.keys()
    for unit in analyze:
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[unit.stem]}", "--no-pager", unit)


@pytest.mark.parametrize("role", OURS)
def test_a_drain_ends_before_the_process_is_killed(role: str) -> None:
    (seconds,) = options(DEPLOY / f"systemd/tbms-{role}.service")["TimeoutStopSec"]
    assert float(seconds) >= configuration(f"systemd/{role}.yaml").server.drain_seconds + 15


@pytest.mark.parametrize("role", OURS)
def test_the_folder_is_there_before_the_sidecar_and_stays_over_a_restart(role: str) -> None:
    unit = options(DEPLOY / f"systemd/tbms-{role}.service")
    assert unit["Before"] == ["kuma-dp.service"]
    assert unit["RuntimeDirectoryPreserve"] == ["yes"]
    (folder,) = unit["RuntimeDirectory"]
    assert configuration(f"systemd/{role}.yaml").server.listen.startswith(f"unix:/run/{folder}/")


def test_the_map_is_laid_before_the_edge_starts() -> None:
    unit = options(DEPLOY / "systemd/tbms-edge.service")
    (serve,) = unit["ExecStart"]
    assert unit["ExecStartPre"][-1] == serve.replace(" serve ", " known-map ")
    assert "known-map" not in (DEPLOY / "systemd/tbms-node.service").read_text()


def test_the_sidecar_is_in_the_group_whose_sockets_they_are() -> None:
    drop_in = options(DEPLOY / "systemd/kuma-dp.service.d-tbms.conf")
    for role in OURS:
        assert options(DEPLOY / f"systemd/tbms-{role}.service")["Group"] == drop_in["SupplementaryGroups"] == ["tbms"]
    assert re.search(r"^u tbms ", (DEPLOY / "systemd/tbms.sysusers.conf").read_text(), re.M)


def test_the_models_lie_where_the_model_servers_may_read() -> None:
    (state,) = options(DEPLOY / "systemd/tbms-node.service")["StateDirectory"]
    node = configuration("systemd/node.yaml").node
    assert node is not None
    assert str(node.cache.folder) == f"/var/lib/{state}"
    for server in ("tf-serving", "triton"):
        assert "tbms" in options(DEPLOY / f"systemd/{server}.service")["SupplementaryGroups"][0].split()


@pytest.mark.parametrize("server", ["tf-serving", "triton"])
def test_a_model_server_listens_where_the_node_looks_for_it_and_not_where_the_sidecar_does(server: str) -> None:
    node = configuration("systemd/node.yaml").node
    assert node is not None
    (start,) = options(DEPLOY / f"systemd/{server}.service")["ExecStart"]
    wanted = {parse_address(text).port for text in (node.rest, node.cache.loader.address)}
    assert {int(port) for port in re.findall(r"port=(\d+)", start)} == wanted
    assert wanted.isdisjoint({8500, 8501})
