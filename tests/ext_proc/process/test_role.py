"""What a process imports for its role: told by a process of its own, as this one has imported everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EDGE = """nodes: [{id: a, rest: "127.0.0.1:1", residency: "127.0.0.1:2"}]"""
NODE = """
node:
  store: {url: "file:///models"}
  cache: {folder: /var/lib/tbms, loader: {api: v2, address: "127.0.0.1:8500"}}
"""
ASKED = """
import json, sys
from pathlib import Path
from ext_proc.process.app import App
App(Path(sys.argv[1]))
print(json.dumps(sorted(sys.modules)))
"""


def imported_for(text: str, folder: Path) -> list[str]:
    path = folder / "tbms.yaml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    modules: list[str] = json.loads(done.stdout)
    return modules


@pytest.mark.parametrize(
    ("text", "own", "foreign"),
    [
        (
            EDGE,
            ("ext_proc.edge.role", "ext_proc.racing.racer", "mesh.routing.router"),
            (
                "ext_proc.node.role", "ext_proc.node.policy", "mesh.model_cache.manager", "mesh.model_cache.loaders",
                "obstore", "grpc", "tritonclient",
            ),
        ),
        (
            NODE,
            ("ext_proc.node.role", "mesh.model_cache.manager"),
            (
                "ext_proc.edge", "ext_proc.racing", "ext_proc.broker.race",
                "mesh.discovery.registry", "mesh.health.prober", "mesh.residency.watcher", "mesh.routing.router",
                "mesh.warming.warmer",
            ),
        ),
    ],
    ids=["edge", "node"],
)  # fmt: skip
def test_a_role_imports_nothing_of_the_other(
    text: str, own: tuple[str, ...], foreign: tuple[str, ...], tmp_path: Path
) -> None:
    modules = imported_for(text, tmp_path)
    assert set(own) <= set(modules)
    assert [name for name in modules if any(f"{name}.".startswith(f"{room}.") for room in foreign)] == []
