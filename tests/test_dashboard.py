"""The dashboard over HTTP: the same report as the command line, read-only, closed without a token, text as text."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from censuses import random_census
from test_figures import report_of

from mxcensus import cli
from reports import as_json, layout, pages
from reports.dashboard import FORMATS, HEADERS, IMAGES, PAGE_POLICY, STATIC, application
from reports.text import number
from scanner.records import ScanInfo
from storage.standing import Standing

START = datetime(2026, 3, 1, tzinfo=UTC)
SCANS = [
    ScanInfo(1, "<b>bold</b>\x1b", START, START, "finished", "0", "1", None, 1, {}),
    ScanInfo(2, None, START, None, "running", "0", "1", None, 1, {}),
]
STANDING = Standing(10, 4, 0, 20, 5, 1, 14, 2, 3)
OWNER = "<script>alert('x')</script> & \u202e Co"


class Source:
    """Two scans with one report; counts how often it is asked."""

    def __init__(self, report):
        self.report_of, self.counted = report, 0

    def scans(self):
        return SCANS

    def report(self, scan):
        self.counted += 1
        return self.report_of

    def standing(self, scan):
        return STANDING


@pytest.fixture(scope="module")
def report():
    return replace(report_of(random_census(5, text=OWNER)), scan=SCANS[0])


def client(report, token=None, host="127.0.0.1:8025"):
    transport = httpx.ASGITransport(application(Source(report), token))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


async def test_it_lists_scans_and_shows_hostile_labels_as_text(report):
    answer = await client(report).get("/")
    assert answer.status_code == 200
    assert "<b>bold" not in answer.text
    assert "\x1b" not in answer.text
    assert "/scans/1/report.html" in answer.text


@pytest.mark.parametrize("form", FORMATS)
async def test_every_format_is_served_with_strict_headers(report, form):
    answer = await client(report).get(f"/scans/1/report.{form}")
    assert answer.status_code == 200
    expected = HEADERS | ({"Content-Security-Policy": PAGE_POLICY} if form == "html" else {})
    assert {name: answer.headers[name] for name in expected} == expected
    assert "set-cookie" not in answer.headers
    if form == "json":
        assert answer.json() == json.loads(as_json.render(report))


@pytest.mark.parametrize(("form", "begins"), [("svg", b"<svg"), ("png", b"\x89PNG")])
async def test_charts_are_served_as_files(report, form, begins):
    here = client(report)
    for query in ("", "?unit=domain"):
        answer = await here.get(f"/scans/1/figures/eku.{form}{query}")
        assert answer.headers["content-type"] == IMAGES[form][1]
        assert answer.content.startswith(begins)
    assert (await here.get(f"/scans/1/figures/eku.{form}?unit=issuer")).status_code == 404


def test_every_figure_has_a_page_with_every_number(report):
    for figure in report.figures:
        page = pages.figure(report, figure.id, figure.unit, lambda _: "", pages.Links(None))
        for shown in (*map(layout.cell, figure.rows), number(figure.coverage.attempted)):
            assert f"<td>{shown.replace('<', '&lt;').replace('>', '&gt;')}</td>" in page, figure.id
        assert "<script" not in page


async def test_classes_show_what_crosses_them_and_their_names_as_text(report):
    here = client(report)
    answer = await here.get("/scans/1/classes/ca_owner", params={"value": OWNER})
    assert answer.status_code == 200
    assert "eku_by_issuer" in answer.text
    crossed = [f for f in report.figures if f.id == "eku_by_issuer"]
    for eku in {row.key[0] for figure in crossed for row in figure.rows if row.key[1] == OWNER}:
        assert f">{eku}</a>" in answer.text
    assert "<script" not in answer.text
    assert "\u202e" not in answer.text
    figure = await here.get("/scans/1/figures/issuers")
    links = [part.split('"')[0] for part in figure.text.split('href="') if part.startswith("/scans/1/classes")]
    assert links
    for link in links:
        assert (await here.get(link.replace("&amp;", "&"))).status_code == 200


async def test_no_page_names_a_host_an_address_or_a_domain():
    census = random_census(6)
    names = [
        *census.hosts,
        *(address for some in census.addresses.values() for address in some),
        *(row["domain"] for row in census.domains),
        *census.certificates,
    ]
    here = client(replace(report_of(census), scan=SCANS[0]))
    for path in ("/", "/scans/1", "/scans/1/figures/software", "/scans/1/classes/software?value=postfix"):
        text = (await here.get(path)).text
        assert not [name for name in names if name in text]


async def test_progress_is_counts_only(report):
    answer = await client(report).get("/scans/2/progress.json")
    found = answer.json()
    assert (found["state"], found["domains"], found["resolved"], found["tested"]) == ("running", 10, 6, 6)


async def test_only_an_unfinished_scan_s_page_has_the_script(report):
    here = client(report)
    assert "<script" not in (await here.get("/scans/1")).text
    assert (await here.get("/scans/2")).text.count("<script src=") == 1


@pytest.mark.parametrize("name", STATIC)
async def test_our_own_files_are_served(report, name):
    answer = await client(report).get(f"/static/{name}")
    assert answer.headers["content-type"].startswith(STATIC[name])


async def test_a_report_is_counted_once(report):
    source = Source(report)
    transport = httpx.ASGITransport(application(source, None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as here:
        for path in ("/scans/1", "/scans/1/figures/eku", "/scans/1/report.json"):
            assert (await here.get(path)).status_code == 200
    assert source.counted == 1


@pytest.mark.parametrize(
    "path",
    [
        "/scans/3",
        "/scans/3/report.json",
        "/scans/1/report.exe",
        "/scans/1/figures/nothing",
        "/scans/1/figures/eku?unit=nothing",
        "/scans/1/classes/mx_host?value=x",
        "/scans/1/classes/software?value=nothing",
        "/static/page.html.j2",
        "/static/..%2Fdefinitions.py",
    ],
)
async def test_what_is_not_there_is_404(report, path):
    assert (await client(report).get(path)).status_code == 404


async def test_nothing_can_be_changed(report):
    here = client(report)
    assert (await here.post("/")).status_code == 405
    assert (await here.delete("/scans/1/report.json")).status_code == 405


async def test_a_token_is_asked_for_and_compared_whole(report):
    here = client(report, "se&cret", host="census.example")
    assert (await here.get("/")).status_code == 401
    assert (await here.get("/", params={"token": "se"})).status_code == 401
    shown = await here.get("/", params={"token": "se&cret"})
    assert shown.status_code == 200
    assert 'href="/scans/1?token=se%26cret"' in shown.text
    assert (await here.get("/", headers={"Authorization": "Bearer se&cret"})).status_code == 200
    for path in ("/static/page.css", "/scans/1/progress.json", "/scans/1/figures/eku.svg"):
        assert (await here.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("[::1]:80", 200),
        ("127.5.0.1", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
    ],
)
async def test_without_a_token_only_names_of_loopback_are_answered(report, host, status):
    answer = await client(report).get("/", headers={"Host": host})
    assert answer.status_code == status


def test_another_address_needs_a_token(capsys, monkeypatch):
    monkeypatch.delenv("MXCENSUS_TOKEN", raising=False)
    assert cli.main(["serve", "--host", "192.0.2.1"]) == 2
    assert "MXCENSUS_TOKEN" in capsys.readouterr().err
