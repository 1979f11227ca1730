"""Shards: every address in one of them, and joined they are the scan that nobody divided, row for row."""

import shutil
import sqlite3
from itertools import combinations

import pytest
from sqlalchemy import select
from test_lab_scan import mxcensus, scan

from lab.world import World
from mxcensus import merging, reporting
from mxcensus.cli import main
from scanner.certificates import name_matches
from scanner.shards import BadShard, Shard
from scanner.trust import load
from storage import reader
from storage.database import open_database
from storage.schema import metadata

CHANGES = {"started_at", "duration_ms", "detail"}
"""Fields that differ from run to run: times, and words of an error that name a local port."""
SHARDS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(100, tmp_path_factory.mktemp("lab")) as world:
        yield world


def contents(url):
    """The rows and the figures of the scan in a database, less what differs from run to run."""
    database = open_database(url, create=False)
    try:
        kinds = (
            reader.domains(database, 1),
            reader.endpoints(database, 1, name_matches),
            reader.certificates(database, 1),
        )
        rows = [[{k: v for k, v in row.items() if k not in CHANGES} for row in kind] for kind in kinds]
        return (*rows, reporting.build(database, 1).figures)
    finally:
        database.close()


def tables(url):
    """Every row of every table."""
    database = open_database(url, create=False)
    try:
        with database.reading() as connection:
            return {
                table.name: connection.execute(select(table).order_by(*table.primary_key)).all()
                for table in metadata.sorted_tables
            }
    finally:
        database.close()


def test_an_address_belongs_to_one_shard_and_shards_are_alike_in_size():
    shards = [Shard(number, 4) for number in range(1, 5)]
    addresses = [f"192.0.2.{n}" for n in range(256)] + [f"2001:db8::{n:x}" for n in range(1, 256)]
    assert all(sum(shard.holds(address) for shard in shards) == 1 for address in addresses)
    assert all(90 < sum(map(shard.holds, addresses)) < 170 for shard in shards)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1/", "²/2"])
def test_what_is_no_shard_is_said(text):
    with pytest.raises(BadShard, match="use I/N"):
        Shard.parse(text)


def test_shards_share_a_bound():
    assert [Shard(1, count).share(4) for count in (1, 2, 3, 4, 9)] == [4, 2, 1, 1, 1]


@pytest.fixture(scope="module")
def scans(world, tmp_path_factory):
    """A folder with whole.db, the scan that nobody divided, and a file of each shard; and whom each visited."""
    folder, visited = tmp_path_factory.mktemp("scans"), {}
    for name in ("whole", *(f"shard{number}" for number in range(1, SHARDS + 1))):
        before = len(world.visits)
        shard = ["--shard", f"{name[-1]}/{SHARDS}"] if name != "whole" else []
        scan(world, folder, "--db", f"sqlite:///{name}.db", *shard)
        visited[name] = {visit.address for visit in world.visits[before:]}
    return folder, visited


@pytest.fixture
def folder(scans, tmp_path):
    """The test's own copy of the scans."""
    for path in scans[0].glob("*.db"):
        shutil.copy(path, tmp_path)
    return tmp_path


def merge(world, folder, url, *files):
    return merging.merge([str(folder / file) for file in files], url, load(world.snapshot))


def test_joined_shards_are_the_scan_that_nobody_divided(world, scans, folder, database_url):
    visited = scans[1]
    shards = [visited[f"shard{number}"] for number in range(1, SHARDS + 1)]
    assert all(shards)
    assert not any(one & other for one, other in combinations(shards, 2))
    assert set.union(*shards) == visited["whole"]

    whole = f"sqlite:///{folder}/whole.db"
    first = merge(world, folder, database_url, "shard3.db", "shard1.db")
    assert (first.missing, first.state) == ([2], "interrupted")
    joined = merge(world, folder, database_url, "shard2.db")
    assert (joined.scan, joined.missing, joined.state) == (1, [], "finished")
    for ours, expected in zip(contents(database_url), contents(whole), strict=True):
        assert ours == expected

    stored = tables(database_url)
    assert merge(world, folder, database_url, "shard1.db", "shard2.db", "shard3.db", "shard2.db") == joined
    assert tables(database_url) == stored


def test_what_does_not_belong_together_is_refused_in_one_line(world, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    for name, change in (("other", "seed = 8"), ("double", "started_at = '2026-01-01 00:00:00.000000'")):
        shutil.copy(folder / "shard1.db", folder / f"{name}.db")
        with sqlite3.connect(folder / f"{name}.db") as file:
            file.execute(f"UPDATE scan SET {change}")
    command = ["merge-scans", "--db", "sqlite:///joined.db"]
    ours = [*command, "--trust", world.snapshot]
    for arguments, why in (
        ([*ours, "whole.db"], "is no shard"),
        ([*ours, "shard2.db", "other.db"], "no shard of the same census"),
        ([*ours, "shard1.db", "double.db"], f"are both shard 1/{SHARDS}"),
        ([*ours, "missing.db"], "no such database"),
        ([*command, "shard1.db"], "name it with --trust"),
        (["scan", "example.org", "--shard", "1/2"], "--shard needs --seed"),
        (["scan", "example.org", "--shard", "5/2", "--seed", "1"], "use I/N"),
    ):
        assert main(list(map(str, arguments))) == 2
        said = capsys.readouterr().err
        assert why in said
        assert said.count("\n") == 1
    assert not (folder / "joined.db").exists()


def test_a_joined_scan_contacts_what_no_shard_did(world, folder):
    with sqlite3.connect(folder / "shard2.db") as lost:  # as if its resolver had named fewer addresses
        ((host, address),) = lost.execute(
            "SELECT mx_host, address FROM observation WHERE status = 'measured' ORDER BY order_key LIMIT 1"
        )
        for table in ("observation", "endpoint", "mx_address"):
            lost.execute(f"DELETE FROM {table} WHERE mx_host = ? AND address = ?", (host, address))
    joined = f"sqlite:///{folder}/joined.db"
    assert merge(world, folder, joined, "shard1.db", "shard2.db", "shard3.db").state == "interrupted"
    before = len(world.visits)
    resolver, trust = ["--resolver", world.resolver], ["--trust", world.snapshot]
    mxcensus(folder, "scan", "--resume", "--db", joined, *resolver, *trust, "--json")
    assert address in {visit.address for visit in world.visits[before:]}
    assert contents(joined)[1] == contents(f"sqlite:///{folder}/whole.db")[1]
