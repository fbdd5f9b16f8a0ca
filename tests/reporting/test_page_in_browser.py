"""The page in a real Chromium, opened from disk: what a person can do with it, without a mouse too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attnbench.reporting.page import write_page

from .pages import HOSTILE, add_attention, add_histories, add_hostile_text, write_hostile_sweep
from .records import make_records

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
PATIENCE = 30_000  # ms: a busy machine is slow


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sweep of 120 runs with all that runs leave."""
    folder = tmp_path_factory.mktemp("demo")
    records = make_records(folder, runs=120, outputs=True)
    add_histories(folder, records, 30)
    add_attention(folder, records)
    add_hostile_text(folder, records)
    return write_page([folder], folder).path.as_uri()


@pytest.fixture
def page(browser: playwright.Browser, address: str) -> Iterator[playwright.Page]:
    """The page of the sweep of 120 runs, opened."""
    with opened_page(browser, address) as opened:
        yield opened


@contextmanager
def opened_page(browser: playwright.Browser, address: str) -> Iterator[playwright.Page]:
    """A page; afterwards it must have been silent and have asked nobody for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def until(page: playwright.Page, condition: str) -> None:
    """Wait for an expression of JavaScript; playwright's own way to would need what the page forbids itself."""
    page.evaluate(
        f"""new Promise((done, fail) => {{
          const end = performance.now() + {PATIENCE};
          const look = () => ({condition}) ? done()
            : performance.now() > end ? fail(Error({condition!r})) : requestAnimationFrame(look);
          look();
        }})"""
    )


def shows(page: playwright.Page, rows: str) -> None:
    until(page, f"document.getElementById('count').textContent === '{rows} rows'")


def column(page: playwright.Page, title: str) -> list[str]:
    """What stands in a column of the table."""
    heads = page.locator("#grid thead th").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.strip() == title) + 1
    return [text.strip() for text in page.locator(f"#grid tbody td:nth-child({place})").all_inner_texts()]


def tick(page: playwright.Page, *places: int) -> None:
    for place in places:
        page.locator("#grid tbody input").nth(place).check()
    page.wait_for_selector("#curve-charts .js-plotly-plot .scatterlayer .trace", state="attached")


def test_filters_by_any_key_and_sorts(page: playwright.Page) -> None:
    assert page.inner_text("#summary").startswith("120 runs, ")
    assert page.inner_text("#count") == "120 of 120 rows"
    page.click("#add-filter")
    page.select_option("#filters select >> nth=0", "config.model.depth")
    page.select_option("#filters select >> nth=1", "≥")
    page.fill("#filters input", "4")
    shows(page, "48 of 120")
    assert set(column(page, "depth")) == {"4", "6"}
    page.click("#add-filter")  # a key that no column shows, the same in every run
    page.select_option("#filters li:nth-child(2) select >> nth=0", "config.model.d_model")
    page.fill("#filters li:nth-child(2) input", "1")
    shows(page, "0 of 120")
    page.click("#filters li:nth-child(2) button")
    page.fill("#search", "finished")
    until(page, "!['0 of 120 rows', '48 of 120 rows'].includes(document.getElementById('count').textContent)")
    assert set(column(page, "state")) == {"finished"}
    page.click("#grid thead button:text-is('bleu')")
    page.click("#grid thead button:text-is('bleu')")
    assert page.get_attribute("#grid th:has(button:text-is('bleu'))", "aria-sort") == "descending"
    found = column(page, "bleu")
    known = [float(text) for text in found if text != "nan"]
    assert [*map(str, sorted(known, reverse=True))] == [str(float(text)) for text in found[: len(known)]]
    assert set(found[len(known) :]) <= {"nan"}
    page.click("#clear-filters")
    shows(page, "120 of 120")


def test_settings_are_the_rows_of_the_table_and_missing_cells_say_why(page: playwright.Page) -> None:
    page.click("#views button:text-is('Settings')")
    assert page.inner_text("#count") == "40 of 40 rows"
    text = page.inner_text("#grid")
    for said in ("(n=3)", "(2/3 seeds)", "diverged", "not run"):
        assert said in text
    page.click("#add-filter")
    page.select_option("#filters select >> nth=0", "config.attention.score")
    page.fill("#filters input", "additive")
    shows(page, "20 of 40")
    tick(page, 0)
    assert page.locator("#ticked .chip").count() == 3


def test_compares_curves_configs_and_results(page: playwright.Page) -> None:
    tick(page, 0, 4)
    charts = page.locator("#curve-charts figure")
    assert charts.locator("figcaption").all_inner_texts() == ["train/loss", "val/bleu"]
    axis = "document.querySelector('#curve-charts .js-plotly-plot').layout.xaxis"
    for value, title in [
        ("seconds", "seconds of training"), ("flops", "FLOPs"), ("units", "target tokens trained on")
    ]:  # fmt: skip
        page.select_option("#curve-controls select", value)
        until(page, f"{axis}.title.text === '{title}'")
    drawn = "document.querySelector('#curve-charts .js-plotly-plot').data"
    rough, last = (page.evaluate(f"{drawn}[0].{axis}") for axis in ("y", "x.at(-1)"))
    assert last == pytest.approx(30 * 40_200, rel=0.01)
    page.locator("#curve-controls input[type=range]").fill("0.9")
    until(page, f"{drawn}.length === 4")
    smooth = page.evaluate(f"{drawn}[1].y")
    weights = [0.1 * 0.9 ** (len(rough) - 1 - i) for i in range(len(rough))]
    averaged = sum(w * y for w, y in zip(weights, rough, strict=True)) / sum(weights)
    assert smooth[0] == pytest.approx(rough[0])
    assert smooth[-1] == pytest.approx(averaged)
    page.fill("#curve-controls input[type=number] >> nth=1", "600000")
    page.keyboard.press("Tab")
    until(page, f"{axis}.range[1] === 600000")
    assert page.locator("#difference-table th[scope=row]").all_inner_texts() == [
        "seed",
        "attention.score",
    ]
    assert page.evaluate("document.querySelector('#result-chart').data[0].x.length") == 2
    page.click("#ticked .chip button >> nth=0")
    until(page, "document.querySelectorAll('#ticked .chip').length === 1")
    assert page.evaluate("document.activeElement.closest('.chip') !== null"), "the focus is lost"


def test_translations_are_marked_word_by_word(page: playwright.Page) -> None:
    tick(page, 0, 1)
    first = page.locator("#output-list .sentence >> nth=0")
    rows = first.locator("td").all_inner_texts()
    reference = rows[1]
    hypothesis = first.locator("tr >> nth=2")
    for mark, other in (("ins", "del"), ("del", "ins")):
        kept = hypothesis.locator("td").evaluate(
            f"cell => {{ const c = cell.cloneNode(true); c.querySelectorAll('{mark}').forEach(m => m.remove());"
            "return c.textContent.trim().split(/\\s+/).join(' '); }"
        )
        assert (kept == reference) is (mark == "ins"), other
    assert HOSTILE.split()[0] in hypothesis.locator("ins").all_inner_texts()
    assert page.title().endswith("· attnbench")
    assert page.locator("img").count() == 0


def test_attention_of_the_same_example_side_by_side(page: playwright.Page) -> None:
    tick(page, 0, 12, 24)  # a layer of two heads, one of four, two layers of two
    until(page, "document.querySelectorAll('#map-charts .heatmaplayer').length === 3")
    maps = page.locator("#map-charts figure")
    values = page.evaluate("document.querySelector('#map-charts .js-plotly-plot').data[0].z.map(row => row.length)")
    assert values == [5] * 6
    maps.nth(0).locator(".heatmaplayer").scroll_into_view_if_needed()
    box = maps.nth(0).locator(".nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 2.5 / 5, box["y"] + box["height"] * 1.5 / 6)
    page.wait_for_selector("#map-charts .hovertext")
    said = page.locator("#map-charts .hovertext").text_content()
    assert said is not None
    assert re.fullmatch(r"<q1> → k2[01]\.\d\d\d", said)
    page.select_option("#map-controls select >> nth=3", "3")
    until(page, "document.querySelectorAll('#map-charts .heatmaplayer').length === 1")
    assert "This run has 2 heads." in maps.nth(0).inner_text()
    page.select_option("#map-controls select >> nth=3", "mean")
    until(page, "document.querySelectorAll('#map-charts .heatmaplayer').length === 3")
    sums = page.evaluate(
        "document.querySelector('#map-charts .js-plotly-plot').data[0].z.map(row => row.reduce((a, b) => a + b))"
    )
    assert sums == pytest.approx([1] * 6, abs=0.02)


def test_failures_show_what_was_raised_and_logged(page: playwright.Page) -> None:
    page.locator("#failures summary", has_text="img src").first.click()
    shown = page.locator("#failures pre:visible").all_inner_texts()
    assert any(HOSTILE in text and text.startswith("Traceback") for text in shown)
    assert any(text.startswith("train.log:\nlog: </script>") for text in shown)


def test_every_text_is_shown_as_it_is(browser: playwright.Browser, tmp_path: Path) -> None:
    address = write_page([write_hostile_sweep(tmp_path)], tmp_path / "exp").path.as_uri()
    with opened_page(browser, address) as page:
        assert page.title() == f"{' '.join(HOSTILE.split())} · attnbench"
        for view in ("Settings", "Runs"):
            page.click(f"#views button:text-is('{view}')")
            for place in range(3):
                page.locator("#grid tbody input").nth(place).check()
        page.wait_for_selector("#map-charts .heatmaplayer", state="attached")
        page.evaluate("document.querySelectorAll('#curve-controls details input').forEach(one => one.click())")
        page.wait_for_selector("#curve-charts .js-plotly-plot .scatterlayer .trace", state="attached")
        page.check("#all-keys")
        page.click("#add-filter")
        page.click("#columns summary")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        for kind in page.locator("#map-controls select >> nth=0").locator("option").all():
            page.select_option("#map-controls select >> nth=0", kind.get_attribute("value"))
            page.wait_for_selector("#map-charts .heatmaplayer", state="attached")
        shown = ["#table", "#curves", "#difference-table", "#output-list", "#map-charts", "#failure-list", "h1"]
        for part in shown:
            assert "<img src=x onerror=" in (page.text_content(part) or ""), part
        assert page.locator("img[src='x'], [onerror], script:not([type]) ~ script:not([type])").count() == 0
        # What turns the direction of a line leaves what stands behind it in the same line as it is.
        for text in (page.inner_text("#ticked .chip >> nth=0"), page.inner_text("#map-charts figcaption >> nth=0")):
            assert text.count("\u2068") == text.count("\u2069") > 0
            assert re.search(r"\u2069( seed=1|.*\(0\.50\))", text, re.S)


def test_with_the_keyboard_alone(page: playwright.Page) -> None:
    def tab_to(what: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches({what!r})"):
                break
        else:
            pytest.fail(f"no way to {what} by Tab")
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert float(width.removesuffix("px")) >= 2, f"{what} does not show that it has the focus"

    tab_to("#search")
    page.keyboard.type("additive")
    tab_to("#add-filter")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    page.keyboard.type("model.depth")
    tab_to("#filters input")
    page.keyboard.type("6")
    shows(page, "12 of 120")
    tab_to("#grid thead button")
    page.keyboard.press("Space")
    assert page.get_attribute("#grid th:nth-child(2)", "aria-sort") == "ascending"
    tab_to("#grid tbody input")
    page.keyboard.press("Space")
    page.wait_for_selector("#curve-charts .js-plotly-plot .scatterlayer .trace", state="attached")
    tab_to("#curve-controls input[type=range]")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#curve-charts .js-plotly-plot').data.length === 2")


def test_readable_on_a_phone_in_light_and_dark(page: playwright.Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#add-filter")
    tick(page, 0, 1, 2)
    page.wait_for_selector("#map-charts .heatmaplayer", state="attached")
    for place in range(page.locator("details").count()):
        page.locator("details").nth(place).evaluate("one => { one.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
        check_contrast(page)


def check_contrast(page: playwright.Page) -> None:
    lightness = """name => {
      const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
      canvas.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
      canvas.fillRect(0, 0, 1, 1);
      const linear = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    }"""
    for ink, paper in [
        ("--ink", "--paper"), ("--quiet", "--paper"), ("--quiet", "--raised"), ("--accent", "--paper"),
        ("--ink", "--ticked"), ("--wrong", "--paper"), ("--added-ink", "--added"), ("--removed-ink", "--removed"),
    ]:  # fmt: skip
        low, high = sorted(page.evaluate(lightness, name) for name in (ink, paper))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{ink} on {paper}: WCAG 2.2, 1.4.3"
