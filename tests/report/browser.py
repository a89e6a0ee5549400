"""The report in Debian's chromium: views open, tables sort and filter, numbers lead to records.

Run by `nox -s report-browser` on the committed records; no part of the other tests, which need no browser.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
START = Path(__file__).resolve().parents[2] / "results" / "report" / "index.html"
VIEWS = re.findall(r'<section id="([\w-]+)" class="view"', START.read_text(encoding="utf-8"))
RECORDS = sorted((START.parent / "records").rglob("*.html"))
OWN = (f"file://{START.parent}/", "data:", "blob:")
LOADED = ("report.js", "report.css", "tabulator.min.js", "tabulator_simple.min.css")
MOST_BYTES, MOST_SECONDS = 3e6, 2.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}
        launched = playwright.chromium.launch(**options)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Every test ends with a look at what went wrong meanwhile, and at what was asked of elsewhere."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    opened.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    opened.on(
        "request",
        lambda r: complaints.append(f"left: {r.url}") if not r.url.startswith(OWN) else None,
    )
    yield opened
    opened.close()
    assert not complaints


def visit(page: Page, address: str = "") -> None:
    page.goto("data:,")  # so that a new hash is a new page
    page.goto(f"file://{START}{address}")
    page.wait_for_load_state("load")


def rows(page: Page, table: str) -> list[list[str]]:
    page.locator(f"#{table} .tabulator-row").first.wait_for()
    return page.locator(f"#{table} .tabulator-row").evaluate_all(
        "rows => rows.map(r => [...r.querySelectorAll('.tabulator-cell')].map(c => c.textContent))"
    )


def test_there_is_a_report_to_look_at() -> None:
    assert {"verdict", "paper", "costs", "claims", "speed", "commits", "history"} <= set(VIEWS)
    assert {"records", "cite"} <= set(VIEWS)


def test_it_is_small_and_opens_at_once(page: Page) -> None:
    loaded = [START, *(START.parent / name for name in LOADED)]
    assert sum(path.stat().st_size for path in loaded) <= MOST_BYTES
    visit(page)
    timing = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
    assert 0 < page.evaluate(timing) < MOST_SECONDS


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_opens_alone_and_marks_where_one_is(page: Page, view: str) -> None:
    visit(page)
    page.click(f'nav a[href="#{view}"]')
    page.wait_for_function("id => document.getElementById(id).matches('.open')", arg=view)
    assert page.locator("section.view:visible").count() == 1
    assert page.locator("nav a[aria-current]").get_attribute("href") == f"#{view}"
    for grid in page.locator(f"#{view} > .grid").all():
        grid.locator(".tabulator-row, .tabulator-placeholder").first.wait_for()


def grave(page: Page, part: str = "body") -> list[tuple[str, str, str]]:
    """Serious faults that axe-core finds; it would ask for style sheets again, which a file may not."""
    found = Axe().run(page, context=part, options={"preload": False}).response["violations"]
    return [
        (one["id"], one["nodes"][0]["failureSummary"], one["nodes"][0]["html"])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_grave(page: Page, view: str) -> None:
    visit(page, f"#{view}")
    page.wait_for_timeout(300)
    whole = view == VIEWS[0]  # what is around the views is the same for all
    assert grave(page, "body" if whole else f"#{view}") == []


def test_axe_finds_nothing_grave_in_a_record(page: Page) -> None:
    page.goto(f"file://{RECORDS[0]}")
    page.locator("summary").first.click()
    assert grave(page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_overflows_a_narrow_screen(page: Page, view: str) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    visit(page, f"#{view}")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    wide = "all => all.filter(e => e.getBoundingClientRect().right > 381).map(e => e.textContent)"
    assert page.locator(f"#{view} h1, #{view} h2, #{view} p, #{view} li").evaluate_all(wide) == []


def test_a_record_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto(f"file://{RECORDS[0]}")
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_a_table_sorts_by_number_with_the_keyboard_and_says_so_in_the_address(page: Page) -> None:
    visit(page, "#costs")
    loss = [float(row[2]) for row in rows(page, "every-cost")]
    assert loss != sorted(loss)
    header = page.locator("#every-cost .tabulator-col").nth(2)
    header.focus()
    header.press("Enter")
    assert [float(row[2]) for row in rows(page, "every-cost")] == sorted(loss)
    header.press("Enter")
    assert [float(row[2]) for row in rows(page, "every-cost")] == sorted(loss, reverse=True)
    assert "sort=2&dir=desc" in page.url
    visit(page, page.url.partition("index.html")[2])
    assert [float(row[2]) for row in rows(page, "every-cost")] == sorted(loss, reverse=True)


def test_a_table_filters_and_its_address_leads_back(page: Page) -> None:
    visit(page, "#claims")
    every = len(rows(page, "claims-tiny"))
    page.fill('[data-filter="claims-tiny"]', "disagrees")
    page.wait_for_function(
        "document.querySelector('#claims-tiny .count').textContent.includes('of')"
    )
    left = rows(page, "claims-tiny")
    assert 0 < len(left) < every
    assert all("disagrees" in " ".join(row) for row in left)
    visit(page, page.url.partition("index.html")[2])
    page.wait_for_function(
        "document.querySelector('#claims-tiny .count').textContent.includes('of')"
    )
    assert rows(page, "claims-tiny") == left
    page.fill('[data-filter="claims-tiny"]', "nothing like it")
    page.get_by_text("No row has these words.").wait_for()


def test_a_number_of_the_verdict_leads_to_its_record(page: Page) -> None:
    visit(page)
    page.locator(".senses .number a").first.click()
    page.wait_for_url("**/records/**")
    shown = page.locator("details.cell:visible")
    assert 0 < shown.count() < page.locator("details.cell").count()
    assert all("peer" in t or "dense" in t for t in shown.locator(".name").all_text_contents())
    assert page.get_by_text("Commit", exact=True).is_visible()
    shown.first.locator("summary").click()
    for word in ("validation_loss_nats", "threads", "seed 0"):
        assert shown.first.get_by_text(word, exact=True).is_visible()


def test_a_time_leads_to_its_cell_and_samples(page: Page) -> None:
    visit(page, "#speed")
    page.locator("#layer_speed-tiny .tabulator-row a").nth(1).click()
    page.wait_for_url("**/records/layer_speed-tiny/**#c-*")
    cell = page.locator("details.cell[open]")
    assert cell.count() == 1
    assert re.search(r"\d+ samples:", cell.text_content() or "")


def test_a_mark_says_its_values_and_leads_to_its_cell(page: Page) -> None:
    visit(page, "#costs")
    mark = page.locator("#costs .chart a").last  # drawn last, so nothing hides it
    mark.scroll_into_view_if_needed()
    mark.locator("path").hover()
    assert "nats" in (page.locator("#tip").text_content() or "")
    assert page.locator("#tip").is_visible()
    mark.locator("path").click()
    page.wait_for_url("**/records/isoflop-tiny/**#c-*")


def test_a_table_is_saved_as_csv_with_full_numbers(page: Page) -> None:
    visit(page, "#costs")
    rows(page, "every-cost")
    with page.expect_download() as saved:
        page.click('[data-csv="every-cost"]')
    text = saved.value.path().read_text(encoding="utf-8-sig")
    assert text.splitlines()[0].startswith('"method","size","loss (nats/token)"')
    assert re.search(r"\d\.\d{8}", text.splitlines()[1])


def test_bibtex_is_saved(page: Page) -> None:
    visit(page, "#cite")
    with page.expect_download() as saved:
        page.click("text=Save BibTeX")
    assert saved.value.suggested_filename == "peer-suite.bib"
    assert "@software" in saved.value.path().read_text()


def test_print_has_the_view_and_no_controls(page: Page) -> None:
    visit(page, "#claims")
    rows(page, "claims-tiny")
    page.emulate_media(media="print")
    assert page.locator("h1:visible").text_content() == "The paper's claims"
    assert not page.locator("nav").is_visible()
    assert not page.locator("#claims-tiny .tools").is_visible()
