import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from integration.stack.ports import free_ports
from integration.stack.process import Process, ProcessError, answers, at_once

# A parent whose child outlives SIGTERM and has a child of its own; both write their number down.
STUBBORN = """
trap '' TERM
sleep 600 &
echo $! > "$0.grandchild"
echo $$ > "$0.written"
mv "$0.written" "$0.child"
while true; do sleep 1; done
"""

LAUNCHER = """
import asyncio, sys
from pathlib import Path
from integration.stack.interrupt import run
from integration.stack.process import Process
folder = Path(sys.argv[1])
async def main():
    process = Process("stubborn", ["sh", "-c", (folder / "script").read_text(), folder / "it"], folder / "log")
    async def ready():
        return (folder / "it.child").exists()
    try:
        await process.start(ready)
        print("up", flush=True)
        await asyncio.sleep(600)
    finally:
        await process.stop(grace=0.2)
    return 0
sys.exit(run(main()))
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while is_alive(pid):
            await asyncio.sleep(0.01)


def family(folder: Path) -> list[int]:
    return [int((folder / f"it.{who}").read_text()) for who in ("child", "grandchild")]


@pytest_asyncio.fixture(loop_scope="session")
async def stubborn(tmp_path: Path) -> AsyncIterator[Process]:
    process = Process("stubborn", ["sh", "-c", STUBBORN, tmp_path / "it"], tmp_path / "log")

    async def ready() -> bool:
        return (tmp_path / "it.child").exists()

    await process.start(ready)
    yield process
    process.kill()


async def test_stop_ends_a_child_that_ignores_sigterm_and_its_children(stubborn: Process, tmp_path: Path) -> None:
    pids = family(tmp_path)
    assert all(is_alive(pid) for pid in pids)
    assert await stubborn.stop(grace=0.1) == -signal.SIGKILL
    assert not stubborn.running
    for pid in pids:
        await gone(pid)


async def test_stop_returns_the_status_of_a_child_that_ends_by_itself(tmp_path: Path) -> None:
    process = Process(
        "polite", ["sh", "-c", "trap 'exit 7' TERM; echo up; while true; do sleep 0.01; done"], tmp_path / "log"
    )

    async def ready() -> bool:
        return "up" in process.tail()

    await process.start(ready)
    process.check()
    assert await process.stop() == 7
    with pytest.raises(ProcessError, match="ended with status 7"):
        process.check()


async def test_a_crash_before_readiness_shows_the_end_of_the_log(tmp_path: Path) -> None:
    process = Process("broken", ["sh", "-c", "echo no such model >&2; exit 3"], tmp_path / "log")
    with pytest.raises(ProcessError, match=r"broken ended with status 3.*\nno such model"):
        await process.start(answers("http://127.0.0.1:1/"))


async def test_a_child_that_is_never_ready_is_not_left_behind(tmp_path: Path) -> None:
    process = Process("slow", ["sleep", "600"], tmp_path / "log")

    async def never() -> bool:
        return False

    with pytest.raises(ProcessError, match="slow was not ready after"):
        await process.start(never, within=0.05)
    assert not process.running


async def test_a_killed_process_can_be_started_again(tmp_path: Path) -> None:
    process = Process("sleeper", ["sleep", "600"], tmp_path / "log")
    await process.start(at_once)
    first = process.pid
    process.kill()
    assert not process.running
    await process.start(at_once)
    assert process.pid != first
    assert await process.stop() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    ids=lambda value: getattr(value, "name", None),
)
async def test_children_end_with_their_launcher(number: signal.Signals, status: int, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(STUBBORN)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, tmp_path], stdout=subprocess.PIPE)
    try:
        assert launcher.stdout is not None
        assert await asyncio.to_thread(launcher.stdout.readline) == b"up\n"
        pids = family(tmp_path)
        assert all(is_alive(pid) for pid in pids)
        os.kill(launcher.pid, number)
        assert await asyncio.to_thread(launcher.wait, 30) == status
        for pid in pids:
            await gone(pid)
    finally:
        launcher.kill()
        launcher.wait()
        launcher.stdout.close()


def test_no_port_is_handed_out_twice() -> None:
    ports = free_ports(200) + free_ports(200)
    assert len(set(ports)) == 400
