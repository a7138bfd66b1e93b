"""Commands that people are told to type exist: `tbms ...` with its options, make targets, and files of deploy/.

Blocks of commands are typed by a test (tests/integration/docs), or say why not.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ext_proc.cli.main import app
from tests.pages import ROOT, Page, pages, parse

COMMANDS = typer.main.get_command(app)
PAGES = [page for page in pages() if page.path.parent.name != "decisions"]
FILES = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix not in (".md", ".pb"))

FENCE = re.compile(r"^ *```\w*\n.*?^ *```$", re.M | re.S)
SPAN = re.compile(r"`(tbms [^`\n]+)`")
# In a shell: at the start of a command, with or without a path before it.
IN_SHELL = re.compile(
    r"(?:(?:^|[;&|(\"]|exec )\s*(?:\$ )?(?:sudo )?(?:[\w./-]*/)?|=/[\w./-]*/)"
    r"(tbms [a-z](?:'[^'\n]*'|[^|;&>#\n\"'`)])*)",
    re.M,
)


def in_page(page: Page) -> Iterator[str]:
    """But for those that are typed: they may be wrong on purpose."""
    yield from SPAN.findall(FENCE.sub("", page.text))
    for block in page.blocks:
        if not block.is_typed:
            yield from in_shell(block.text)


def in_shell(text: str) -> list[str]:
    return IN_SHELL.findall(text.replace("\\\n", " "))


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


def faults(commands: Iterable[str]) -> dict[str, str]:
    return {line: told for line in commands if (told := fault(line)) is not None}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_pages_exist(page: Page) -> None:
    assert faults(in_page(page)) == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_commands_of_files_exist(file: Path) -> None:
    assert faults(in_shell(file.read_text())) == {}


def test_a_command_that_is_none_is_found() -> None:
    page = parse(
        Path("page.md"),
        "Use `tbms chek -c x`, and\n```\nsudo /opt/tbms/bin/tbms check --confg x && tbms load m --admin y\n```\n",
    )
    assert [fault(line) for line in in_page(page)] == ["no command chek", "no option --confg", None]


def programs(text: str) -> set[str]:
    """What the lines of a block of commands begin with."""
    return set(re.findall(r"^(?:sudo )?([a-z][\w.-]*)(?= [^=:]|$)", text, re.M))


def test_blocks_of_commands_are_typed_or_say_why_not() -> None:
    """A block that is marked `sh` is one or the other. No other block begins a line with what is a program there."""
    known = {
        "tbms",
        *(name for page in PAGES for block in page.blocks if block.kind == "sh" for name in programs(block.text)),
    }
    assert {"curl", "envoy", "pip", "tritonserver"} <= known
    forgotten = [
        f"{page.name}:{block.line}: {found}"
        for page in PAGES
        for block in page.blocks
        if block.kind in ("", "bash", "console", "shell")
        if (found := sorted(programs(block.text) & known))
    ]
    assert forgotten == []


def test_what_a_page_takes_for_granted_is_there() -> None:
    for page in PAGES:
        if page.after is not None:
            assert any((ROOT / folder / page.after).exists() for folder in ("docs", "tests/integration/docs")), (
                page.name
            )


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        # Elsewhere a line may begin with the word.
        blocks = "".join(block.text for block in page.blocks)
        told = [*re.findall(r"`make ([a-z-]+)", page.text), *re.findall(r"^ *make ([a-z-]+)", blocks, re.M)]
        assert set(told) <= targets, page.name


def test_files_that_are_installed_or_applied_exist() -> None:
    for file in [*FILES, *(page.path for page in PAGES)]:
        for path in re.findall(r"(?<![\w/.-])deploy/[\w./-]+", file.read_text()):
            found = path.rstrip("./")
            assert (ROOT / found).exists() or found == "deploy/compose/models", f"{file}: {found}"
