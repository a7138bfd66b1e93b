"""Pages that people read, as tests read them: their fenced blocks, and what they say about having them typed.

Comments of HTML, which a reader does not see, say what a test cannot know:

    <!-- typed after: start.md -->      what this page takes for granted: another page, or a script of the tests
    <!-- not run: REASON -->            right before a block: it is not typed
    <!-- not run from here: REASON -->  the same for all blocks below
    <!-- only at the end -->            right before a block: left out where another page is typed after this one
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
START = "start.md"
"""The page whose fleet others go on from."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)$")
_MARK = re.compile(
    r"^ *<!-- (?:(?P<name>typed after|not run|not run from here): (?P<says>.+)|(?P<last>only at the end)) -->$"
)
_FILE = re.compile(r"# (?P<name>[\w/-]+\.\w+)(?::.*)?\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: what it says of itself behind the fence ("" for nothing), its text, and the line of its fence."""

    kind: str
    text: str
    line: int
    not_run: str | None = None
    only_at_the_end: bool = False

    @property
    def is_typed(self) -> bool:
        return self.kind == "sh" and self.not_run is None

    @property
    def file(self) -> str | None:
        """The name of the file that it shows: its first line is a comment, `NAME` or `NAME: words`."""
        named = _FILE.match(self.text)
        return named["name"] if named and self.kind in ("yaml", "json", "python") and self.not_run is None else None


@dataclass(frozen=True)
class Page:
    """A page: where it lies, its whole text, its blocks, and what is typed before it."""

    path: Path
    text: str
    blocks: tuple[Block, ...]
    after: str | None

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def is_typed(self) -> bool:
        return any(block.is_typed for block in self.blocks)


def read(path: Path) -> Page:
    """Reads a page. Raises ValueError with the line of a mark that marks nothing."""
    return parse(path, path.read_text())


def parse(path: Path, text: str) -> Page:
    """The same of a text."""
    blocks: list[Block] = []
    says: dict[str, str] = {}  # of the whole page
    here: dict[str, str] = {}  # of the block that follows
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if mark := _MARK.match(line):
            of_page = mark["name"] in ("typed after", "not run from here")
            (says if of_page else here)[mark["name"] or mark["last"]] = mark["says"]
            continue
        if fence := _FENCE.match(line):
            inside = []
            for _, each in lines:
                if each.strip() == "```":
                    break
                inside.append(each.removeprefix(fence["indent"]) + "\n")
            not_run = here.get("not run", says.get("not run from here"))
            blocks.append(Block(fence["kind"], "".join(inside), number, not_run, "only at the end" in here))
        elif here:
            raise ValueError(f"{path}:{number}: a mark stands right before a block")
        here = {}
    return Page(path, text, tuple(blocks), says.get("typed after"))


def pages() -> list[Page]:
    """All pages of the repository."""
    paths = [*ROOT.glob("*.md")]
    for folder in ("deploy", "docs", "envoy", "integration", "kuma-policies"):
        paths += (ROOT / folder).rglob("*.md")
    return [read(path) for path in sorted(paths)]
