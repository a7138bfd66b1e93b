"""The command that runs benchmarks by name, and the CPU meter that they share."""

import asyncio
import os
import subprocess
import sys

import pytest

from integration.bench import __main__ as bench
from integration.bench.cpu import cpu_seconds


async def test_cpu_seconds_include_children() -> None:
    burn = "import subprocess, sys, time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\n"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn + 'sys.stdin.read()'!r}])"
    child = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == b"burnt\n"
        assert cpu_seconds(child.pid) >= 0.29
        assert cpu_seconds(os.getpid()) >= cpu_seconds(child.pid)


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["none such"]) == 2
    assert "routing" in capsys.readouterr().err
