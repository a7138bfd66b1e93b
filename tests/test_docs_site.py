"""The documentation can be built as a site, and a link or an anchor that leads nowhere stops that."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MKDOCS = ROOT / "build/mkdocs/bin/mkdocs"

pytestmark = pytest.mark.skipif(not MKDOCS.exists(), reason=f"no {MKDOCS}: run `integration/setup.sh mkdocs`")


def built(repository: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make site` does, into another folder."""
    command = [MKDOCS, "build", "--config-file", repository / "mkdocs.yml", "--site-dir", site]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = built(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("index.html")}
    decisions = {f"decisions/{path.stem}" for path in (ROOT / "docs/decisions").glob("[0-9]*.md")}
    assert {"start", "project", "project/kuma-policies", *decisions} <= pages
    # Nothing but the site itself is asked for by a page that is read.
    start = (tmp_path / "start/index.html").read_text()
    assert (
        re.findall(
            r"<(?:script|img)[^>]* src=\"(https?:[^\"]+)|<link[^>]*stylesheet[^>]* href=\"(https?:[^\"]+)", start
        )
        == []
    )


def test_what_leads_nowhere_stops_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("mkdocs.yml", "docs/site_hooks.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (docs / "README.md").write_text("# Start\n\n## Guides\n\n- [One](one.md)\n- [Two](two.md)\n")
    (docs / "one.md").write_text(
        "# One\n\n[no page](three.md), [no heading](#here), [no Markdown](../Makefile), [well](../README.md#tbms).\n"
    )
    for name in ("README.md", "Makefile"):
        (tmp_path / name).write_text("# tbms\n")
    done = built(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "WARNING" in line]
    for what in ("the 'nav'", "'three.md'", "'#here'", "Makefile'"):
        assert any(what in line for line in told), what
    assert not any("#tbms" in line for line in told)
