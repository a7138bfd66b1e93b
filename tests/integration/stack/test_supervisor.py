"""A server that crashes is started again, and the test that it falls into is excused once."""

import inspect
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.stack.process import Process, ProcessError, at_once
from integration.stack.supervisor import Crash, Supervisor, supervised
from tests.integration import excuses
from tests.integration.node.cache_node import until
from tests.integration.stack.test_process import gone


@pytest.fixture(autouse=True)
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[Crash]:
    """Those of this module are no real ones."""
    seen: list[Crash] = []
    monkeypatch.setattr(Supervisor, "crashes", seen)
    return seen


async def test_a_child_that_crashes_is_started_again_without_what_it_left_behind(
    tmp_path: Path, crashes: list[Crash]
) -> None:
    process = Process("server", ["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path / "log")
    async with supervised(process, at_once):
        await until(lambda: process.tail() != "")
        first, said = process.pid, process.tail()
        os.kill(first, signal.SIGSEGV)
        await until(lambda: process.running and process.pid != first)
        assert crashes == [Crash("server", signal.SIGSEGV, said)]
        await gone(int(said))
    assert not process.running


@pytest.mark.parametrize(
    "end",
    [
        lambda process: process.kill(),
        lambda process: process.signal(signal.SIGKILL),
        lambda process: process.signal(signal.SIGTERM),
        lambda process: process.stop(),
    ],
    ids=["kill", "SIGKILL", "SIGTERM", "stop"],
)
async def test_a_child_that_is_ended_on_purpose_stays_down(
    end: Callable[[Process], object], tmp_path: Path, crashes: list[Crash]
) -> None:
    process = Process("server", ["sleep", "600"], tmp_path / "log")
    async with supervised(process, at_once):
        process.signal(signal.SIGSTOP)
        process.signal(signal.SIGCONT)
        ending = end(process)
        if inspect.isawaitable(ending):
            await ending
        await until(lambda: not process.running)
        assert process.crash is None
        await process.start(at_once)
        os.kill(process.pid, signal.SIGSEGV)
        await until(lambda: bool(crashes) and process.running)


async def test_a_child_that_crashes_while_it_starts_has_more_than_one_try(tmp_path: Path, crashes: list[Crash]) -> None:
    script = f"[ -e {tmp_path}/tried ] && exec sleep 600; touch {tmp_path}/tried; kill -ABRT $$"
    process = Process("server", ["sh", "-c", script], tmp_path / "log")

    async def ready() -> bool:
        return (tmp_path / "tried").exists() and Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n"

    async with supervised(process, ready):
        assert process.running
    assert [crash.signal for crash in crashes] == [signal.SIGABRT]
    hopeless = Process("server", ["sh", "-c", "kill -ABRT $$"], tmp_path / "log")

    async def never() -> bool:
        return False

    with pytest.raises(ProcessError, match="ended with status -6"):
        async with supervised(hopeless, never):
            pass
    assert len(crashes) == 4


@pytest.mark.parametrize(
    ("before", "now", "outcome"),
    [(0, 0, "failed"), (0, 1, "skipped"), (1, 1, "failed"), (1, 2, "failed"), (0, 2, "failed")],
)
def test_the_first_crash_excuses_the_test_that_it_falls_into(
    monkeypatch: pytest.MonkeyPatch, crashes: list[Crash], before: int, now: int, outcome: str
) -> None:
    monkeypatch.setattr(excuses, "_SECONDS", 0.0)
    crashes += [Crash("Triton", signal.SIGSEGV, "a trace")] * now
    report = pytest.TestReport("test_it.py::test_it", ("test_it.py", 7, "test_it"), {}, "failed", "why", "call")
    excuses.excuse(report, before)
    assert report.outcome == outcome
    if outcome == "skipped":
        assert report.longrepr == ("test_it.py", 7, "Skipped: the real Triton crashed: signal 11")
        assert report.sections == [("the Triton that crashed", "a trace")]
    else:
        assert report.longrepr == "why"
