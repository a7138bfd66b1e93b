"""What `--help` tells: every command, argument and option in a sentence; what shows something has `--json`."""

from collections.abc import Iterator
from typing import Any

import typer

from ext_proc.cli.main import app

# What runs until it is stopped, or writes a file in a form of its own.
NO_DOCUMENT = {"serve", "model-server", "demo", "known-map", "policies render"}


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_everything_is_explained() -> None:
    for name, command in commands(typer.main.get_command(app)):
        assert command.help, name
        assert [each.name for each in command.params if not each.help] == [], name


def test_what_shows_something_prints_a_document_too() -> None:
    without = {
        name
        for name, command in commands(typer.main.get_command(app))
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == NO_DOCUMENT
