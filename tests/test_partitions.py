"""Parquet by scan and day: DuckDB opens only the files that a condition asks for, and finds what a report says."""

import re
from collections import Counter
from datetime import UTC, date, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from censuses import START, random_census, store
from sqlalchemy import update
from test_parquet import EXAMPLES

from mxcensus import cli, reporting
from reports import partitions
from reports.definitions import Unit
from reports.rows import BadExportError, export_partitions
from storage import reader
from storage.columns import COLUMNS
from storage.database import open_database
from storage.schema import observation

DAY = START.astimezone(UTC).date()
DAYS = 3
EXAMPLE = next(example for example in EXAMPLES if "hive_partitioning" in example)


@pytest.fixture(scope="module")
def lake(sqlite_template, tmp_path_factory):
    """Two scans of three days each, exported."""
    folder = tmp_path_factory.mktemp("lake")
    url = f"sqlite:///{folder / 'census.db'}"
    database = open_database(url)
    for seed in (5, 6):
        database.write(lambda connection, s=seed: store(connection, random_census(s, domains=300, hosts=80)))
    database.write(spread_over_days)
    for scan in (1, 2):
        for what in COLUMNS:
            assert exported(url, what, folder / "lake", "--scan", str(scan)) == 0
    yield folder / "lake", database
    database.close()


def exported(url, what, folder, *more):
    arguments = ("--db", url, "--what", what, "--format", "parquet", "--partitioned", "-o", str(folder))
    return cli.main(["export", *arguments, *more])


def spread_over_days(connection):
    for day in range(1, DAYS):
        chosen = observation.c.mx_host.in_(
            [row.mx_host for row in connection.execute(observation.select()) if hash_of(row.mx_host) % DAYS == day]
        )
        moved = update(observation).where(chosen).values(started_at=START + timedelta(days=day))
        assert connection.execute(moved).rowcount


def hash_of(text):
    return sum(text.encode())


def test_every_row_is_there_once_in_the_folder_of_its_scan_and_day(lake):
    folder, database = lake
    for scan in (1, 2):
        expected = Counter(
            ((row["started_at"] or DAY.isoformat())[:10], row["mx_host"], row["address"])
            for row in reader.endpoints(database, scan, lambda names, host: True)
        )
        found = Counter()
        for path in (folder / "endpoints" / f"scan={scan}").rglob("*.parquet"):
            day = path.parent.name.removeprefix("day=")
            rows = pq.read_table(path, partitioning=None)
            assert tuple(rows.column_names) == COLUMNS["endpoints"]  # neither scan nor day stands in the file too
            found.update((day, row["mx_host"], row["address"]) for row in rows.to_pylist())
        assert found == expected
        assert len({day for day, *_ in found}) == DAYS


def test_duckdb_finds_the_figure_of_a_scan_and_opens_no_other_s_files(lake, monkeypatch):
    folder, database = lake
    monkeypatch.chdir(folder.parent)
    found = {row[0]: row[1:] for row in duckdb.sql(EXAMPLE).fetchall()}
    told = reporting.build(database, 2).figure("eku", Unit.MX_HOST)
    assert len(told.rows) > 3
    assert found == {row.key[0]: (row.count, pytest.approx(row.share)) for row in told.rows if row.count}
    assert opened(EXAMPLE) == (DAYS, 2 * DAYS)
    assert opened(EXAMPLE.replace("scan = 2", f"scan = 2 AND day = DATE '{DAY}'")) == (1, 2 * DAYS)


def opened(query):
    """How many files DuckDB read, and of how many, as its own profile of the query says."""
    profile = "\n".join(row[1] for row in duckdb.sql(f"EXPLAIN ANALYZE {query}").fetchall())
    read, known = re.search(r"Scanning Files:\s*(\d+)/(\d+)", profile).groups()
    return int(read), int(known)


def test_partitions_have_types_of_their_own(lake):
    folder, _ = lake
    query = f"SELECT scan, day, count(*) FROM read_parquet('{folder}/certificates/*/*/*.parquet') GROUP BY ALL"
    assert {row[:2] for row in duckdb.sql(query).fetchall()} == {(1, DAY), (2, DAY)}


def rows_of(*days):
    return [{"mx_host": f"mx{n}.example", "started_at": f"{day}T10:00:00Z"} for n, day in enumerate(days)]


def test_a_scan_that_is_written_again_is_replaced_and_others_stay(tmp_path):
    for scan in (1, 2):
        export_partitions(rows_of("2026-03-01", "2026-03-02"), "endpoints", tmp_path, scan, DAY)
    assert export_partitions(rows_of("2026-03-05"), "endpoints", tmp_path, 1, DAY) == 1
    assert files(tmp_path) == {
        "endpoints/scan=1/day=2026-03-05/part-00000.parquet",
        "endpoints/scan=2/day=2026-03-01/part-00000.parquet",
        "endpoints/scan=2/day=2026-03-02/part-00000.parquet",
    }


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_fails_leaves_what_was_there(tmp_path):
    export_partitions(rows_of("2026-03-01"), "endpoints", tmp_path, 1, DAY)
    before = files(tmp_path)

    def breaking():
        yield from rows_of("2026-03-07")
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        export_partitions(breaking(), "endpoints", tmp_path, 1, DAY)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints"]
    assert [path.name for path in (tmp_path / "endpoints").iterdir()] == ["scan=1"]


def test_half_an_export_is_not_in_the_table(tmp_path):
    export_partitions(rows_of("2026-03-01"), "endpoints", tmp_path, 1, DAY)
    before = files(tmp_path / "endpoints")

    def watched():
        for number in range(partitions.BATCH + 1):
            yield {"mx_host": f"mx{number}.example"}
        assert files(tmp_path / "endpoints") == before
        assert len(files(tmp_path)) == len(before) + 1

    export_partitions(watched(), "endpoints", tmp_path, 1, DAY)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("stranger", ["notes.txt", "day=2026-03-01/notes.txt", "day=2026-03-01/deep/x.parquet"])
def test_nothing_but_partitions_is_ever_removed(tmp_path, stranger):
    export_partitions(rows_of("2026-03-01"), "endpoints", tmp_path, 1, DAY)
    path = tmp_path / "endpoints/scan=1" / stranger
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = files(tmp_path)
    with pytest.raises(BadExportError, match="no partition of an export"):
        export_partitions(rows_of("2026-03-02"), "endpoints", tmp_path, 1, DAY)
    assert files(tmp_path) == before


def test_files_and_memory_are_bounded_however_days_alternate(tmp_path, monkeypatch):
    monkeypatch.setattr(partitions, "ROWS_A_FILE", 40)
    monkeypatch.setattr(partitions, "MOST_OPEN", 3)
    monkeypatch.setattr(partitions, "MOST_HELD", 30)
    days = [str(date(2026, 1, 1) + timedelta(days=n % 7)) for n in range(500)]
    assert export_partitions(rows_of(*days), "endpoints", tmp_path, 1, DAY) == 500
    found = Counter()
    for path in tmp_path.rglob("*.parquet"):
        rows = pq.read_table(path, partitioning=None).num_rows
        assert 0 < rows < 40 + 30
        found[path.parent.name.removeprefix("day=")] += rows
    assert found == Counter(days)


def test_a_scan_without_rows_is_an_empty_table(tmp_path):
    assert export_partitions([], "domains", tmp_path, 7, DAY) == 0
    (path,) = tmp_path.rglob("*.parquet")
    assert path.relative_to(tmp_path) == Path(f"domains/scan=7/day={DAY}/part-00000.parquet")
    assert duckdb.sql(f"SELECT count(*), any_value(domain) FROM '{path}'").fetchall() == [(0, None)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--format", "csv", "-o", "x"], "--partitioned is for --format parquet"),
        (["--format", "parquet"], "name one with --output"),
        (["--format", "parquet", "-o", "taken"], "taken"),
    ],
)
def test_what_cannot_be_written_is_one_line(lake, tmp_path, monkeypatch, capsys, more, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    url = f"sqlite:///{lake[0].parent / 'census.db'}"
    assert cli.main(["export", "--db", url, "--what", "domains", "--partitioned", *more]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert files(tmp_path) == {"taken"}
