"""Commands that people are told to type exist: `tbms ...` with its options, make targets, and files of deploy/."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ext_proc.cli.main import app

ROOT = Path(__file__).parents[1]
COMMANDS = typer.main.get_command(app)
DOCUMENTS = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "integration/README.md", *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix != ".pb"),
]  # fmt: skip

FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
SPAN = re.compile(r"`(tbms [^`\n]+)`")
# In a shell: at the start of a command, with or without a path before it.
IN_SHELL = re.compile(
    r"(?:(?:^|[;&|(\"]|exec )\s*(?:\$ )?(?:sudo )?(?:[\w./-]*/)?|=/[\w./-]*/)"
    r"(tbms [a-z](?:'[^'\n]*'|[^|;&>#\n\"'`)])*)",
    re.M,
)


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(document: Path) -> Iterator[str]:
    text = document.read_text()
    if document.suffix != ".md":
        yield from IN_SHELL.findall(text.replace("\\\n", " "))
        return
    yield from SPAN.findall(FENCE.sub("", text))
    for block in FENCE.findall(text):
        yield from IN_SHELL.findall(block.replace("\\\n", " "))


def fault(line: str) -> str | None:
    """What `tbms` would not understand of it; of names in it and of what belongs to the shell nothing is asked."""
    words = shlex.split(line)[1:]
    command: Any = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        names = words.pop(0).split("|")
        if missing := [name for name in names if name not in command.commands]:
            return f"no command {missing[0]}"
        command = command.commands[names[0]]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=where)
def test_commands_of_tbms_exist(document: Path) -> None:
    assert {line: told for line in commands(document) if (told := fault(line)) is not None} == {}


def test_a_command_that_is_none_is_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "Use `tbms chek -c x`, and\n```\nsudo /opt/tbms/bin/tbms check --confg x && tbms load m --admin y\n```\n"
    )
    assert [fault(line) for line in commands(document)] == ["no command chek", "no option --confg", None]


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        if document.suffix == ".md":
            text = document.read_text()
            blocks = "".join(
                re.findall(r"^ *```.*?^ *```", text, re.M | re.S)
            )  # elsewhere a line may begin with the word
            told = [*re.findall(r"`make ([a-z-]+)", text), *re.findall(r"^ *make ([a-z-]+)", blocks, re.M)]
            assert set(told) <= targets, document


def test_files_that_are_installed_or_applied_exist() -> None:
    for document in DOCUMENTS:
        for path in re.findall(r"(?<![\w/.-])deploy/[\w./-]+", document.read_text()):
            found = path.rstrip("./")
            assert (ROOT / found).exists() or found == "deploy/compose/models", f"{where(document)}: {found}"
