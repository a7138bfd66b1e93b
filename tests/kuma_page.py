"""docs/kuma.md as a reader types it: the blocks of a section, one after the other, in a checkout."""

import os
import re
import subprocess
from pathlib import Path

from integration.stack.sidecar import TBMS

ROOT = Path(__file__).parents[1]
_OWN_TEST = "a test of its own types it"
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>sh|yaml)\n(?P<text>.*?)^```\n"
    r"(?:\n```text\n(?P<shown>.*?)^```\n)?",
    re.M | re.S,
)
_FILE = re.compile(r"# (?P<name>[\w-]+/[\w.]+)")


def type_section(title: str, folder: Path, environment: dict[str, str]) -> str:
    """Types what the page says under that title, as far as it does not need more than this machine has, and holds it
    against what the page shows; files that the page shows are written. What was printed."""
    page = (ROOT / "docs/kuma.md").read_text()
    section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    typed = []
    for block in _BLOCK.finditer(section):
        if file := _FILE.match(block["text"]):
            (folder / file["name"]).parent.mkdir(exist_ok=True)
            (folder / file["name"]).write_text(block["text"])
        elif block["kind"] == "sh" and (block["reason"] is None or block["reason"].startswith(_OWN_TEST)):
            typed.append(_typed(block["text"], folder, environment))
            assert block["shown"] in (None, typed[-1]), block["text"]
    return "".join(typed)


def _typed(commands: str, folder: Path, environment: dict[str, str]) -> str:
    path = f"{folder / 'programs'}:{Path(TBMS).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", commands],
        cwd=folder, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout
