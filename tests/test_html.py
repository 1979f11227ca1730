"""The page and the charts: the same numbers as the JSON, no script, no remote asset, hostile text shown as text."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from censuses import random_census
from test_figures import report_of

from reports import as_html, as_json, charts
from reports.text import number, percent

HOSTILE = "<script>alert(1)</script>\"'\x1b[31m\u202e=cmd\x00" + "x" * 5000
NAME = re.compile(r"\A[a-z0-9]+\Z")


class Page(HTMLParser):
    """The elements, attributes and table cells of a page, by figure."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells = set(), [], {}
        self._figure = self._cell = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "figure":
            self._figure = dict(attrs)["id"]
        if tag == "td":
            self._cell = []

    def handle_endtag(self, tag):
        if tag == "td":
            self.cells.setdefault(self._figure, []).append("".join(self._cell))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)


@pytest.fixture(scope="module", params=[3, 8])
def report(request):
    return report_of(random_census(request.param, sightings=request.param * 5))


def test_the_page_has_every_number_of_the_json(report):
    page = Page(as_html.render(report))
    for figure, said in zip(report.figures, json.loads(as_json.render(report))["figures"], strict=True):
        cells = page.cells[figure.name]
        for row in said["rows"]:
            shown = f"{number(row['count'])} ({percent(row['share'])})"
            assert any(cell.split(" any ")[0] == shown for cell in cells), (figure.name, figure.unit, row)
        assert number(said["coverage"]["attempted"]) in cells


def test_the_page_is_one_file_without_script(report):
    text = as_html.render(report)
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object", "img", "form"}
    assert not [value for name, value in page.attributes if name in {"src", "href"} and not value.startswith("#")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<title>" in text
    assert len(text) < 3_000_000


def test_every_chart_can_be_read_without_being_seen(report):
    text = as_html.render(report)
    drawn = charts.drawn(report)
    assert len(drawn) >= 8
    assert text.count('role="img"') == len(drawn)
    assert text.count("<desc>") == len(drawn)


def test_charts_are_svg_and_png(report):
    figure = charts.drawn(report)[0]
    assert ET.fromstring(charts.svg(figure)).tag.endswith("svg")
    assert charts.png(figure).startswith(b"\x89PNG\r\n")
    shares = [value["share"] for value in _values(charts.specification(figure))]
    assert sum(shares) == pytest.approx(1)


def _values(specification):
    data = specification.get("data") or specification["layer"][0]["data"]
    return data["values"]


def test_hostile_text_stays_text():
    report = report_of(random_census(3, text=HOSTILE))
    text = as_html.render(report)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "x" * 1000 not in text
    assert all(NAME.match(tag) for tag in Page(text).tags)
