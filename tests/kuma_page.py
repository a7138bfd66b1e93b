"""docs/kuma.md as a reader types it: the blocks of a section, one after the other, in a checkout."""

import os
import subprocess
from itertools import zip_longest
from pathlib import Path

from integration.stack.sidecar import TBMS
from tests.pages import ROOT, parse

_OWN_TEST = "a test of its own types it"


def type_section(title: str, folder: Path, environment: dict[str, str]) -> str:
    """Types what the page says under that title, as far as it does not need more than this machine has, and holds it
    against what the page shows; files that the page shows are written. What was printed."""
    page = ROOT / "docs/kuma.md"
    section = page.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = parse(page, section).blocks
    typed = []
    for block, behind in zip_longest(blocks, blocks[1:]):
        if block.file is not None:
            (folder / block.file).parent.mkdir(exist_ok=True)
            (folder / block.file).write_text(block.text)
        elif block.is_typed or (block.not_run or "").startswith(_OWN_TEST):
            typed.append(_typed(block.text, folder, environment))
            if behind is not None and behind.kind == "text":
                assert behind.text == typed[-1], block.text
    return "".join(typed)


def _typed(commands: str, folder: Path, environment: dict[str, str]) -> str:
    path = f"{folder / 'programs'}:{Path(TBMS).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", commands],
        cwd=folder, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout
