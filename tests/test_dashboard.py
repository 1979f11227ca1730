"""The dashboard: the same report as the command line, read-only, closed without a token, hostile text as text."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from censuses import random_census
from test_figures import report_of

from mxcensus import cli
from reports import as_json
from reports.dashboard import FORMATS, HEADERS, application
from scanner.records import ScanInfo

START = datetime(2026, 3, 1, tzinfo=UTC)
SCANS = [ScanInfo(1, "<b>bold</b>\x1b", START, None, "running", "0", "1", None, 1, {})]


@pytest.fixture(scope="module")
def report():
    return report_of(random_census(5))


def client(report, token=None):
    transport = httpx.ASGITransport(application(lambda: SCANS, lambda _: report, token))
    return httpx.AsyncClient(transport=transport, base_url="http://dashboard.test")


async def test_it_lists_scans_and_shows_hostile_labels_as_text(report):
    answer = await client(report).get("/")
    assert answer.status_code == 200
    assert "<b>" not in answer.text
    assert "\x1b" not in answer.text
    assert "/scans/1/report.html" in answer.text


@pytest.mark.parametrize("form", FORMATS)
async def test_every_format_is_served_with_strict_headers(report, form):
    answer = await client(report).get(f"/scans/1/report.{form}")
    assert answer.status_code == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "set-cookie" not in answer.headers
    if form == "json":
        assert answer.json() == json.loads(as_json.render(report))


async def test_what_is_not_there_is_404_and_nothing_can_be_changed(report):
    here = client(report)
    assert (await here.get("/scans/2/report.json")).status_code == 404
    assert (await here.get("/scans/1/report.exe")).status_code == 404
    assert (await here.post("/")).status_code == 405
    assert (await here.delete("/scans/1/report.json")).status_code == 405


async def test_a_token_is_asked_for_and_compared_whole(report):
    here = client(report, "secret")
    assert (await here.get("/")).status_code == 401
    assert (await here.get("/?token=secre")).status_code == 401
    assert (await here.get("/?token=secret")).status_code == 200
    assert (await here.get("/", headers={"Authorization": "Bearer secret"})).status_code == 200


def test_another_address_needs_a_token(capsys, monkeypatch):
    monkeypatch.delenv("MXCENSUS_TOKEN", raising=False)
    assert cli.main(["serve", "--host", "192.0.2.1"]) == 2
    assert "MXCENSUS_TOKEN" in capsys.readouterr().err
