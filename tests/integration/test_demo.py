"""The demo as a person runs it: its last line, its exit status, and Ctrl-C in the middle."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from integration.edge import TBMS
from integration.process import Process, at_once
from tests.integration.test_process import is_alive


@pytest_asyncio.fixture(loop_scope="session")
async def demo(tmp_path: Path) -> AsyncIterator[Process]:
    command = [TBMS, "demo", "--calls", "96"]
    process = Process("demo", command, tmp_path / "demo.log", env={"TMPDIR": str(tmp_path), "COLUMNS": "140"})
    await process.start(at_once)
    yield process
    process.kill()


def descendants(pid: int) -> list[int]:
    """Its children, their children, and so on."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found += [int(entry.name), *descendants(int(entry.name))]
    return found


async def test_every_call_is_answered_by_a_node_that_holds_its_model(demo: Process) -> None:
    async with asyncio.timeout(100):
        while demo.running:
            await asyncio.sleep(0.05)
    log = demo.log.read_text()
    assert log.splitlines()[-1] == "demo: answered=96 failed=0 misrouted=0"
    assert log.count("demo: answered=") == 1
    assert re.search(r"^deadline: calls=40 in_time_with_backups=\d+ in_time_without=\d+$", log, re.MULTILINE)
    assert await demo.stop() == 0
    for name in ("node-a", "node-b", "node-c", "TF Serving REST", "TF Serving gRPC", "V2 REST", "V2 gRPC"):
        assert name in log
    assert len(re.findall(r"[a-z]+-(?:forest|svm|bayes|centroid) ", log)) >= 24


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
async def test_nothing_is_left_when_it_is_interrupted(demo: Process, tmp_path: Path, number: signal.Signals) -> None:
    async with asyncio.timeout(60):
        while "Envoy" not in demo.tail() or "listens" not in demo.tail():
            demo.check()
            await asyncio.sleep(0.01)
    children = descendants(demo.pid)
    assert len(children) >= 6  # three nodes, the server, Envoy and the reaper
    demo.signal(number)
    async with asyncio.timeout(30):
        while demo.running or any(is_alive(pid) for pid in children):
            await asyncio.sleep(0.02)
    assert await demo.stop() == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert not list(tmp_path.glob("tbms-*"))
