"""Pages whose commands a reader types from top to bottom: a shell types them, and what it prints is what they show.

Numbers may be others there, blanks fewer or more.
"""

from pathlib import Path

import pytest

from tests.integration.docs.programs import laid
from tests.integration.docs.shell import as_read, script, type_page, typed_blocks
from tests.pages import Page, pages

TYPED = [page for page in pages() if page.is_typed]


@pytest.mark.envoy
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Page, tmp_path: Path) -> None:
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    checkout.mkdir()
    programs.mkdir()
    commands = script(page, checkout)
    try:
        with laid(programs, commands):
            session = type_page(commands, checkout, programs, 200)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if session.status:
        pytest.fail("".join(session.printed) + session.logs)
    for typed, printed in zip(typed_blocks(page), session.printed[1:-1], strict=True):
        if typed.shown is not None:
            assert as_read(printed) == as_read(typed.shown), f"line {typed.block.line}"
