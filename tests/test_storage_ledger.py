"""The durable ledger: what is handed out, in which order, and what survives the death of a process."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select
from storing import START, endpoint, failed, measured, new_scan, routing, store, writer_of

from scanner.ledger import Work, order_key
from scanner.pace import means_blocked
from scanner.records import Failure, Reason, Routing, Stage, Target
from storage import reader
from storage.ledger import SqlLedger
from storage.schema import domain
from storage.schema import endpoint as endpoint_table

SEED = 7
INTERVAL = timedelta(seconds=60)


class Run:
    """One run of a scanner: a ledger and its writer. A new `Run` of the same scan is a resumed one."""

    def __init__(self, database, scan_id, at=START):
        self.writer = writer_of(database, scan_id)
        self.ledger = SqlLedger(
            database, self.writer, scan_id, seed=SEED, interval=INTERVAL.total_seconds(), now=lambda: at
        )

    async def __aenter__(self):
        return self.ledger, self.writer

    async def __aexit__(self, *_):
        await self.writer.close()


async def everything(ask, limit=3):
    """All batches of `unrouted` or `pending` together."""
    found = []
    while batch := await ask(limit):
        assert len(batch) <= limit
        found += batch
    return found


def by_key(endpoints):
    return sorted(endpoints, key=lambda of: order_key(SEED, f"{of.address} {of.mx_host}"))


# --------------------------------------------------------------------------------------------------- targets


async def test_a_domain_named_twice_adds_its_weights_and_keeps_its_better_rank(database):
    scan_id = await new_scan(database, state="loading")
    async with Run(database, scan_id) as (ledger, _):
        await ledger.add_targets([Target("a.example", 2.0, 9), Target("a.example", 3.0, 4), Target("b.example")])
        await ledger.add_targets([Target("a.example", None, 7), Target("b.example", 1.5, None)])
        found = await everything(ledger.unrouted)
    assert sorted(found, key=lambda target: target.domain) == [
        Target("a.example", 5.0, 4),
        Target("b.example", 1.5, None),
    ]


async def test_a_load_that_died_begins_anew(database):
    scan_id = await new_scan(database, state="loading")
    async with Run(database, scan_id) as (ledger, _):
        await ledger.add_targets([Target("a.example", 2.0), Target("dropped.example", 1.0)])
    async with Run(database, scan_id) as (ledger, _):
        await ledger.add_targets([Target("a.example", 2.0)])
        assert await ledger.unrouted(10) == [Target("a.example", 2.0)]


async def test_a_batch_whose_commit_went_unanswered_is_not_added_twice(database):
    scan_id = await new_scan(database, state="loading")
    plain = database.run

    async def twice(function):
        await plain(function)
        return await plain(function)

    async with Run(database, scan_id) as (ledger, _):
        database.run = twice
        await ledger.add_targets([Target("a.example", 2.0)])
        database.run = plain
        assert await ledger.unrouted(10) == [Target("a.example", 2.0)]


async def test_targets_come_in_seeded_order_once_a_run_and_not_once_routed(database):
    names = [f"d{number}.example" for number in range(20)]
    scan_id = await new_scan(database, state="loading")
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.add_targets(Target(name) for name in names)
        first = await everything(ledger.unrouted)
        for target in first[:8]:
            await writer.write(routing(target.domain, kind=Routing.NONE))
        await ledger.settle()
        assert await ledger.unrouted(5) == []
    assert [target.domain for target in first] == sorted(names, key=lambda name: order_key(SEED, name))
    async with Run(database, scan_id) as (ledger, _):
        assert await everything(ledger.unrouted) == first[8:]


async def test_routing_keeps_weight_and_rank(database):
    scan_id = await new_scan(database, state="loading")
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.add_targets([Target("a.example", 2.5, 3)])
        await writer.write(routing("a.example", (10, "mx.example.net", ["192.0.2.1"])))
    with database.reading() as connection:
        row = connection.execute(select(domain)).one()
    assert (row.weight, row.rank, row.routing) == (2.5, 3, "mx")


# ------------------------------------------------------------------------------------------------- addresses


async def test_addresses_come_once_with_all_their_names(database, monkeypatch):
    monkeypatch.setattr("storage.ledger.ADDRESS_PAGE", 2)
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, writer):
        await writer.write(
            routing("a.example", (1, "z.example", ["192.0.2.1", "192.0.2.2"]), (2, "y.example", ["192.0.2.1"]))
        )
        await writer.write(routing("b.example", *((n, f"h{n}.example", [f"192.0.2.{n}"]) for n in range(1, 8))))
        await ledger.settle()
        found = {address: list(hosts) async for address, hosts in ledger.addresses()}
    assert found == {
        "192.0.2.1": ["h1.example", "y.example", "z.example"],
        "192.0.2.2": ["h2.example", "z.example"],
        **{f"192.0.2.{n}": [f"h{n}.example"] for n in range(3, 8)},
    }


# -------------------------------------------------------------------------------------------- pending, claim


async def test_pending_hands_out_everything_once_in_seeded_order(database):
    endpoints = [endpoint(number) for number in range(1, 21)]
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, _):
        await ledger.enroll((of, None) for of in endpoints)
        await ledger.enroll((of, None) for of in endpoints)
        assert await everything(ledger.pending) == [Work(of, 1) for of in by_key(endpoints)]
        assert await ledger.pending(5) == []


async def test_what_is_excluded_is_never_handed_out(database):
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, _):
        await ledger.enroll([(endpoint(1), Reason.ADDRESS_CAP), (endpoint(2), None), (endpoint(3), None)])
        await ledger.enroll([(endpoint(1), None), (endpoint(2), Reason.EXCLUDED)])
        assert await ledger.pending(9) == [Work(endpoint(3), 1)]
    rows = {row["mx_host"]: row["reason"] for row in reader.endpoints(database, scan_id, lambda names, host: True)}
    assert rows == {
        "mx1.example.net": "address-cap",
        "mx2.example.net": "excluded",
        "mx3.example.net": "interrupted",
    }


async def test_an_exclusion_after_an_attempt_keeps_what_was_measured(database):
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.enroll([(endpoint(1), None)])
        await writer.write(measured(endpoint(1)))
        await ledger.settle()
        await ledger.enroll([(endpoint(1), Reason.EXCLUDED)])
    [row] = reader.endpoints(database, scan_id, lambda names, host: True)
    assert (row["status"], row["reason"]) == ("measured", None)


async def test_what_was_observed_is_not_handed_out_again(database):
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.enroll([(endpoint(number), None) for number in (1, 2)])
        await ledger.claim(await ledger.pending(9), START)
        await writer.write(measured(endpoint(1)))
    async with Run(database, scan_id, START + timedelta(hours=3)) as (ledger, _):
        assert await ledger.pending(9) == [Work(endpoint(2), 2)]


async def test_a_claim_without_a_result_comes_back_after_the_interval(database):
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, _):
        await ledger.enroll([(endpoint(1), None)])
        await ledger.claim(await ledger.pending(9), START)
    died = START + timedelta(seconds=20)  # the session may have lasted until then
    async with Run(database, scan_id, died) as (ledger, _):
        [work] = await ledger.pending(9)
        assert work == Work(endpoint(1), 2, died + INTERVAL)
        await ledger.claim([work], work.not_before)
    async with Run(database, scan_id, died + 2 * INTERVAL) as (ledger, _):
        assert [work.attempt for work in await ledger.pending(9)] == [3]


async def test_another_name_of_an_address_keeps_the_interval_too(database):
    scan_id = await new_scan(database)
    one, other, elsewhere = endpoint(1), endpoint(2, address="192.0.2.1"), endpoint(3)
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.enroll([(of, None) for of in (one, other, elsewhere)])
        await ledger.claim([Work(one, 1)], START)
        await writer.write(measured(one, at=START, duration_ms=5000))
    async with Run(database, scan_id, START + timedelta(seconds=10)) as (ledger, _):
        found = {work.endpoint: work.not_before for work in await ledger.pending(9)}
    assert found == {other: START + timedelta(seconds=5) + INTERVAL, elsewhere: None}
    async with Run(database, scan_id, START + timedelta(seconds=65)) as (ledger, _):
        assert {work.not_before for work in await ledger.pending(9)} == {None}


async def test_claims_that_await_at_once_share_transactions(database):
    scan_id = await new_scan(database)
    transactions = 0
    plain = database.run

    async def counted(function):
        nonlocal transactions
        transactions += 1
        return await plain(function)

    async with Run(database, scan_id) as (ledger, _):
        await ledger.enroll([(endpoint(number), None) for number in range(1, 51)])
        works = await ledger.pending(50)
        database.run = counted
        await asyncio.gather(*(ledger.claim([work], START) for work in works))
        database.run = plain
    assert transactions <= 3
    with database.reading() as connection:
        claimed = connection.execute(select(endpoint_table.c.claimed_attempt)).scalars().all()
    assert claimed == [1] * 50


async def test_a_claim_that_failed_is_not_taken_for_committed(database):
    scan_id = await new_scan(database)
    plain = database.run

    async def broken(function):
        raise RuntimeError("no")

    async with Run(database, scan_id) as (ledger, _):
        database.run = broken
        claims = (ledger.claim([Work(endpoint(number), 1)], START) for number in range(3))
        results = await asyncio.gather(*claims, return_exceptions=True)
        database.run = plain
    assert [type(result) for result in results] == [RuntimeError] * 3


# ---------------------------------------------------------------------------------------------------- parking


@pytest.mark.parametrize("observed_first", [True, False])
async def test_parked_work_is_the_next_attempt_whichever_is_stored_first(database, observed_first):
    scan_id = await new_scan(database)
    later = START + timedelta(minutes=15)
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.enroll([(endpoint(1), None)])
        await ledger.claim(await ledger.pending(9), START)
        await writer.write(failed(endpoint(1)))
        if observed_first:
            await writer.flush()
        await ledger.park(Work(endpoint(1), 2, later), Reason.PARKED)
        assert await ledger.pending(9) == []  # this run's pacer still holds it
    async with Run(database, scan_id, START + timedelta(seconds=90)) as (ledger, writer):
        assert await ledger.pending(9) == [Work(endpoint(1), 2, later)]
        await writer.write(measured(endpoint(1), attempt=2))
    async with Run(database, scan_id) as (ledger, _):
        assert await ledger.pending(9) == []
    [row] = reader.endpoints(database, scan_id, lambda names, host: True)
    assert (row["attempt"], row["status"], row["reason"]) == (2, "measured", None)


async def test_a_parked_session_whose_observation_was_lost_is_repeated_after_the_interval(database):
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, _):
        await ledger.enroll([(endpoint(1), None)])
        await ledger.claim(await ledger.pending(9), START)
        await ledger.park(Work(endpoint(1), 2, START + timedelta(minutes=15)), Reason.PARKED)
    died = START + timedelta(seconds=1)  # before the observation was written
    async with Run(database, scan_id, died) as (ledger, _):
        assert await ledger.pending(9) == [Work(endpoint(1), 2, died + INTERVAL)]


async def test_parked_before_the_first_attempt_is_a_reason(database):
    scan_id = await new_scan(database)
    later = START + timedelta(minutes=15)
    async with Run(database, scan_id) as (ledger, _):
        await ledger.enroll([(endpoint(1), None)])
        await ledger.park(Work(endpoint(1), 1, later), Reason.PARKED)
    [row] = reader.endpoints(database, scan_id, lambda names, host: True)
    assert (row["status"], row["reason"], row["attempt"]) == ("not-tested", "parked", 0)
    async with Run(database, scan_id) as (ledger, _):
        assert await ledger.pending(9) == [Work(endpoint(1), 1, later)]


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_stopped_operator_is_for_good(database, attempt):
    scan_id = await new_scan(database)
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.enroll([(endpoint(1), None)])
        if attempt == 2:
            await writer.write(failed(endpoint(1)))
        await ledger.park(Work(endpoint(1), attempt), Reason.OPERATOR_STOPPED)
    async with Run(database, scan_id) as (ledger, _):
        assert await ledger.pending(9) == []
    [row] = reader.endpoints(database, scan_id, lambda names, host: True)
    expected = ("not-tested", "operator-stopped") if attempt == 1 else ("failed", None)
    assert (row["status"], row["reason"]) == expected


async def test_scans_share_nothing(database):
    first, second = await new_scan(database), await new_scan(database)
    await store(database, first, measured(endpoint(1)), routing("a.example"))
    async with Run(database, second) as (ledger, _):
        await ledger.enroll([(endpoint(1), None)])
        assert await ledger.pending(9) == [Work(endpoint(1), 1)]
        assert await ledger.unrouted(9) == []


async def test_what_operators_said_survives(database):
    """Only words of a refusal before TLS count, and only those of the same scan."""
    scan_id = await new_scan(database)
    first, second, third, other = (endpoint(number) for number in range(1, 5))
    text = {"detail": "554 5.7.1 you are blocked"}
    async with Run(database, scan_id) as (ledger, writer):
        await ledger.enroll([(of, None) for of in (first, second, third)])
        await writer.write(failed(first, **text))
        await writer.write(failed(first, attempt=2, detail="421 busy"))
        await writer.write(failed(second, stage=Stage.EHLO_AFTER_TLS, **text))
        await writer.write(failed(third, failure=Failure.CLOSED, **text))
        await writer.write(measured(other, greeting="220 blocked.example"))
    async with Run(database, scan_id) as (ledger, _):
        assert await ledger.refusals(means_blocked) == {first.mx_host: 1}
    another = await new_scan(database)
    async with Run(database, another) as (ledger, _):
        assert await ledger.refusals(means_blocked) == {}
