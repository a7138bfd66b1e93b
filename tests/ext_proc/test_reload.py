"""The watch on the configuration file."""

import asyncio
import os
from pathlib import Path

from ext_proc.reload import fingerprint, watch


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
            await asyncio.wait_for(wake.wait(), 10)
            wake.clear()
        path.unlink()
        path.write_text("ccc")
        await asyncio.wait_for(wake.wait(), 10)
    finally:
        task.cancel()
