"""The built wheel, installed alone: every command and role starts with nothing but what the project says it needs."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from integration.stack.ports import free_port, free_ports
from integration.stack.process import Process, answers

_ROOT = Path(__file__).parents[2]
_BARE = _ROOT / "build/bare/bin"

pytestmark = pytest.mark.skipif(
    not _BARE.exists(), reason=f"no environment under {_BARE.parent}: run `integration/setup.sh bare`"
)


@pytest.fixture(scope="module")
def tbms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel that was built from the sources as they are, in an environment with its requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [_BARE / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # From a copy: setuptools keeps what it built before in the tree, and puts files that are gone into the next wheel.
    sources = folder / "sources"
    for package in ("ext_proc", "mesh", "integration"):
        shutil.copytree(_ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(_ROOT / file, sources)
    _run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, sources)
    (wheel,) = folder.glob("*.whl")
    _run(*pip, "install", "--no-deps", "--force-reinstall", wheel)
    return _BARE / "tbms"


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _config(folder: Path, **sections: object) -> Path:
    file = folder / "tbms.yaml"
    server = {"listen": f"unix:{folder}/tbms.sock", "admin": f"127.0.0.1:{free_port()}"}
    file.write_text(yaml.safe_dump({"server": server, **sections}))
    return file


def _node(folder: Path, api: str, port: int) -> dict[str, object]:
    (folder / "models").mkdir()
    loader = {"api": api, "address": f"127.0.0.1:{port}"}
    cache = {"folder": str(folder / "cache"), "loader": loader, "capacity": {"models": 4}}
    return {"rest": "127.0.0.1:1", "store": {"url": f"file://{folder}/models"}, "cache": cache}


def test_every_command_explains_itself(tbms: Path, tmp_path: Path) -> None:
    told = _run(tbms, "--help")
    commands = (
        "serve",
        "check",
        "envoy-config",
        "known-map",
        "models",
        "load",
        "unload",
        "pin",
        "unpin",
        "replay",
        "plan",
    )
    # In one process, since each start of Python takes a second.
    program = (
        "import sys; from typer.testing import CliRunner; from ext_proc.cli.main import app\n"
        "for command in sys.argv[1:]:\n"
        "    told = CliRunner().invoke(app, [command, '--help'])\n"
        "    assert (told.exit_code, '--help' in told.stdout) == (0, True), (command, told.output)\n"
    )
    assert [command for command in commands if command not in told] == []
    _run(_BARE / "python", "-c", program, *commands, cwd=tmp_path)


def test_a_configuration_is_checked_and_rendered(tbms: Path, tmp_path: Path) -> None:
    node = {"id": "a", "grpc": "127.0.0.1:8500", "rest": "127.0.0.1:8501"}
    file = _config(tmp_path, nodes=[node])
    assert "ok" in _run(tbms, "check", "--config", file, cwd=tmp_path)
    assert "static_resources" in _run(tbms, "envoy-config", "--config", file, cwd=tmp_path)


def test_a_plan_needs_no_extra_but_its_picture_does(tbms: Path, tmp_path: Path) -> None:
    line = [tbms, "plan", "--model", "bert", "--batch-ms", "20", "--max-rows", "10"]
    assert "At most 500 QPS on 1 GPU." in _run(*line, cwd=tmp_path)
    drawn = subprocess.run([*line, "--plot", "plan.png"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert drawn.returncode == 1
    assert drawn.stderr == "--plot: matplotlib draws it, and is not installed: pip install 'tbms[demo]'\n"


async def _serves(tbms: Path, file: Path, folder: Path) -> None:
    admin = yaml.safe_load(file.read_text())["server"]["admin"]
    server = Process("tbms", [tbms, "serve", "--config", file], folder / "server.log")
    try:
        await server.start(answers(f"http://{admin}/readyz"))
        assert await answers(f"http://{admin}/ui/uplot/uPlot.iife.min.js")()
        assert await server.stop() == 0, server.log.read_text()
    finally:
        server.kill()


async def test_an_edge_starts_and_stops(tbms: Path, tmp_path: Path) -> None:
    await _serves(tbms, _config(tmp_path), tmp_path)


@pytest.mark.parametrize("api", ["v2", "tf-serving"])
async def test_a_node_starts_and_stops_though_its_model_server_is_away(tbms: Path, tmp_path: Path, api: str) -> None:
    await _serves(tbms, _config(tmp_path, node=_node(tmp_path, api, free_port())), tmp_path)


async def test_the_model_server_needs_its_extra_and_says_so(tbms: Path, tmp_path: Path) -> None:
    grpc_port, rest_port = free_ports(2)
    command = [
        tbms,
        "model-server",
        "--repository",
        tmp_path,
        "--grpc-port",
        str(grpc_port),
        "--rest-port",
        str(rest_port),
    ]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "tbms[onnx]" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
