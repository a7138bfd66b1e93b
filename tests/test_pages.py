"""How tests read a page: its blocks, and the marks before them."""

from pathlib import Path

import pytest

from tests.pages import Page, parse

PAGE = """# A page

<!-- typed after: start.md -->
```yaml
# edge.yaml
nodes: []
```

```yaml
# edge.yaml, a part of it
nodes: []
```

```yaml
# fleet/node.yaml: what a node is told
node: {}
```

```python
# call.py: with requests
import requests
```

<!-- not run: a cluster -->
```sh
kubectl get pods
```

- In a list:

    ```sh
    tbms status
    ```

<!-- only at the end -->
```sh
kill %1
```

<!-- not run from here: Docker -->

```sh
docker ps
```
"""


def page(text: str) -> Page:
    return parse(Path("page.md"), text)


def test_blocks_are_read_with_their_marks() -> None:
    read = page(PAGE)
    assert read.after == "start.md"
    assert [(block.kind, block.line, block.is_typed, block.file) for block in read.blocks] == [
        ("yaml", 4, False, "edge.yaml"),
        ("yaml", 9, False, None),
        ("yaml", 14, False, "fleet/node.yaml"),
        ("python", 19, False, "call.py"),
        ("sh", 25, False, None),
        ("sh", 31, True, None),
        ("sh", 36, True, None),
        ("sh", 42, False, None),
    ]
    assert [block.not_run for block in read.blocks] == [None, None, None, None, "a cluster", None, None, "Docker"]
    assert [block.only_at_the_end for block in read.blocks] == [False, False, False, False, False, False, True, False]
    assert read.blocks[5].text == "tbms status\n"


def test_what_is_not_run_without_a_reason_is_run() -> None:
    assert page("<!-- not run -->\n```sh\nkubectl get pods\n```\n").is_typed


def test_a_page_is_typed_if_some_block_is() -> None:
    assert page(PAGE).is_typed
    assert not page("<!-- not run from here: Docker -->\n```sh\ndocker ps\n```\n").is_typed


@pytest.mark.parametrize("between", ["", "Some words.\n"])
def test_a_mark_that_marks_nothing_is_an_error(between: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md:2: a mark stands right before a block"):
        page(f"<!-- not run: a cluster -->\n{between}\n```sh\nkubectl get pods\n```\n")
