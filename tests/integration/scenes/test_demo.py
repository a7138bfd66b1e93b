"""The demo as a person runs it: its last line, its exit status, and Ctrl-C in the middle."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from integration.stack import models
from integration.stack.process import Process, at_once
from integration.stack.sidecar import TBMS
from tests.integration.stack.test_process import is_alive

CALLS = 96
MODELS = len(models.TENANTS) * len(models.KINDS)
ROOM = MODELS // 3


@pytest.fixture
def folder() -> Iterator[Path]:
    """For all that the demo leaves. Its sockets are in it, so its path is short, which tmp_path's may not be."""
    with TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@pytest_asyncio.fixture(loop_scope="session")
async def demo(folder: Path) -> AsyncIterator[Process]:
    command = [TBMS, "demo", "--calls", str(CALLS)]
    process = Process("demo", command, folder / "demo.log", env={"TMPDIR": str(folder), "COLUMNS": "140"})
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


def rows(log: str, first: str, width: int) -> list[list[str]]:
    """The cells of the lines of a table that begin with such a word."""
    found = [[cell.strip() for cell in line.strip("│").split("│")] for line in log.splitlines() if line.startswith("│")]
    return [row for row in found if re.fullmatch(first, row[0]) and len(row) == width]


@pytest.mark.timeout(400)  # a busy machine trains for long
async def test_nodes_fill_themselves_and_every_call_is_answered_by_one_that_holds_its_model(demo: Process) -> None:
    async with asyncio.timeout(380):
        while demo.running:
            await asyncio.sleep(0.05)
    log = demo.log.read_text()
    assert log.splitlines()[-1] == f"demo: answered={CALLS} failed=0 misrouted=0"
    assert log.count("demo: answered=") == 1
    assert await demo.stop() == 0

    nodes = [[int(cell) for cell in row[1:]] for row in rows(log, "node-[abc]", 8)]
    assert len(nodes) == 3
    assert sum(row[0] for row in nodes) == CALLS
    for calls, hits, cold, loads, evictions, _, held in nodes:
        assert hits + cold == calls
        assert loads == cold, "each load is for a call, and each call waits for one load at most"
        assert loads - evictions == held <= ROOM
    assert sum(row[2] for row in nodes) >= MODELS, "all were absent at the start"

    libraries = rows(log, "TF Serving REST|TF Serving gRPC|V2 REST|V2 gRPC", 7)
    assert [row[0] for row in libraries] == ["TF Serving REST", "TF Serving gRPC", "V2 REST", "V2 gRPC"]
    assert sum(int(row[2]) for row in libraries) == CALLS
    for *_, direct, hits_ms, cold_ms, different in libraries:
        assert different == "0"
        assert all(float(median) > 0 for median in (direct, hits_ms, cold_ms))

    tenants = rows(log, "|".join(models.TENANTS), 5)
    places = [cell for row in tenants for cell in row[1:]]
    assert len(places) == MODELS
    assert [places.count(f"node-{letter}") for letter in "abc"] == [row[-1] for row in nodes]
    assert "The edge's cache map, by which calls are routed, says the same." in log

    assert re.search(r"^drain: calls=[1-9]\d* failed=0 moved=[1-9]$", log, re.MULTILINE)
    assert re.search(r"^deadline: calls=40 in_time_with_backups=\d+ in_time_without=\d+$", log, re.MULTILINE)


# In the middle of its start, and with everything running: three nodes of three processes each, server and Envoy, the
# reference, the client with TensorFlow, where that is set up, and the reaper.
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("number", "processes", "said"),
    [(signal.SIGTERM, 5, "Starting"), (signal.SIGINT, 13, "listens on")],
    ids=["sigterm at the start", "ctrl-c"],
)
async def test_nothing_is_left_when_it_is_interrupted(
    demo: Process, folder: Path, number: signal.Signals, processes: int, said: str
) -> None:
    async with asyncio.timeout(100):
        while said not in demo.tail() or len(descendants(demo.pid)) < processes:
            demo.check()
            await asyncio.sleep(0.05)
    children = descendants(demo.pid)
    demo.signal(number)
    async with asyncio.timeout(60):
        while demo.running or any(is_alive(pid) for pid in children):
            await asyncio.sleep(0.02)
    assert await demo.stop() == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert not list(folder.glob("tbms-*"))
