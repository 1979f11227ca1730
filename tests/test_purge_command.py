"""`mxcensus purge` as its user meets it: what a pattern means, what it says, and that nothing is left."""

import json

import pytest
from test_lab_scan import mxcensus
from test_storage_purge import census, names, sizes

from mxcensus.commands.purge import selection
from scanner.exclusions import read_entry


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("Example.COM.", {"domain": "example.com", "host": "example.com"}),
        ("*.example.com", {"domain": "*.example.com", "host": "*.example.com"}),
        ("mx:mail.example.com", {"host": "mail.example.com"}),
        ("mx:*.example.com", {"host": "*.example.com"}),
        ("192.0.2.7", {"network": "192.0.2.7/32"}),
        ("192.0.2.7/24", {"network": "192.0.2.0/24"}),
        ("::ffff:192.0.2.7", {"network": "192.0.2.7/32"}),
        ("2001:db8::/32", {"network": "2001:db8::/32"}),
    ],
)
def test_a_pattern_means_what_it_means_in_a_list_of_opt_outs(pattern, means):
    assert selection(read_entry(pattern)) == means


async def test_purge_says_what_went_by_table_and_what_it_cannot_reach(database, database_url, tmp_path):
    scan_id = await census(database)
    before = sizes(database)
    database.close()
    done = mxcensus(tmp_path, "purge", "--db", database_url, "*.mine.example")
    assert "domain" in done.stdout
    assert "1 row deleted" in done.stdout
    assert "backups" in done.stdout
    assert "exports" in done.stdout
    again = json.loads(mxcensus(tmp_path, "purge", "--db", database_url, "--json", "mx:*.theirs.example").stdout)
    assert again["deleted"]["observation"] == 1
    assert names(database, scan_id) == ({"theirs.example"}, set(), set())
    after = sizes(database)
    assert {name for name, count in after.items() if count} == {"domain", "mta_sts", "sts_policy", "sts_verdict"}
    assert before["domain"] - after["domain"] == 1
    nothing = mxcensus(tmp_path, "purge", "--db", database_url, "198.51.100.0/24").stdout
    assert nothing.startswith("nothing that is stored matches")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["purge", "not a name"], "not a name"),
        (["purge", "192.0.2.0/99"], "network"),
        (["purge", "example.com"], "census.db"),
        (["purge"], "PATTERN"),
    ],
)
def test_what_cannot_be_purged_is_one_line_and_status_2(tmp_path, arguments, says):
    done = mxcensus(tmp_path, *arguments, status=2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
