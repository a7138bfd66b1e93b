"""A page is typed, and what the shell prints is what the page shows. Numbers may be others, blanks fewer or more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.docs.programs import laid
from tests.integration.docs.shell import as_read, script, type_page, typed_blocks
from tests.pages import Page


@pytest.fixture
def does_what_it_says(tmp_path: Path) -> Callable[[Page], None]:
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    checkout.mkdir()
    programs.mkdir()

    def typed(page: Page) -> None:
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

    return typed
