"""The watch on the configuration file."""

import asyncio
import os
from pathlib import Path

import pytest

from ext_proc.config import Config
from ext_proc.errors import ConfigError
from ext_proc.process.reload import fingerprint, read_again, watch


def test_a_fingerprint_tells_rewriting_replacing_and_relinking(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert fingerprint(path) is None
    path.write_text("a")
    first = fingerprint(path)
    path.write_text("bb")
    assert fingerprint(path) != first
    (tmp_path / "one").write_text("x")
    (tmp_path / "two").write_text("x")
    link = tmp_path / "link"
    link.symlink_to("one")
    before = fingerprint(link)
    (tmp_path / "fresh").symlink_to("two")
    os.replace(tmp_path / "fresh", link)
    assert fingerprint(link) != before


async def test_the_watch_wakes_once_for_each_change_and_waits_for_an_absent_file(tmp_path: Path) -> None:
    path, wake = tmp_path / "config.yaml", asyncio.Event()
    task = asyncio.create_task(watch(path, wake, interval=0.001))
    await asyncio.sleep(0)  # it has seen that there is no file
    try:
        for text in ("a", "bb"):
            path.write_text(text)
            await asyncio.wait_for(wake.wait(), 60)
            wake.clear()
        path.unlink()
        path.write_text("ccc")
        await asyncio.wait_for(wake.wait(), 60)
    finally:
        task.cancel()


async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    path, wake = tmp_path / "config.yaml", asyncio.Event()
    path.write_text("")
    task = asyncio.create_task(watch(path, wake, interval=0.0))
    await asyncio.sleep(0)
    try:
        for length in range(1, 50):  # another one at every look
            path.write_text("x" * length)
            await asyncio.sleep(0)
            assert not wake.is_set()
        await asyncio.wait_for(wake.wait(), 60)
    finally:
        task.cancel()


def test_an_empty_file_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("")
    with pytest.raises(ConfigError, match="the file is empty"):
        read_again(path)
    path.write_text("routing: {replicas: 3}")
    assert read_again(path).routing.replicas == 3
    path.write_text("{}")
    assert read_again(path) == Config()
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_again(path)
