"""Rows as JSON Lines and CSV: every value survives, no cell is a formula, a file appears whole or not at all."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reports.rows import BadExportError, export
from storage.columns import COLUMNS

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",  # noqa: RUF001
    "a\x00b",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe",
    "caf\udce9",
    '"quoted", and; more',
    "x" * 1_000_000,
]


def endpoint(**values):
    return dict.fromkeys(COLUMNS["endpoints"]) | values


def test_columns_are_the_contract_in_order(tmp_path):
    path = tmp_path / "endpoints.csv"
    row = endpoint(
        mx_host="mx.example",
        port=25,
        starttls_offered=True,
        expired=False,
        ehlo_keywords=("SIZE 1000", "STARTTLS"),
        certificate_list=[],
        started_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    )
    assert export([row], "endpoints", "csv", path) == 1
    (line,) = csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))
    assert list(line) == list(COLUMNS["endpoints"])
    assert line["ehlo_keywords"] == '["SIZE 1000","STARTTLS"]'
    assert line["certificate_list"] == "[]"
    assert (line["starttls_offered"], line["expired"], line["tls_version"]) == ("true", "false", "")
    assert line["started_at"] == "2026-03-01T12:00:00Z"
    assert path.read_bytes().count(b"\r\n") == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_no_csv_cell_starts_a_formula_or_moves_a_cursor(tmp_path, text):
    path = tmp_path / "endpoints.csv"
    export([endpoint(greeting=text, detail="fine")], "endpoints", "csv", path)
    (line,) = csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))
    cell = line["greeting"]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))  # noqa: RUF001
    assert not set(cell) & set("\x00\x1b\r\n\t\u202e")
    assert len(cell) < 32_768
    assert line["detail"] == "fine"


@pytest.mark.parametrize("text", HOSTILE)
def test_json_lines_keep_every_text_exactly(tmp_path, text):
    path = tmp_path / "endpoints.jsonl"
    export([endpoint(greeting=text), endpoint(greeting=None)], "endpoints", "jsonl", path)
    first, second = path.read_bytes().splitlines()
    assert first.isascii()
    assert b"\x1b" not in first
    assert json.loads(first)["greeting"] == text
    assert list(json.loads(second)) == list(COLUMNS["endpoints"])


def test_der_is_base64_and_lists_are_lists(tmp_path):
    path = tmp_path / "certificates.jsonl"
    export([{"sha256": "00", "der": b"\x30\x00", "eku_oids": ("1.2",)}], "certificates", "jsonl", path)
    row = json.loads(path.read_text())
    assert (row["der"], row["eku_oids"], row["issuer"]) == ("MAA=", ["1.2"], None)


def test_standard_output(capsys):
    for path in (None, "-"):
        assert export([{"domain": "a.example"}], "domains", "jsonl", path) == 1
        assert json.loads(capsys.readouterr().out)["domain"] == "a.example"


def test_a_failed_export_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "domains.jsonl"
    path.write_text("old")

    def breaking():
        yield {"domain": "a.example"}
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        export(breaking(), "domains", "jsonl", path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_or_device_is_written_not_replaced(tmp_path):
    assert export([{"domain": "a.example"}], "domains", "csv", "/dev/null") == 1
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("kind", "file_format", "place"),
    [("hosts", "csv", "x"), ("domains", "xml", "x"), ("domains", "csv", "missing/x"), ("domains", "csv", "a/b/c")],
)
def test_bad_input_is_one_line(tmp_path, kind, file_format, place):
    with pytest.raises(BadExportError) as raised:
        export([], kind, file_format, tmp_path / place)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_long_certificates_are_exact_in_csv(tmp_path):
    path = tmp_path / "certificates.csv"
    encoded = "A" * 100_000
    export([{"der": encoded}, {"der": "+AAA"}, {"der": b"\xf8"}], "certificates", "csv", path)
    first, second, third = (line.rpartition(",")[2] for line in path.read_text().splitlines()[1:])
    assert (first, second, third) == (encoded, "'+AAA", "'+A==")
