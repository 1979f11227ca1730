"""Nothing committed is lost, no attempt is made twice: kill -9 at random moments, and a database that goes away.

A small scanner with the real ledger and writer runs against servers that are lines in a log file: a line is one
contact. The log is what the servers would say; the database has to agree with it whenever the scanner died.
"""

import asyncio
import gc
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import postgres
import pytest
from sqlalchemy import func, select
from storing import SEED, START, endpoint, failed, measured, new_scan, routing, writer_of

from scanner.ledger import Work
from scanner.records import Reason, Target
from storage import reader
from storage.database import open_database
from storage.errors import DatabaseGone
from storage.ledger import SqlLedger
from storage.schema import domain, observation
from storage.schema import endpoint as endpoint_table

DOMAINS, HOSTS = 60, 200
INTERVAL = 1.2  # longer than a process takes to start
KILLS = int(os.environ.get("SOAK_KILLS", "4"))


def host(number):
    return f"mx{number}.example.net", f"10.0.{number // 250}.{number % 250}"


def routing_of(name):
    """Every domain has a few of the hosts, always the same ones."""
    draw = random.Random(name)
    return routing(name, *((n, host(n)[0], [host(n)[1]]) for n in sorted(draw.sample(range(HOSTS), 8))))


def refuses_first(of):
    """Whether a server sends the first connection away, so that the work is parked."""
    return int(of.mx_host[2:].partition(".")[0]) % 5 == 0


async def scan(url, scan_id, log):
    """A scan with some sessions at once; one that is killed leaves what it left."""
    database = open_database(url)
    writer = writer_of(database, scan_id)
    ledger = SqlLedger(database, writer, scan_id, seed=SEED, interval=INTERVAL)
    while targets := await ledger.unrouted(20):
        for target in targets:
            await writer.write(routing_of(target.domain))
    await ledger.settle()
    enrolled = [(endpoint(host=name, address=at), None) async for at, names in ledger.addresses() for name in names]
    await ledger.enroll(enrolled)
    waiting = list(await ledger.pending(10_000))
    while waiting:
        works, waiting = waiting[:7], waiting[7:]
        ended = await asyncio.gather(*(attempt(ledger, writer, work, log) for work in works))
        waiting += [again for again in ended if again]
    await ledger.settle()
    await writer.close()
    await database.set_state(scan_id, "finished", datetime.now(UTC))
    database.close()


async def attempt(ledger, writer, work, log):
    if work.not_before is not None:
        await asyncio.sleep(max(0, (work.not_before - datetime.now(UTC)).total_seconds()))
    await ledger.claim([work], datetime.now(UTC))
    at = datetime.now(UTC)
    os.write(log, json.dumps([work.endpoint.mx_host, work.attempt, at.timestamp()]).encode() + b"\n")
    await asyncio.sleep(0.002)
    if work.attempt == 1 and refuses_first(work.endpoint):
        await writer.write(failed(work.endpoint, attempt=1, at=at, duration_ms=2))
        again = Work(work.endpoint, 2, datetime.fromtimestamp(at.timestamp() + INTERVAL + 0.05, UTC))
        await ledger.park(again, Reason.PARKED)
        return again
    await writer.write(measured(work.endpoint, attempt=work.attempt, at=at, duration_ms=2))
    return None


def run_until(url, scan_id, log, kill_at):
    """Run the scanner in a process of its own; kill it soon after its `kill_at`th contact (0: right at the start).

    True if it finished before.
    """
    program = f"import asyncio, test_storage_crash as t; t.main({url!r}, {scan_id}, {str(log)!r})"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}"}
    already = len(contacts(log))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    with process:
        process.stdout.readline()
        while kill_at is None or len(lines(log)) < already + kill_at:
            if process.poll() is not None:
                return process.returncode == 0
            time.sleep(0.001)
        time.sleep(random.Random(kill_at).uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        return process.wait() == 0


def lines(log):
    """The complete lines of the log, as they are now."""
    return log.read_text().split("\n")[:-1] if log.exists() else []


def main(url, scan_id, log):
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    asyncio.run(scan(url, scan_id, fd))


def contacts(log):
    """(host, attempt) -> when; every contact once."""
    made = [json.loads(line) for line in lines(log)]
    found = {(name, number): at for name, number, at in made}
    assert len(found) == len(made), "an attempt was made twice"
    return found


def stored(database):
    with database.reading() as connection:
        query = select(observation.c.mx_host, observation.c.attempt)
        return {tuple(row) for row in connection.execute(query)}


def keeps_interval(contacted):
    by_host = {}
    for (name, _), at in contacted.items():
        by_host.setdefault(name, []).append(at)
    gaps = [b - a for times in by_host.values() for a, b in itertools.pairwise(sorted(times))]
    return min(gaps, default=INTERVAL) >= INTERVAL


async def test_killed_at_random_moments(database, database_url, tmp_path):
    rng = random.Random(SEED)
    log = tmp_path / "contacts"
    scan_id = await new_scan(database, state="loading")
    ledger = SqlLedger(database, writer_of(database, scan_id), scan_id, seed=SEED, interval=INTERVAL)
    await ledger.add_targets(Target(f"d{number}.example", float(number)) for number in range(DOMAINS))
    await database.set_state(scan_id, "running")
    before, killed = set(), 0
    for kill_at in [0, *(rng.randint(1, 30) for _ in range(KILLS)), None]:
        killed += not run_until(database_url, scan_id, log, kill_at)
        now = stored(database)
        assert before <= now, "something committed was lost"
        assert now <= set(contacts(log)), "an observation without a contact"
        before = now
    assert database.scan_info(scan_id).state == "finished"
    assert killed == KILLS + 1
    contacted = contacts(log)
    assert keeps_interval(contacted)
    with database.reading() as connection:
        assert connection.execute(select(endpoint_table.c.done).distinct()).scalars().all() == [True]
    last = {}
    for name, number in contacted:
        last[name] = max(number, last.get(name, 0))
    rows = list(reader.endpoints(database, scan_id, lambda names, of: True))
    expected = {mx.host for number in range(DOMAINS) for mx in routing_of(f"d{number}.example").mx}
    assert {row["mx_host"]: (row["status"], row["attempt"]) for row in rows} == {
        name: ("measured", last[name]) for name in expected
    }
    unanswered = set(contacted) - stored(database)
    assert len(unanswered) <= 100 * killed, "more was lost than the last second's sessions"
    domains = {row["domain"]: (row["weight"], len(row["mx"])) for row in reader.domains(database, scan_id)}
    assert domains == {f"d{number}.example": (float(number), 8) for number in range(DOMAINS)}


@pytest.fixture
def own_cluster(postgresql_programs):
    """A server that may be stopped. What dies while it is being opened is closed only when it is collected."""
    cluster = postgres.Cluster(postgresql_programs)
    yield cluster
    cluster.destroy()
    gc.collect()


BROKEN_WHILE_OPENED = pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning")


@BROKEN_WHILE_OPENED
@pytest.mark.lab
async def test_an_outage_of_the_server_loses_nothing(own_cluster):
    """The server is stopped at once (as if it crashed) and started again, several times, while records come in."""
    database = open_database(own_cluster.database(lambda url: open_database(url).close()), patience=100)
    scan_id = await new_scan(database, state="loading")
    writer = writer_of(database, scan_id)
    ledger = SqlLedger(database, writer, scan_id, seed=SEED, interval=0)

    async def outage():
        await asyncio.to_thread(own_cluster.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own_cluster.start)

    written, outages = 0, []
    while len(outages) < 4 or not outages[-1].done():
        of = endpoint(written, host=f"mx{written}.example", address=f"10.0.{written // 250}.{written % 250}")
        await ledger.add_targets([Target("weighed.example", 1.0)])
        await ledger.claim([Work(of, 1)], START)
        await writer.write(measured(of, (b"leaf %d" % written,)))
        written += 1
        if written % 20 == 0 and (not outages or outages[-1].done()) and len(outages) < 4:
            outages.append(asyncio.ensure_future(outage()))
    await asyncio.gather(*outages)
    await writer.close()
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(observation)) == written
        assert connection.scalar(select(domain.c.weight)) == written
        assert connection.scalar(select(func.count()).where(endpoint_table.c.done)) == written
    database.close()


@BROKEN_WHILE_OPENED
@pytest.mark.lab
async def test_a_server_that_stays_away_is_given_up(own_cluster):
    database = open_database(own_cluster.database(lambda url: open_database(url).close()), patience=1)
    writer = writer_of(database, await new_scan(database))
    own_cluster.stop()
    await writer.write(measured(endpoint(1)))
    with pytest.raises(DatabaseGone, match="did not come back"):
        await writer.close()
    database.close()


async def test_the_event_loop_goes_on_while_the_database_is_locked(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/census.db")
    writer = writer_of(database, await new_scan(database))
    other = sqlite3.connect(tmp_path / "census.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = asyncio.get_running_loop().time()
    for number in range(2000):
        await writer.write(measured(endpoint(number, address=f"10.1.{number >> 8}.{number & 255}")))
    assert asyncio.get_running_loop().time() - began < 2
    other.execute("ROLLBACK")
    other.close()
    await writer.close()
    assert len(stored(database)) == 2000
    database.close()
