"""The pictures in docs/images: taken from the demo's own pages (`make screenshots`), and held to be current."""

import hashlib
import json
import os
from pathlib import Path

import browser
import pytest
from conftest import need

from mxcensus import cli, reporting
from mxcensus.commands.serve import Stored
from reports import as_html
from reports.dashboard import application
from storage.database import open_database

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("browser")]

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"
TAKEN = IMAGES / "taken.json"
DESKTOP = {"width": 1200, "height": 1250}
PICTURES = {
    "report": ("report", {"viewport": {"width": 1200, "height": 1700}}),
    "report-dark": ("report#hierarchy", {"viewport": DESKTOP, "color_scheme": "dark"}),
    "report-phone": ("report#eku", {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}),
    "dashboard-scan": ("/scans/1", {"viewport": DESKTOP}),
    "dashboard-figure": ("/scans/1/figures/eku_by_hierarchy?unit=mx_host", {"viewport": DESKTOP}),
}


def look():
    """A digest of what decides how pages look: templates and styles."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "reports" / "data").glob("*.*")):
        if path.suffix in (".css", ".j2"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.skipif("MXCENSUS_SCREENSHOTS" not in os.environ, reason="pictures are taken by `make screenshots`")
def test_take_them(tmp_path):
    if browser.program() is None:
        need("chromium is missing")
    assert cli.main(["demo", "-o", str(tmp_path)]) == 0
    database = open_database(f"sqlite:///{tmp_path / 'census.db'}", create=False)
    page_file = tmp_path / "report.html"
    page_file.write_text(as_html.render(reporting.build(database, None)))
    with browser.chromium() as chromium, browser.served(application(Stored(database), None)) as url:
        for name, (place, options) in PICTURES.items():
            where = url + place if place.startswith("/") else place.replace("report", page_file.as_uri(), 1)
            with browser.opened(chromium, reduced_motion="reduce", **options) as (page, wrong):
                page.goto(where)
                page.wait_for_timeout(300)
                page.screenshot(path=IMAGES / f"{name}.png")
                assert wrong == []
    database.close()
    TAKEN.write_text(json.dumps({"look": look(), "pictures": sorted(PICTURES)}, indent=1) + "\n")


def test_they_are_there_and_show_the_pages_as_they_are():
    taken = json.loads(TAKEN.read_text())
    assert taken["pictures"] == sorted(PICTURES)
    for name in PICTURES:
        picture = (IMAGES / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert 20_000 < len(picture) < 500_000
    assert taken["look"] == look(), "templates or styles have changed since: run `make screenshots`"
