"""What documents and docstrings point at exists: paths of this repository, links, and decisions by their number."""

import re
import tokenize
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ext_proc/", "mesh/", "integration/", "tests/", "docs/", "envoy/", "kuma-policies/", "deploy/", "findings/")
DOCUMENTS = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "integration/README.md", *(ROOT / "docs").rglob("*.md")}
)
SOURCES = sorted(
    path
    for path in chain.from_iterable(
        (ROOT / name).rglob("*.py") for name in ("ext_proc", "mesh", "integration", "tests")
    )
    if not path.name.endswith("_pb2.py") and path != Path(__file__)
)
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
NUMBERS = [path.name[:3] for path in DECISIONS]

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
# In a docstring or comment a path needs no backticks; what is part of an address or of another path is none of ours.
PATH_IN_PYTHON = re.compile(r"(?<![\w/.:-])((?:docs/[\w./-]+)|(?:[\w-]+/)+[\w-]+\.md)")
DECISION_PATH = re.compile(r"decisions/(\d{3})(?![\w-])")
# By number alone, as in "decision 030", "(090)" or "(052, 104)"; three digits from 2 on are statuses of HTTP.
DECISION_WORD = re.compile(r"\bdecisions? (\d{3})\b")
DECISION_NUMBER = re.compile(r"(?<=\s)\(([01]\d\d(?:, [01]\d\d)*)\)")


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def exists(path: str) -> bool:
    """Whether a file or folder is there; a pattern has to match something."""
    if match := re.fullmatch(r"(.*)\{(.*)\}(.*)", path):
        return all(exists(f"{match[1]}{choice}{match[3]}") for choice in match[2].split(","))
    if decision := re.fullmatch(r"docs/decisions/(\d{3})", path):
        return decision[1] in NUMBERS
    return any(is_there(found) for found in ROOT.glob(path.rstrip("/")))


def is_there(path: Path) -> bool:
    """Bytecode stays behind in a folder whose sources have gone: that is none any more."""
    return path.is_file() or any(child.name != "__pycache__" for child in path.iterdir())


def paths_in(document: str) -> Iterator[str]:
    """The repository's paths that stand in backticks; `path:line` and `path --option` name the path."""
    for span in CODE.findall(FENCE.sub("", document)):
        word = span.split()[0] if span.strip() else ""
        if word.startswith(FOLDERS):
            yield re.sub(r":\d+$", "", word)


def prose_of(source: Path) -> str:
    """Comments and texts, docstrings among them."""
    with tokenize.open(source) as file:
        tokens = tokenize.generate_tokens(file.readline)
        return "\n".join(token.string for token in tokens if token.type in (tokenize.COMMENT, tokenize.STRING))


@pytest.mark.parametrize("document", DOCUMENTS, ids=where)
def test_paths_in_documents_exist(document: Path) -> None:
    assert [path for path in paths_in(document.read_text()) if not exists(path)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=where)
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    targets = [target.partition("#")[0] for target in LINK.findall(FENCE.sub("", document.read_text()))]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=where)
def test_decisions_named_in_documents_exist(document: Path) -> None:
    text = document.read_text()
    named = DECISION_PATH.findall(text) + DECISION_WORD.findall(text)
    if document.is_relative_to(ROOT / "docs"):
        named += [number for numbers in DECISION_NUMBER.findall(text) for number in numbers.split(", ")]
    assert sorted(set(named) - set(NUMBERS)) == []


def test_documents_and_decisions_named_in_python_exist() -> None:
    wrong = []
    for source in SOURCES:
        prose = prose_of(source)
        paths = [path.rstrip(".,/") for path in PATH_IN_PYTHON.findall(prose)]
        wrong += [f"{where(source)}: {path}" for path in paths if path.startswith(FOLDERS) and not exists(path)]
        wrong += [f"{where(source)}: {number}" for number in DECISION_WORD.findall(prose) if number not in NUMBERS]
    assert wrong == []


def test_decisions_are_numbered_once_and_say_their_number_first() -> None:
    assert len(set(NUMBERS)) == len(NUMBERS)
    titles = {path.name[:3]: path.read_text().partition("\n")[0] for path in DECISIONS}
    assert {number: title for number, title in titles.items() if not title.startswith(f"# {number}: ")} == {}


def test_the_index_lists_every_decision_once() -> None:
    index = LINK.findall((ROOT / "docs/decisions/README.md").read_text())
    assert sorted(target for target in index if target[0].isdigit()) == [path.name for path in DECISIONS]


def test_the_list_of_documents_leads_to_every_page() -> None:
    """It is the navigation of the site, too: a new page gets a line in docs/README.md."""
    listed = [target.partition("#")[0] for target in LINK.findall((ROOT / "docs/README.md").read_text())]
    assert sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in ("README.md", *listed)) == []
