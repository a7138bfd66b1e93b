"""Hooks of MkDocs: pages read the same in the repository and as a site (`make site`).

- The navigation is the list of links in docs/README.md, a section for each of its headings.
- A link that leads out of docs/ leads to a Markdown page of the repository, which becomes a page below `project/`. Any
  other file is named in backticks and not linked: a strict build refuses such a link.
- A list may follow a paragraph without an empty line, as CommonMark has it.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
_OUTSIDE = "project/"
# Code stays as it is; of a link the target is wanted.
_LINK = re.compile(r"(?P<code>^```.*?^```|``.+?``|`[^`]+`)|\]\((?P<target>[^)\s]+)\)", re.M | re.S)
_ENTRY = re.compile(r"^(?:## (?P<section>.+)|- \[(?P<title>[^\]]+)\]\((?P<target>[^)\s]+)\).*)$", re.M)
# A line of a paragraph (of no list, heading or table) with a list right behind it.
_CODE_OR_LIST = re.compile(r"(?P<code>^```.*?^```)|^(?![ #|]|[-*+] |\d+\. )[^\n]+\n(?=(?:-|1\.) \S)", re.M | re.S)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Reads the navigation."""
    sections: list[dict[str, list[dict[str, str]]]] = []
    for entry in _ENTRY.finditer((_ROOT / "docs/README.md").read_text(encoding="utf-8")):
        if entry["section"]:
            sections.append({entry["section"]: []})
        else:
            pages = next(iter(sections[-1].values()))
            pages.append({entry["title"]: _in_site(posixpath.normpath(f"docs/{entry['target']}"))})
    config.nav = [{"Documentation": "README.md"}, *sections]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside of docs/ to which links lead, and those to which links in these lead."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for target in _targets((_ROOT / page).read_text(encoding="utf-8")):
            path = _in_repository(page, target)
            if (
                path
                and path.endswith(".md")
                and (_ROOT / path).is_file()
                and not files.get_file_from_path(_in_site(path))
            ):
                files.append(File.generated(config, _in_site(path), abs_src_path=str(_ROOT / path)))
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links as they are in the site, and with empty lines before its lists."""
    here = page.file.src_uri
    of = here.removeprefix(_OUTSIDE) if here.startswith(_OUTSIDE) else f"docs/{here}"

    def moved(link: re.Match[str]) -> str:
        path = _in_repository(of, link["target"]) if link["target"] else None
        if path is None:
            return link[0]
        _, hash_, anchor = link["target"].partition("#")
        return f"]({posixpath.relpath(_in_site(path), posixpath.dirname(here) or '.')}{hash_}{anchor})"

    return _CODE_OR_LIST.sub(lambda found: found[0] if found["code"] else f"{found[0]}\n", _LINK.sub(moved, markdown))


def _targets(markdown: str) -> Iterator[str]:
    return (link["target"] for link in _LINK.finditer(markdown) if link["target"])


def _in_repository(page: str, target: str) -> str | None:
    """The path of a link's target in the repository; None for an address, or a place in the page itself."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path))


def _in_site(path: str) -> str:
    """Where a file of the repository is in the site's sources."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{_OUTSIDE}{path}"
