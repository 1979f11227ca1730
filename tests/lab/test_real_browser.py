"""Report and dashboard in a real Chromium: no console error, charts drawn, keyboard, contrast, text as text."""

import shutil
from urllib.parse import urlsplit

import browser
import pytest
from censuses import random_census, store
from conftest import need
from sqlalchemy import delete, update

from mxcensus import reporting
from mxcensus.commands.serve import Stored
from reports import as_html, charts
from reports.dashboard import application
from reports.definitions import DEFINITIONS
from storage.database import open_database
from storage.schema import endpoint, observation, scan

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("browser")]

HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>\"'=cmd\x1b[31m\u202egpj\ue000 %2e%2e/ ?#&" + "x" * 5000
)
MOST_PAGES = 60
WITH_SOME_OF_EACH = {"domains": 60, "hosts": 30, "addresses": 25, "certificates": 25}


@pytest.fixture(scope="module")
def chromium():
    if browser.program() is None:
        need("chromium is missing")
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def database(sqlite_template, tmp_path_factory):
    """Scan 1 with plain names, scan 2 with hostile ones."""
    path = tmp_path_factory.mktemp("browser") / "census.db"
    shutil.copy(sqlite_template, path)
    opened = open_database(f"sqlite:///{path}")
    opened.write(lambda connection: store(connection, random_census(8, **WITH_SOME_OF_EACH)))
    opened.write(lambda connection: store(connection, random_census(9, text=HOSTILE, **WITH_SOME_OF_EACH)))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def url(database):
    with browser.served(application(Stored(database), None)) as found:
        yield found


@pytest.fixture(scope="module")
def page_file(database, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(as_html.render(reporting.build(database, 1)))
    return path.as_uri()


def test_every_page_renders_without_an_error(chromium, url):
    with browser.opened(chromium) as (page, wrong):
        waiting, seen = [f"{url}/"], set()
        while waiting and len(seen) < MOST_PAGES:
            at = waiting.pop(0)
            seen.add(at)
            assert page.goto(at).status == 200, at
            for link in page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)"):
                to, inner = urlsplit(link), link.split("#")[0]
                other = "." in to.path.rpartition("/")[2] or to.path.startswith("/scans/1")
                if not other and not to.query.startswith("unit=") and inner not in {*seen, *waiting}:
                    waiting.append(inner)
            assert page.evaluate("document.querySelectorAll('script, img, iframe').length") == 0, at
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), at
        assert wrong == []
        assert len([at for at in seen if "/figures/" in at]) == len(DEFINITIONS)
        assert len([at for at in seen if "/classes/" in at]) > 10


def test_hostile_names_are_shown_as_text(chromium, url):
    with browser.opened(chromium) as (page, wrong):
        page.goto(f"{url}/scans/2/figures/software")
        page.click("tbody a >> text=img src")
        assert "/classes/software" in page.url
        assert page.inner_text("h1").startswith("software <img src=x onerror=alert(1)>")
        assert "\\x1b[31m\\u202egpj\\ue000" in page.inner_text("h1")
        assert wrong == []


def test_charts_are_drawn_with_a_bar_a_row(chromium, url, database):
    report = reporting.build(database, 1)
    with browser.opened(chromium) as (page, wrong):
        for figure in charts.drawn(report):
            page.goto(f"{url}/scans/1/figures/{figure.name}?unit={figure.unit}")
            box = page.locator("svg").bounding_box()
            assert box["width"] > 300, figure.id
            assert box["height"] > 60, figure.id
            bars = page.locator("svg .mark-rect path").count()
            along_time = figure.id == "exposure"  # which has a bar a month, and the rest in words
            rows = [row for row in figure.rows if row.key[0][:1].isdigit() or not along_time]
            assert bars == min(len(rows), charts.MOST_BARS), figure.id
        assert wrong == []


def test_all_can_be_reached_by_keyboard(chromium, url):
    with browser.opened(chromium) as (page, _):
        page.goto(f"{url}/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        tab_to(page, "Scan 2")
        page.keyboard.press("Enter")
        page.wait_for_url("**/scans/2")
        tab_to(page, "Server software")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.wait_for_url("**/figures/software")
        tab_to(page, "domains")
        page.keyboard.press("Enter")
        page.wait_for_url("**/figures/software?unit=domain")


def tab_to(page, name):
    """Press Tab until the link of that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    pytest.fail(f"{name} cannot be reached by Tab")


def test_the_report_s_tables_open_by_keyboard(chromium, page_file):
    with browser.opened(chromium) as (page, wrong):
        page.goto(page_file)
        first = page.locator("details:not([open]) summary").first
        first.focus()
        page.keyboard.press("Enter")
        assert page.locator("details[open] table").first.is_visible()
        assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_by_everybody(chromium, url, page_file, scheme):
    with browser.opened(chromium, color_scheme=scheme) as (page, _):
        inside = ("/", "/scans/1", "/scans/1/figures/eku_by_hierarchy", "/scans/1/classes/software?value=postfix")
        for at in (*(f"{url}{path}" for path in inside), page_file):
            page.goto(at)
            page.evaluate("for (const some of document.querySelectorAll('details')) some.open = true")
            assert page.evaluate(browser.ACCESSIBILITY) == [], at


def test_pages_fit_a_phone(chromium, url, page_file):
    with browser.opened(chromium, viewport=browser.PHONE, is_mobile=True, has_touch=True) as (page, wrong):
        for at in (f"{url}/", f"{url}/scans/2", f"{url}/scans/2/figures/software", page_file):
            page.goto(at)
            page.evaluate("for (const some of document.querySelectorAll('details')) some.open = true")
            assert page.evaluate("document.documentElement.scrollWidth") <= browser.PHONE["width"], at
        assert wrong == []


def test_print_shows_the_tables_that_are_closed_on_the_screen(chromium, page_file):
    with browser.opened(chromium) as (page, _):
        page.goto(page_file)
        closed = page.locator("details:not([open]) table").first
        assert not closed.is_visible()
        page.emulate_media(media="print")
        assert closed.bounding_box()["height"] > 20
        assert page.pdf().startswith(b"%PDF")


def test_a_token_opens_pages_scripts_and_files(chromium, database):
    with browser.served(application(Stored(database), "se cret")) as url, browser.opened(chromium) as (page, wrong):
        assert page.goto(f"{url}/").status == 401
        wrong.clear()  # the browser reports the 401 itself
        assert page.goto(f"{url}/?token=se%20cret").status == 200
        page.click("text=Scan 1")
        page.click("text=Server software")
        assert page.locator("svg").is_visible()
        assert page.evaluate("getComputedStyle(document.body).fontVariantNumeric") is not None
        assert page.evaluate("[...document.styleSheets].length") == 2
        assert page.context.cookies() == []
        assert wrong == []


def test_progress_moves_by_itself_until_the_scan_has_ended(chromium, sqlite_template, tmp_path):
    path = tmp_path / "census.db"
    shutil.copy(sqlite_template, path)
    database = open_database(f"sqlite:///{path}")
    number = database.write(lambda connection: store(connection, random_census(3)))

    def set_state(state):
        database.write(lambda connection: connection.execute(update(scan).values(state=state)).rowcount)

    def forget_half(connection):
        host = connection.execute(observation.select().limit(1)).one().mx_host
        for table in (observation, endpoint):
            connection.execute(delete(table).where(table.c.mx_host == host))

    set_state("running")
    try:
        with (
            browser.served(application(Stored(database), None)) as url,
            browser.opened(chromium) as (page, wrong),
        ):
            page.goto(f"{url}/scans/{number}")
            before = page.inner_text("[data-field=endpoints]")
            database.write(forget_half)
            page.wait_for_function(
                "was => document.querySelector('[data-field=endpoints]').textContent !== was", arg=before
            )
            set_state("finished")
            page.wait_for_selector("main:not(:has([data-progress]))")
            assert page.locator("script").count() == 0
            assert page.inner_text("[data-field=state]") == "finished"
            assert wrong == []
    finally:
        database.close()
