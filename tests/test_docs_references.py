"""The pages that are written out of the code are those that are committed: `make docs` writes them anew."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = runpy.run_path(str(DOCS / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name], "run: make docs"


def test_every_setting_and_metric_has_words() -> None:
    pages = [PAGES[name] for name in ("configuration.md", "metrics.md")]
    rows = [line.split(" | ") for page in pages for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 250
    speaks_for_itself = (
        "section",
        "list of section",
        "mapping of names to section",
    )  # told below, in a table of its own
    silent = [row[0] for row in rows if not row[-1].strip(" |") and row[1] not in speaks_for_itself]
    assert [name for name in silent if name != "| `kind`"] == []
