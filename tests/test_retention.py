"""Retention: a scan goes from every table, its figures stay as a file, and what other scans share stays too."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from storing import START, new_scan, store
from test_storage_purge import CERTIFICATES, census, names, sizes

from mxcensus.cli import main
from scanner.records import Role, Sighting
from storage import experiments
from storage.database import open_database
from storage.retention import OF_A_SCAN, last_activity, remove_scan, remove_unused_facts
from storage.rows import digests

FACTS = {"certificate", "certificate_list", "ca_name_set"}
DAY = timedelta(days=1)


def run(*arguments):
    return main([str(argument) for argument in arguments])


def purge(url, *arguments):
    return run("purge", "--db", url, *arguments)


def count_of(database, scan_id):
    with database.reading() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table).where(table.c.scan_id == scan_id))
            for table in OF_A_SCAN
        }


async def finished(database, scan_id, at=START):
    await database.set_state(scan_id, "finished", at)
    return scan_id


async def test_a_scan_goes_from_every_table_and_another_stays(database):
    first, second = await census(database), await census(database, mine=False)
    before, others = count_of(database, first), count_of(database, second)
    assert all(before.values()), "a table without a row proves nothing"
    deleted = remove_scan(database, first)
    assert deleted == {**before, "scan": 1}
    assert not any(count_of(database, first).values())
    assert count_of(database, second) == others
    # only the first scan had seen `mine`; the shared CA, and all of the second's, stay
    assert remove_unused_facts(database) == dict.fromkeys(FACTS, 1)
    assert names(database, second) == ({"theirs.example"}, {"mx.theirs.example"}, {b"theirs", b"shared-ca"})
    assert not any(remove_scan(database, first).values())
    remove_scan(database, second)
    remove_unused_facts(database)
    assert {name for name, count in sizes(database).items() if count} == {"trial"}


async def test_a_number_is_never_given_again(database):
    first = await new_scan(database)
    remove_scan(database, first)
    assert await new_scan(database) > first


async def test_the_report_that_is_kept_is_the_one_that_there_was(database, database_url, tmp_path, capsys):
    await finished(database, await census(database))
    await finished(database, await census(database, mine=False))
    for number in (1, 2):
        run("report", "--db", database_url, "--scan", number, "--format", "json", "-o", tmp_path / f"{number}.json")
    capsys.readouterr()
    assert purge(database_url, "--scan", 1, "--keep-reports", tmp_path / "kept") == 0
    said = capsys.readouterr().out
    assert "scan 1 removed" in said
    assert "backups" in said
    assert "exports" in said
    kept = tmp_path / "kept" / "scan-1.json"
    assert kept.read_bytes() == (tmp_path / "1.json").read_bytes()
    assert json.loads(kept.read_text())["scan"]["id"] == 1
    assert run("report", "--db", database_url, "--scan", 1) == 2
    assert "there is no scan 1" in capsys.readouterr().err
    again = tmp_path / "again.json"
    assert run("report", "--db", database_url, "--format", "json", "-o", again) == 0
    assert again.read_bytes() == (tmp_path / "2.json").read_bytes()


async def test_what_ended_before_a_day_goes_experiments_too(database, database_url, tmp_path, capsys):
    await finished(database, await census(database), START)
    await finished(database, await census(database, mine=False), START + DAY)
    interrupted = await census(database, mine=False)
    await database.set_state(interrupted, "interrupted", START + DAY)
    assert last_activity(database, 1) == START
    await experiments.finish(database, 1, START + DAY)
    await experiments.finish(database, 2, START)
    kept = tmp_path / "kept"
    day = (START + DAY).date()
    assert purge(database_url, "--before", START.date(), "--keep-reports", kept) == 0
    assert capsys.readouterr().out.startswith(f"nothing ended before {START.date()}")
    assert purge(database_url, "--before", day, "--keep-reports", kept, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["scans"], found["experiments"], found["running"]) == ([1], [2, 3], [])
    assert {name: found["deleted"][name] for name in ("scan", "experiment", "trial")} == {
        "scan": 1,
        "experiment": 2,
        "trial": 2,
    }
    assert {path.name for path in kept.iterdir()} == {"scan-1.json", "experiment-2.json", "experiment-3.json"}
    told = json.loads((kept / "experiment-2.json").read_text())
    assert told["outcomes"] == [{"variant": "none", "outcome": "accepted", "reason": None, "count": 1}]
    assert "example" not in (kept / "experiment-2.json").read_text()
    assert [info.scan for info in database.scans()] == [2, 3]


async def test_a_scan_at_work_is_no_scan_to_remove_and_keeps_what_it_may_be_about_to_refer_to(
    database, database_url, capsys
):
    await finished(database, await census(database))
    at_work = await new_scan(database, started_at=datetime.now(UTC))
    assert purge(database_url, "--scan", at_work, "--no-reports") == 2
    assert "at work within the last day" in capsys.readouterr().err
    before = sizes(database)
    assert purge(database_url, "--scan", 1, "--no-reports", "--json") == 0
    assert json.loads(capsys.readouterr().out)["running"] == [at_work]
    after = sizes(database)
    assert {name: after[name] for name in FACTS} == {name: before[name] for name in FACTS}
    await database.set_state(at_work, "finished", datetime.now(UTC))
    assert purge(database_url, "--before", "2020-01-01", "--no-reports") == 0
    assert {name for name, count in sizes(database).items() if count} == {"trial"}


async def test_a_report_that_differs_is_not_replaced_and_nothing_is_removed(
    database, database_url, tmp_path, capsys
):
    await finished(database, await census(database))
    kept = tmp_path / "scan-1.json"
    kept.write_text("another database's scan 1")
    before = sizes(database)
    assert purge(database_url, "--scan", 1, "--keep-reports", tmp_path) == 2
    assert "is there and differs" in capsys.readouterr().err
    assert (sizes(database), kept.read_text()) == (before, "another database's scan 1")
    run("report", "--db", database_url, "--format", "json", "-o", kept)  # as a purge leaves it that was killed then
    assert purge(database_url, "--scan", 1, "--keep-reports", tmp_path) == 0
    assert database.scans() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-reports"], "one of the three"),
        (["example.com", "--scan", "1", "--no-reports"], "one of the three"),
        (["--scan", "1"], "--keep-reports DIR"),
        (["--scan", "1", "--keep-reports", "x", "--no-reports"], "--keep-reports DIR"),
        (["example.com", "--no-reports"], "whole scans only"),
        (["--scan", "9", "--no-reports"], "there is no scan 9"),
        (["--scan", "1", "--scan", "9", "--keep-reports", "x"], "there is no scan 9"),
        (["--before", "9999-01-01", "--no-reports"], "still to come"),
        (["--before", "yesterday", "--no-reports"], "no date"),
        (["--scan", "1", "--keep-reports", "census.db"], "census.db"),
    ],
)
async def test_bad_usage_is_one_line_and_loses_nothing(
    tmp_path, sqlite_template, monkeypatch, capsys, arguments, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "census.db").write_bytes(sqlite_template.read_bytes())
    database = open_database("sqlite:///census.db")
    await finished(database, await census(database))
    before = sizes(database)
    try:
        status = run("purge", *arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert sizes(database) == before
    database.close()


async def test_what_another_scan_only_sighted_stays(database):
    first, second = await census(database), await new_scan(database)
    presented = digests([b"mine", b"shared-ca"])
    await store(database, second, *CERTIFICATES[:2], Sighting(1, Role.CLIENT, presented))
    remove_scan(database, first)
    assert remove_unused_facts(database) == {"certificate_list": 1, "ca_name_set": 2, "certificate": 1}
    assert names(database, second)[2] == {b"mine", b"shared-ca"}
