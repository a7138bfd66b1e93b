"""A page is typed, and what the shell prints is what the page shows. Numbers may be others, blanks fewer or more."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.docs.programs import laid
from tests.integration.docs.shell import as_read, script, type_page, typed_blocks
from tests.pages import Page


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short name: pages put Unix sockets into folders of it, whose paths must not be long."""
    with TemporaryDirectory(prefix="tbms-") as name:
        yield Path(name)


@pytest.fixture
def does_what_it_says(folder: Path) -> Callable[[Page], None]:
    checkout, programs = folder / "checkout", folder / "bin"
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
