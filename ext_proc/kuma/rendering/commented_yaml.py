"""YAML whose comments are part of the document: a value may carry the reason for it."""

import json
import textwrap
from dataclasses import dataclass
from typing import Any

import yaml

_WIDTH = 116
_ONE_LINE = 100


@dataclass(frozen=True, slots=True)
class Because:
    """A value of a mapping or a list, and why it is what it is: a comment above it."""

    value: Any
    why: str


def to_text(document: Any) -> str:
    """The document as YAML. What holds no comment and fits into a line is written on one."""
    return "\n".join(_block(document)) + "\n"


def comment(text: str, indent: int = 0) -> list[str]:
    """The text as lines of a comment; an empty line of the text parts paragraphs."""
    width = _WIDTH - indent - 2
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += [""] * bool(lines)
        lines += textwrap.wrap(paragraph, width, break_on_hyphens=False, break_long_words=False)
    return [f"# {line}".rstrip() for line in lines]


def plain(document: Any) -> Any:
    """The document without its comments."""
    if isinstance(document, Because):
        return plain(document.value)
    if isinstance(document, dict):
        return {key: plain(value) for key, value in document.items()}
    if isinstance(document, list):
        return [plain(value) for value in document]
    return document


def _block(value: Any, indent: int = 0) -> list[str]:
    """The lines of a mapping or a list, `indent` being how far they will be moved to the right."""
    lines: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            lines += _entry(f"{_scalar(key)}:", item, indent)
        return lines
    for item in value:
        lines += _entry("-", item, indent)
    return lines


def _entry(head: str, item: Any, indent: int) -> list[str]:
    lines: list[str] = []
    if isinstance(item, Because):
        lines += comment(item.why, indent)
        item = item.value
    if isinstance(item, str) and _is_block(item):
        return [*lines, f"{head} |", *_moved(item.removesuffix("\n").split("\n"), 2)]
    if not isinstance(item, dict | list) or not item or _fits(item, len(head) + indent):
        return [*lines, f"{head} {_flow(item)}"]
    if head == "-":
        first, *rest = _block(item, indent + 2)
        if not first.startswith("#"):
            return [*lines, f"- {first}", *_moved(rest, 2)]
        return [*lines, "-", *_moved([first, *rest], 2)]
    return [*lines, head, *_moved(_block(item, indent + 2), 2)]


def _moved(lines: list[str], by: int) -> list[str]:
    return [" " * by + line if line else line for line in lines]


def _fits(item: Any, before: int) -> bool:
    return _is_plain(item) and before + len(json.dumps(item)) <= _ONE_LINE


def _is_plain(item: Any) -> bool:
    if isinstance(item, Because):
        return False
    if isinstance(item, dict):
        return all(map(_is_plain, item.values()))
    if isinstance(item, list):
        return all(map(_is_plain, item))
    return not (isinstance(item, str) and "\n" in item)


def _is_block(text: str) -> bool:
    """Whether it may stand as a block of lines: it ends like one, and no space at its start counts as indent."""
    return text.endswith("\n") and not text.endswith("\n\n") and not text.startswith((" ", "\n"))


def _flow(item: Any) -> str:
    if isinstance(item, str) and "\n" in item:
        return json.dumps(item)
    text: str = yaml.safe_dump(item, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _scalar(key: str) -> str:
    return _flow(key)
