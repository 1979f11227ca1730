"""Rows as Parquet: typed, exact, in bounded memory; the examples of the documentation find what a report says."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from censuses import random_census, store
from test_export import HOSTILE, endpoint

from mxcensus import cli, reporting
from reports import parquet, rows
from reports.definitions import Unit
from reports.rows import BadExportError, export
from storage import reader
from storage.columns import COLUMNS
from storage.database import open_database

EXAMPLES = re.findall(
    r"```sql\n(.*?)```", (Path(__file__).parent.parent / "docs" / "notebooks.md").read_text(), re.DOTALL
)


@pytest.fixture(scope="module")
def census(sqlite_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    url = f"sqlite:///{folder / 'census.db'}"
    database = open_database(url)
    database.write(lambda connection: store(connection, random_census(5, domains=300, hosts=80, addresses=60)))
    for what in COLUMNS:
        path = folder / f"{what}.parquet"
        assert cli.main(["export", "--db", url, "--what", what, "--format", "parquet", "-o", str(path)]) == 0
    yield folder, database
    database.close()


def test_rows_are_those_of_json_lines(census):
    folder, database = census
    streams = {
        "domains": reader.domains(database, 1),
        "endpoints": reader.endpoints(database, 1, lambda names, host: True),
        "certificates": reader.certificates(database, 1),
    }
    for what, stream in streams.items():
        table = pq.read_table(folder / f"{what}.parquet")
        assert tuple(table.column_names) == COLUMNS[what]
        for found, row in zip(table.to_pylist(), stream, strict=True):
            for name in set(COLUMNS[what]) - {"name_match"}:
                assert comparable(found[name]) == comparable(row.get(name), name), (what, name)


def comparable(value, name=""):
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if name in parquet.TIMES and value is not None:
        return datetime.fromisoformat(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if name == "mx":
        return [{field: one[field] for field in parquet.STRUCTS["mx"]} for one in value]
    return value


def test_columns_have_types(census):
    folder, _ = census
    types = {
        field.name: str(field.type) for what in COLUMNS for field in pq.read_schema(folder / f"{what}.parquet")
    }
    assert types["started_at"] == types["not_after"] == "timestamp[us, tz=UTC]"
    assert types["ehlo_keywords"] == types["eku_oids"] == "list<element: string>"
    assert "status: int64" in types["mta_sts_policy"]
    assert "fetched_at: timestamp[us, tz=UTC]" in types["mta_sts_policy"]
    assert types["mx"].startswith("list<element: struct<preference: int64, host: string, addresses: list<")
    assert (types["port"], types["expired"], types["weight"], types["der"]) == ("int64", "bool", "double", "binary")


@pytest.mark.parametrize(("example", "figure", "unit"), [(0, "eku", Unit.MX_HOST), (1, "eku", Unit.DOMAIN)])
def test_the_documentation_s_query_finds_the_figure(census, monkeypatch, example, figure, unit):
    folder, database = census
    monkeypatch.chdir(folder)
    found = {row[0]: row[1:] for row in duckdb.sql(EXAMPLES[example]).fetchall()}
    told = reporting.build(database, 1).figure(figure, unit)
    assert len(told.rows) > 3
    expected = {row.key[0]: (row.count, pytest.approx(row.share)) for row in told.rows if row.count}
    assert found == expected


def test_the_documentation_s_query_of_certificates_finds_the_figure(census, monkeypatch):
    folder, database = census
    monkeypatch.chdir(folder)
    found = {row[:2]: row[2] for row in duckdb.sql(EXAMPLES[2]).fetchall()}
    told = reporting.build(database, 1).figure("eku_by_hierarchy", Unit.CERTIFICATE)
    measured = {row["certificate"] for row in reader.endpoints(database, 1, lambda names, host: True)}
    seen = {row["sha256"] for row in reader.certificates(database, 1)} <= measured
    assert seen
    assert found == {row.key: row.count for row in told.rows if row.key[0] == "server+client"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_survives_or_is_escaped(tmp_path, text):
    path = tmp_path / "endpoints.parquet"
    row = endpoint(greeting=text, ehlo_keywords=[text], detail="fine", started_at="9999-12-31T23:59:59Z")
    assert export([row], "endpoints", "parquet", path) == 1
    (found,) = pq.read_table(path).to_pylist()
    assert found["greeting"] == found["ehlo_keywords"][0] == text.encode(errors="backslashreplace").decode()


def test_memory_is_bounded_by_the_batch(tmp_path):
    path = tmp_path / "domains.parquet"
    held = []

    def stream():
        for number in range(3 * parquet.BATCH + 1):
            held.append(pa.total_allocated_bytes())
            yield {"domain": f"{number}.example", "mx": []}

    assert export(stream(), "domains", "parquet", path) == 3 * parquet.BATCH + 1
    assert pq.ParquetFile(path).num_row_groups == 4
    assert max(held) < 50_000_000


def test_a_failed_export_leaves_nothing_and_standard_output_is_refused(tmp_path):
    path = tmp_path / "domains.parquet"

    def breaking():
        yield {"domain": "a.example", "mx": []}
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        export(breaking(), "domains", "parquet", path)
    assert not list(tmp_path.iterdir())
    for place in (None, "-", "/dev/null", tmp_path / "missing" / "x"):
        with pytest.raises(BadExportError) as raised:
            export([], "domains", "parquet", place)
        assert "\n" not in str(raised.value)
    assert export([], "domains", "parquet", path) == 0
    assert pq.read_table(path).num_rows == 0
    assert set(rows.FORMATS) == {"jsonl", "csv", "parquet"}
