"""The page in a real browser, with documents made by hand: many models, names that are markup, keys, both themes."""

import itertools
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from integration.stack.ports import free_port
from tests.integration.dashboard import documents
from tests.integration.dashboard.conftest import HandMade, OpenTab, served

NODES, EACH = 10, 1000


def node_of(number: int, models: int, looks: Iterator[int]) -> HandMade:
    return HandMade(f"10.0.0.{number}:9904", lambda: documents.node(number, models, next(looks)))


async def says(page: Any, where: str, text: str) -> None:
    """Waits until the element has exactly that text."""
    await page.locator(where, has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


async def test_ten_thousand_models_are_shown_found_and_scrolled(open_tab: OpenTab) -> None:
    looks = itertools.count(1)
    peers = [node_of(each, EACH, looks) for each in range(NODES)]
    async with served(lambda: documents.edge(NODES, at=next(looks)), peers) as url, open_tab(url) as tab:
        page = tab.page
        await says(page, "#found", "10,000 models")
        assert await page.locator("*").count() < 1500
        assert await page.locator("#models").get_attribute("aria-rowcount") == "10001"
        await page.fill("#search", "model-07-00999")
        await says(page, "#found", "1 of 10,000 models")
        assert await page.locator("#models tbody:not(.spacer) tr").count() == 1
        await page.fill("#search", "")
        await page.select_option("#state", "failed")
        await page.select_option("#node", "node-03")
        await says(page, "#found", "50 of 10,000 models")
        await page.select_option("#state", "")
        await page.select_option("#node", "")
        await page.locator("#models-frame").evaluate("frame => { frame.scrollTop = frame.scrollHeight; }")
        await page.locator("#models").get_by_text("model-09-00999").wait_for()
        assert await page.locator("#models tbody tr").count() < 60


async def test_on_a_narrow_screen_tables_scroll_and_names_stay_whole(open_tab: OpenTab) -> None:
    looks = itertools.count(1)
    phone = {"viewport": {"width": 390, "height": 844}}
    async with (
        served(lambda: documents.edge(1, at=next(looks)), [node_of(0, 5, looks)]) as url,
        open_tab(url, **phone) as tab,
    ):
        await says(tab.page, "#found", "5 models")
        lines = "cell.clientHeight / parseFloat(getComputedStyle(cell).lineHeight)"
        cut = f"cell => cell.scrollWidth > cell.clientWidth || {lines} >= 2"
        for where, name in (("#models", "model-00-00001"), ("#nodes", "node-00"), ("#processes", "this one")):
            cell = tab.page.locator(f"{where} td").get_by_text(name, exact=True).first
            await cell.wait_for()
            assert not await cell.evaluate(cut), where
        assert await tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_the_axis_of_a_chart_without_values_says_different_ones(open_tab: OpenTab) -> None:
    looks = itertools.count(1)
    ticks = """async () => {
      const { Chart } = await import("/ui/charts.js");
      const chart = new Chart(document.getElementById("charts"), "none", (value) => `${value}`, { empty: 10 });
      const shown = [];
      for (const values of [{ line: null }, { line: 0 }, { line: 3 }]) {
        chart.add(shown.length, values);
        await new Promise(requestAnimationFrame);
        shown.push(chart.uplot.scales.y.max, chart.uplot.axes[1]._values);
      }
      return shown;
    }"""
    async with served(lambda: documents.edge(1, 1, at=next(looks))) as url, open_tab(url) as tab:
        await tab.page.locator("#charts canvas").first.wait_for()
        nothing, marks, zero, again, most, _ = await tab.page.evaluate(ticks)
    assert (nothing, zero, most) == (10, 10, 3 * 1.1)
    assert marks == again == ["0", "5", "10"]


async def test_what_only_edges_tell_is_not_there_without_one(open_tab: OpenTab) -> None:
    looks = itertools.count(1)
    async with served(lambda: documents.node(0, 1, next(looks))) as url, open_tab(url) as tab:
        await says(tab.page, "#found", "1 model")
        await tab.page.locator("#no-edge").wait_for()
        assert [await tab.page.locator(each).is_visible() for each in ("#charts", "#races")] == [False, False]
    async with served(lambda: documents.edge(1, 1, at=next(looks))) as url, open_tab(url) as tab:
        await tab.page.locator("#charts canvas").first.wait_for()
        assert [await tab.page.locator(each).is_visible() for each in ("#no-edge", "#races")] == [False, True]


async def test_names_are_text_whatever_they_say(open_tab: OpenTab) -> None:
    looks = itertools.count(1)

    def own() -> documents.EdgeDocument:
        document = documents.edge(2, 3, name=documents.HOSTILE, at=next(looks))
        node = document["nodes"][0]
        node["alive"], node["cause"], node["zone"] = False, documents.HOSTILE, documents.HOSTILE
        first = next(iter(document["models"].values()))
        document["models"] = {documents.HOSTILE: first, "__proto__": first, "constructor": first}
        document["batches"] = {
            name: {
                "rows": {"bounds": [1, 2], "counts": [next(looks), 0, 0], "sum": 3},
                "waits": {"bounds": [0.1], "counts": [next(looks), 0], "sum": 0.1},
            }
            for name in ("__proto__", documents.HOSTILE)
        }
        return document

    async with served(own) as url, open_tab(url) as tab:
        page = tab.page
        for where in ("#models", "#nodes", "#sources", "#batch-rows", "#node"):
            await page.locator(where).get_by_text(documents.HOSTILE).first.wait_for(state="attached")
        await page.locator("#models").get_by_text("__proto__").wait_for()
        await page.locator("#alarm").get_by_text(documents.HOSTILE).wait_for()
        assert await page.locator("img").count() == 0
        assert await page.title() == "tbms"


async def test_the_picture_is_walked_by_keys_and_told_in_words(open_tab: OpenTab) -> None:
    looks = itertools.count(1)
    peer = HandMade("10.0.0.0:9904", lambda: documents.node(0, 30, next(looks)))
    async with (
        served(lambda: documents.edge(3, at=next(looks)), [peer]) as url,
        open_tab(url, color_scheme="dark") as tab,
    ):
        page = tab.page
        await says(page, "#found", "30 models")
        await page.locator("#picture").focus()
        for _ in range(3):
            await page.keyboard.press("ArrowRight")
        assert "node-00 · model-00-00002 · version 1 · available" in await page.inner_text("#pointed")
        await page.keyboard.press("Enter")
        assert await page.input_value("#search") == "model-00-00002"
        await says(page, "#found", "1 of 30 models")
        # The chart's values, as a table.
        details = page.locator("figure details").nth(2)
        await details.locator("summary").click()
        await details.locator("td").first.wait_for()
        assert "known" in await details.inner_text()


async def test_a_page_whose_server_drains_says_so_and_finds_the_next_one(open_tab: OpenTab) -> None:
    looks, address = itertools.count(1), f"127.0.0.1:{free_port()}"

    def own() -> documents.EdgeDocument:
        return documents.edge(2, at=next(looks))

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(own, address=address))
        async with open_tab(url) as tab:
            await says(tab.page, "#connection", "Live")
            await stack.aclose()
            await says(tab.page, "#connection", "This process is draining")
            async with served(own, address=address):
                await says(tab.page, "#connection", "Live")
            # The browser itself tells its console of tries that failed.
            tab.complaints[:] = [each for each in tab.complaints if "Failed to load resource" not in each]
