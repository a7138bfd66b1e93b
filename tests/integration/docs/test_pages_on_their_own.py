"""Pages that need no other one: a reader types them from top to bottom."""

from collections.abc import Callable

import pytest

from tests.pages import START, Page, pages

PAGES = [page for page in pages() if page.is_typed and page.after != START]


@pytest.mark.envoy
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Page, does_what_it_says: Callable[[Page], None]) -> None:
    does_what_it_says(page)
