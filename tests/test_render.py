"""Renderers on hostile text and narrow terminals; the shared sanitiser character by character."""

import io
import re
import unicodedata
from dataclasses import replace

import pytest
from censuses import random_census
from rich.console import Console
from test_figures import report_of

from reports import as_csv, as_json, as_markdown, text
from reports.terminal import print_summary

HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "ansi": "\x1b[31mred\x1b]0;title\x07 \x9b2J",
    "nul": "a\x00b",
    "bidi": "\u202egpj.exe\u2066 \u200f",
    "invisible": "pay\u200bpal\ufeff\U000e0041",
    "lines": "one\r\ntwo\u2028three\x85four\x0bfive",
    "surrogate": "caf\udce9 \ud800",
    "table": "a | b | c\n| --- |",
    "markdown": "`code` **bold** [x](http://evil.example) ![i](x) www.evil.example @team ~~s~~ #1",
    "formula": "=cmd|' /C calc'!A0",
    "rich": "[bold red]markup[/] [link=http://evil.example]x[/link]",
    "long": "x" * 1_000_000,
}


@pytest.fixture(scope="module")
def plain():
    return report_of(random_census(4))


def hostile(report, value):
    """The report as if CA owners, software, key types, reasons, the label and the snapshot had this text."""

    def dirty(figure):
        rows = tuple(replace(row, key=(value, *row.key[1:])) for row in figure.rows[:1]) + figure.rows[1:]
        coverage = replace(figure.coverage, not_measured={value: 1})
        return replace(figure, rows=rows, coverage=coverage)

    scan = replace(report.scan, label=value, tool_version=value, settings={"contact": value})
    figures = tuple(dirty(figure) for figure in report.figures)
    return replace(report, scan=scan, trust=replace(report.trust, id=value, as_of=value), figures=figures)


def in_terminal(report, width=80):
    out = io.StringIO()
    print_summary(report, Console(file=out, width=width, force_terminal=False, color_system=None))
    return out.getvalue()


def commands(shown):
    """Characters that do something other than being seen."""
    return {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_markdown_shows_hostile_text_as_text(plain, value):
    shown = as_markdown.render(hostile(plain, value))
    assert not commands(shown)
    assert len(shown) < 100_000
    assert "<script" not in shown
    assert "<img" not in shown
    assert not re.search(r"(?<!\\)\[x\]\(", shown)
    assert "http://evil" not in shown
    assert "www.evil" not in shown
    tables = [block.splitlines() for block in shown.split("\n\n") if block.startswith("|")]
    for lines in tables:  # no value made a cell or a line of its own
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert all(line.startswith("| ") for line in lines)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [20, 80])
def test_the_terminal_shows_hostile_text_as_text(plain, value, width):
    shown = in_terminal(hostile(plain, value), width)
    assert not commands(shown)
    assert all(len(line) <= width for line in shown.splitlines())
    assert len(shown) < 200_000


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_csv_and_json_keep_hostile_text_in_its_cell(plain, value):
    report = hostile(plain, value)
    table = as_csv.render(report)
    assert not commands(table.replace("\r\n", "\n"))
    assert not re.search(r"(?m)(^|,)\"?[=+@-]", table)
    assert table.count("\r\n") == 1 + sum(len(figure.rows) for figure in report.figures)
    assert as_json.render(report).isascii()


def test_rich_markup_is_shown_not_obeyed(plain):
    assert "[bold red]" in in_terminal(hostile(plain, HOSTILE["rich"]), 200)


def test_the_summary_names_figures_and_coverage(plain):
    shown = in_terminal(plain, 120)
    for word in ("Coverage", "attempted", "measured", "server+client", "Private certificates", "domains"):
        assert word in shown
    assert len(shown.splitlines()) < 70


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("mail.example", "mail.example"),
        ("tab\tnew\nline", r"tab\x09new\x0aline"),
        ("\x1b[0m", r"\x1b[0m"),
        ("\u202eabc", r"\u202eabc"),
        ("\udce9", r"\xe9"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("Zürich 東京 😀", "Zürich 東京 😀"),
    ],
)
def test_show(given, shown):
    assert text.show(given) == shown


def test_show_is_bounded_also_where_escapes_make_it_longer():
    assert text.show("x" * 200) == "x" * 200
    assert text.show("x" * 201) == "x" * 199 + "…"
    assert len(text.show("\x00" * 1_000_000)) == 200
    assert len(text.spreadsheet("=" * 1_000_000)) <= 32_767


def test_every_control_character_of_unicode_is_shown():
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert character not in text.show(character), hex(code)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(None, "n/a"), (0.0, "0.0 %"), (0.0001, "<0.1 %"), (0.123, "12.3 %"), (0.9999, ">99.9 %"), (1.0, "100.0 %")],
)
def test_percent_never_rounds_some_to_none_or_all(share, shown):
    assert text.percent(share) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0"), (1234567, "1,234,567"), (10.0, "10"), (1234.5, "1,234.5")])
def test_number(count, shown):
    assert text.number(count) == shown
