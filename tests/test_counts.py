"""Counting on both databases: the same counts, nothing left behind, reading only, and large units."""

import pytest
from censuses import Census, random_census, store
from sqlalchemy import event, inspect

from scanner.records import Role
from storage import counts
from storage.database import open_database
from storage.schema import classification

SEEDS = (1, 2, 3)


def stored(database, census):
    return database.write(lambda connection: store(connection, census))


def counted(database, scan_id, role=Role.SERVER):
    with database.reading() as connection:
        return counts.read(connection, scan_id, role)


def meaning(found):
    """Tallies in words: numbers of combinations are an order that databases need not share."""
    return {
        (unit, family): sorted(
            (
                [found.facts[family].get(number, (str(number),)) for number in tally.numbers],
                tally.count,
                tally.weight,
            )
            for tally in tallies
        )
        for (unit, family), tallies in found.tallies.items()
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_both_databases_count_alike(database, tmp_path, seed):
    census = random_census(seed, domains=80, hosts=40, addresses=30, certificates=20, sightings=60)
    reference = open_database(f"sqlite:///{tmp_path}/reference.db")
    scans = stored(database, census), stored(reference, census)
    for role in (Role.CLIENT, Role.SERVER):
        here, there = counted(database, scans[0], role), counted(reference, scans[1], role)
        assert_alike(here, there)
        assert any(any(tallies) for (unit, _), tallies in here.tallies.items() if unit == "sighting")
    reference.close()
    assert here.client_need


def assert_alike(here, there):
    assert meaning(here) == meaning(there)
    assert (here.routing, here.weighted) == (there.routing, there.weighted)
    assert (here.weigh, here.client_need) == (there.weigh, there.client_need)
    assert (here.names_per_address, here.private_spread) == (there.names_per_address, there.private_spread)


def test_counting_changes_nothing_and_leaves_nothing(database):
    scan_id = stored(database, random_census(1))
    before = sorted(inspect(database.engine).get_table_names())
    first, second = counted(database, scan_id), counted(database, scan_id)
    assert meaning(first) == meaning(second)
    with database.reading() as connection:
        assert sorted(inspect(connection).get_table_names()) == before
        assert not [name for name in inspect(connection).get_temp_table_names() if name.startswith("report_")]


def test_an_unknown_scan_counts_nothing(database):
    found = counted(database, 12345)
    assert not any(found.tallies.values())
    assert not found.routing
    assert not found.weighted


def test_domains_with_one_mx_set_cost_no_statement_each(database):
    """The statements are the same ones, and as many rows come back, for ten domains and for five thousand."""
    scans = [stored(database, provider_census(size)) for size in (10, 5_000)]
    seen = []

    def note(_connection, _cursor, statement, *_):
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    tallies = []
    runs = []
    for scan_id in scans:
        seen.clear()
        found = counted(database, scan_id)
        runs.append(list(seen))
        tallies.append([(t.numbers, t.count) for t in found.tallies["domain", "use"]])
    assert runs[0] == runs[1]
    assert [[count for _, count in tally] for tally in tallies] == [[10], [5_000]]


def provider_census(size):
    census = random_census(size, domains=0, hosts=1, addresses=3, certificates=1, weights=False)
    (host,) = census.hosts
    census.addresses[host] = ["192.0.2.1"]
    certificate = next(iter(census.certificates))
    measured = {"status": "measured", "stage": "quit", "failure": None, "client_auth": "requested"}
    place = {"mx_host": host, "address": "192.0.2.1", "port": 25, "attempt": 1, "reason": None}
    census.endpoints = [
        place | measured | {"certificate": certificate, "tls_version": "TLSv1.3", "software": "postfix"}
    ]
    census.domains = [
        {"domain": f"d{number}.example", "weight": None, "routing": "mx", "mx": [host]} for number in range(size)
    ]
    return census


def test_control_characters_in_software_and_owners_do_not_shift_columns(database):
    census = random_census(7, text="evil\x1ffield | `x` \u202e")
    found = counted(database, stored(database, census))
    owners = {facts[0] for facts in found.facts["issuer"].values()}
    software = {facts[0] for facts in found.facts["server"].values()}
    assert {name for name in owners | software if "evil" in name} == {"evilfield | `x` \u202e"}


def test_certificates_without_a_classification_are_said_to_be_so(database):
    census = random_census(3)
    scan_id = stored(database, census)
    database.write(lambda c: c.execute(classification.delete().where(classification.c.scan_id == scan_id)) and None)
    found = counted(database, scan_id)
    assert {facts[1] for facts in found.facts["use"].values()} == {"unclassified"}
    assert {facts[0] for facts in found.facts["use"].values()} <= {
        c["eku_class"] for c in census.certificates.values()
    }


def test_a_scan_without_mx_counts_by_routing_only(database):
    census = Census(domains=[{"domain": "a.example", "weight": 2.0, "routing": "null-mx", "mx": []}])
    found = counted(database, stored(database, census))
    assert found.routing == {("null-mx", False): counts.Amount(1, 2.0)}


def test_work_grows_with_the_census_and_no_faster(tmp_path):
    """Steps of SQLite's machine, which no busy computer disturbs."""
    steps = [machine_steps(f"sqlite:///{tmp_path}/{size}.db", size) for size in (300, 1_200)]
    assert steps[1] < 5 * steps[0]


def machine_steps(url, size):
    database = open_database(url)
    census = random_census(size, domains=2 * size, hosts=size, addresses=size, certificates=size // 2)
    scan_id = stored(database, census)
    ticks = []
    with database.reading() as connection:
        driver = connection.connection.driver_connection
        driver.set_progress_handler(lambda: ticks.append(1) and None, 100)
        counts.read(connection, scan_id)
        driver.set_progress_handler(None, 0)
    database.close()
    return len(ticks)
