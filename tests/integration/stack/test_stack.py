"""A stack whose start fails leaves nothing: no process, no file."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.stack.process import Process, ProcessError, at_once
from integration.stack.stack import Stack
from mesh.node import Node


class Sleeper:
    """A node whose only process sleeps."""

    def __init__(self, spec: "SleeperSpec", folder: Path) -> None:
        self.spec = spec
        self.node = Node(spec.id, grpc=f"127.0.0.1:{spec.port}", rest=f"127.0.0.1:{spec.port + 1}")
        self.process = Process(spec.id, ["sleep", "600"], folder / "log")

    async def start(self) -> None:
        await self.process.start(at_once)
        if self.spec.hangs:
            await asyncio.Event().wait()
        if self.spec.fails:
            raise ProcessError(f"{self.spec.id} did not come up")

    async def stop(self) -> None:
        await self.process.stop()

    def kill(self) -> None:
        self.process.kill()


@dataclass
class SleeperSpec:
    id: str
    port: int
    fails: bool = False
    hangs: bool = False
    folders: list[Path] = field(default_factory=list)

    def build(self, models: Path, folder: Path) -> Sleeper:
        self.folders.append(folder)
        return Sleeper(self, folder)


async def test_a_node_that_does_not_come_up(tmp_path: Path) -> None:
    specs = [SleeperSpec("well", 7000), SleeperSpec("broken", 7002, fails=True)]
    stack = Stack(tmp_path, specs)
    with pytest.raises(ProcessError, match="broken did not come up"):
        await stack.__aenter__()
    assert not any(node.process.running for node in stack.nodes.values())
    assert not any(folder.parent.exists() for spec in specs for folder in spec.folders)


async def test_a_start_that_is_cancelled(tmp_path: Path) -> None:
    specs = [SleeperSpec("well", 7000), SleeperSpec("slow", 7002, hangs=True)]
    stack = Stack(tmp_path, specs)
    start = asyncio.create_task(stack.__aenter__())
    async with asyncio.timeout(60):
        while not all(node.process.running for node in stack.nodes.values()):
            await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not any(node.process.running for node in stack.nodes.values())
    assert not any(folder.parent.exists() for spec in specs for folder in spec.folders)
