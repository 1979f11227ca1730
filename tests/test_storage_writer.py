"""The writer: what is stored, once, in any order, and never in the way of the event loop."""

import asyncio
import random

import pytest
from sqlalchemy import select
from storing import START, certificate, contents, failed, measured, new_scan, routing, store, writer_of
from storing import endpoint as endpoint_of

from scanner.records import Role, Sighting
from storage.errors import StorageFailed
from storage.schema import (
    ca_name_set,
    certificate_list,
    endpoint,
    mx_host,
    mx_set_host,
    observation,
    scan_certificate,
    sighting,
)


def rows(database, *columns):
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def example_records():
    one, two = endpoint_of(1), endpoint_of(2)
    return [
        routing(
            "a.example",
            (10, "mx1.example.net", ["192.0.2.1"]),
            (20, "mx2.example.net", ["192.0.2.2", "2001:db8::2"]),
        ),
        routing(
            "b.example",
            (10, "mx1.example.net", ["192.0.2.1"]),
            (20, "mx2.example.net", ["192.0.2.2", "2001:db8::2"]),
        ),
        certificate(b"leaf"),
        certificate(b"ca", is_ca=True),
        measured(one, client_ca_names=(b"\x01", b"\x02")),
        failed(two),
        measured(two, attempt=2, client_ca_names=()),
        Sighting(1, Role.CLIENT, (certificate(b"leaf").sha256, certificate(b"ca").sha256)),
    ]


async def test_the_same_records_twice_change_nothing(database):
    scan_id = await new_scan(database)
    await store(database, scan_id, *example_records())
    once = contents(database)
    await store(database, scan_id, *example_records())
    assert contents(database) == once
    assert [len(once[name]) for name in ("domain", "endpoint", "observation", "certificate")] == [2, 2, 3, 2]


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_of_records_changes_nothing(database, seed):
    orders = [example_records(), example_records()]
    random.Random(seed).shuffle(orders[1])
    states = []
    for records in orders:
        scan_id = await new_scan(database)
        for record in records:  # a transaction each, so that no batch puts them in order
            await store(database, scan_id, record)
        with database.reading() as connection:
            states.append(
                [
                    connection.execute(
                        select(*list(table.c)[1:]).where(table.c.scan_id == scan_id).order_by(*table.primary_key)
                    ).all()
                    for table in (endpoint, observation, scan_certificate, mx_host, mx_set_host)
                ]
            )
    assert states[0] == states[1]


async def test_domains_with_the_same_mx_share_one_set(database):
    scan_id = await new_scan(database)
    await store(database, scan_id, *example_records())
    assert len(rows(database, mx_set_host.c.mx_set)) == 2
    assert len(set(rows(database, mx_set_host.c.mx_set))) == 1


async def test_an_answer_with_addresses_outlives_one_without(database):
    scan_id = await new_scan(database)
    found = routing("a.example", (10, "mx.example.net", ["192.0.2.1"]))
    lost = routing("b.example", (10, "mx.example.net", []))
    for order in ((lost, found, lost), (found, lost)):
        await store(database, scan_id, *order)
        assert rows(database, mx_host.c.rcode_a) == [("NOERROR",)]


async def test_the_last_attempt_counts(database):
    scan_id = await new_scan(database)
    one = endpoint_of(1)
    await store(database, scan_id, measured(one, attempt=2))
    await store(database, scan_id, failed(one, attempt=1))
    await store(database, scan_id, failed(one, attempt=3))
    assert sorted(rows(database, observation.c.attempt, observation.c.last)) == [(1, False), (2, False), (3, True)]
    assert rows(database, endpoint.c.last_attempt, endpoint.c.done) == [(3, True)]


async def test_a_certificate_is_a_servers_once_it_led_a_list(database):
    scan_id = await new_scan(database)
    await store(database, scan_id, measured(endpoint_of(1), (b"x", b"y", b"y")))
    await store(database, scan_id, measured(endpoint_of(2), (b"y", b"x")))
    assert {role for (role,) in rows(database, scan_certificate.c.role)} == {"server"}
    assert sorted(len(listed) for (listed,) in rows(database, certificate_list.c.certificates)) == [2, 3]


async def test_a_captured_certificate_belongs_to_the_scan_in_its_role(database):
    scan_id = await new_scan(database)
    one = certificate(b"client")
    seen = [Sighting(number, role, (one.sha256,)) for number, role in enumerate((Role.CA, Role.CLIENT, Role.CA))]
    await store(database, scan_id, one, *seen, *seen)
    assert rows(database, scan_certificate.c.role) == [("client",)]
    assert sorted(rows(database, sighting.c.number, sighting.c.role)) == [(0, "ca"), (1, "client"), (2, "ca")]


async def test_a_sighting_is_stored_as_it_was_told(database):
    scan_id = await new_scan(database)
    told = Sighting(
        7,
        Role.CLIENT,
        ("a" * 64, "b" * 64),
        count=3,
        operator="Example\x00",
        day=START.date(),
        required=False,
        seen_at=START,
        prefix="192.0.2.0/24",
        ehlo_name="out.example\x1b",
        tls_version="TLSv1.3",
        cipher_suite="TLS_AES_256_GCM_SHA384",
        ended="quit",
    )
    await store(database, scan_id, told, Sighting(8, Role.CLIENT, ()))
    with database.reading() as connection:
        (row, bare) = [row._asdict() for row in connection.execute(select(sighting).order_by(sighting.c.number))]
    expected = {name: getattr(told, name) for name in told.__slots__ if name != "certificate_list"}
    expected |= {"operator": "Example\\x00", "ehlo_name": "out.example\x1b", "scan_id": scan_id, "sha256": "a" * 64}
    assert row.pop("list_sha256") == rows(database, certificate_list.c.list_sha256)[0][0]
    assert row == expected
    assert (bare["sha256"], bare["list_sha256"], bare["day"], bare["required"]) == (None, None, None, None)
    assert sorted(rows(database, scan_certificate.c.role)) == [("ca",), ("client",)]


async def test_no_certificate_request_and_an_empty_one_differ(database):
    scan_id = await new_scan(database)
    empty = measured(endpoint_of(1), client_ca_names=())
    await store(database, scan_id, empty, measured(endpoint_of(2), client_ca_names=None))
    assert rows(database, ca_name_set.c.names, ca_name_set.c.der) == [([], b"")]
    assert sorted(value is None for (value,) in rows(database, observation.c.ca_names_sha256)) == [False, True]


async def test_text_that_no_database_takes_is_stored(database):
    scan_id = await new_scan(database)
    text = "a\x00b\udcffc\\x41 \u20ac \x1b"
    hostile = measured(endpoint_of(1), greeting=text, ehlo_keywords=(text,), detail=text)
    await store(database, scan_id, hostile, certificate(b"x", subject=text, dns_names=(text,), parse_error=text))
    assert rows(database, observation.c.greeting, observation.c.ehlo_keywords) == [
        ("a\\x00b\\xffc\\x5cx41 \u20ac \x1b", ["a\\x00b\\xffc\\x5cx41 \u20ac \x1b"])
    ]


async def test_records_are_stored_though_nobody_flushes(database):
    scan_id = await new_scan(database)
    async with writer_of(database, scan_id) as writer:
        await writer.write(measured(endpoint_of(1)))
        for _ in range(50):
            await asyncio.sleep(0.1)
            if rows(database, observation.c.attempt):
                return
    pytest.fail("a record waited for more than five seconds")


async def test_flush_waits_for_all_that_was_accepted(database):
    scan_id = await new_scan(database)
    async with writer_of(database, scan_id) as writer:
        for number in range(1, 2501):
            await writer.write(failed(endpoint_of(number, address=f"10.0.{number // 256}.{number % 256}")))
        await writer.flush()
        assert len(rows(database, endpoint.c.mx_host)) == 2500


async def test_a_write_that_is_refused_reaches_whoever_writes(database):
    scan_id = await new_scan(database)
    writer = writer_of(database, scan_id + 1)  # there is no such scan
    await writer.write(measured(endpoint_of(1)))
    with pytest.raises(StorageFailed, match="refused a write"):
        await writer.flush()
    with pytest.raises(StorageFailed):
        await writer.write(measured(endpoint_of(2)))
    with pytest.raises(StorageFailed):
        await writer.close()
