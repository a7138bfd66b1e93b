"""Pages whose commands a reader types from top to bottom: a shell types them, and what it prints is what they show.

Blocks marked `sh` are typed, but for those below `<!-- not run: REASON -->`; a block marked `text` is what the one
before it prints. Numbers may be others there, blanks fewer or more.
"""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.stack.embedded import TBMS
from integration.stack.envoys import NEWEST
from integration.stack.ports import free_ports
from tests.integration.conftest import need_envoy

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^(?P<skipped><!-- not run: .+ -->\n)?```(?P<kind>sh|text)\n(?P<text>.*?)^```$", re.M | re.S)
PORT = re.compile(r"(?<=:)\d{4}\b")
# What the page takes for granted: the default ports of `tbms model-server`.
DEFAULTS = {"tbms model-server ": "tbms model-server --grpc-port :8500 --rest-port :8501 "}
END = "@@ typed"


@dataclass
class Typed:
    """A block of commands, and what it should print; None: the page does not show it."""

    commands: str
    shown: str | None = None


def blocks(page: str) -> list[Typed]:
    found: list[Typed] = []
    for block in BLOCK.finditer(page):
        if block["skipped"]:
            continue
        if block["kind"] == "sh":
            found.append(Typed(block["text"]))
        else:
            found[-1].shown = block["text"]
    return found


def as_read(text: str) -> list[str]:
    """Lines without what differs from one run to the next."""
    lines = [" ".join(re.sub(r"\d+(\.\d+)?", "0", line).split()) for line in text.splitlines()]
    return [line for line in lines if line]


def script(typed: list[Typed]) -> str:
    """All blocks, for one shell, on ports that are free."""
    text = "".join(f"{block.commands}echo '{END}'\n" for block in typed)
    for told, meant in DEFAULTS.items():
        text = text.replace(told, meant)
    ports = sorted(set(PORT.findall(text)))
    for old, new in zip(ports, free_ports(len(ports)), strict=True):
        text = re.sub(rf"(?<=:){old}\b", str(new), text)
    return text.replace("port :", "port ")


@pytest.mark.envoy
@pytest.mark.timeout(240)
def test_the_start_page_does_what_it_says(tmp_path: Path) -> None:
    need_envoy(NEWEST)
    typed = blocks((DOCS / "start.md").read_text())
    assert len(typed) > 5
    (tmp_path / "typed.sh").write_text(script(typed))
    environment = {**os.environ, "PATH": f"{Path(TBMS).parent}:{os.environ['PATH']}", "no_proxy": "*"}
    command = ["bash", "-eu", "-o", "pipefail", "typed.sh"]
    shell = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = shell.communicate(timeout=200)
    finally:
        if shell.poll() is None or shell.returncode:
            os.killpg(shell.pid, signal.SIGKILL)
    logs = "".join(f"\n{log}:\n{log.read_text()[-2000:]}" for log in tmp_path.glob("*/*.log"))
    assert shell.returncode == 0, printed + logs
    parts = printed.split(END)
    for block, part in zip(typed, parts[:-1], strict=True):
        if block.shown is not None:
            assert as_read(part) == as_read(block.shown), logs
