"""A fleet against the lab: it stores what one scan stores, whatever happens to workers, and it stays polite.

The lab's servers log every connection: that log, not the program's own rows, says who was contacted how often, how
soon again and how many at once.
"""

import asyncio
import json
import shutil
import time
from collections import Counter
from datetime import UTC, datetime

import networks
import pytest
from conftest import need
from fleets import INTERVAL, Fleet, Proxy, wrong_clock
from resuming import differences
from test_watchers import free_port, read_metrics

from lab.population import cell_size
from lab.world import World

pytest.importorskip("procrastinate", reason="NOT TESTED: the extra fleet is not installed")
jobs = pytest.importorskip("mxcensus.fleet.jobs")

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(200)]

DOMAINS = cell_size()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(DOMAINS, tmp_path_factory.mktemp("lab")) as world:
        yield world


@pytest.fixture(scope="module", autouse=True)
def nobodys_settings(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="module")
def expected(world, tmp_path_factory):
    """Rows and figures of one plain scan."""
    folder = tmp_path_factory.mktemp("plain")
    plain = Fleet(world, folder, f"sqlite:///{folder}/census.db")
    plain.scan(plain.url)
    return plain.rows(), plain.figures()


@pytest.fixture
def fleet(world, postgresql, tmp_path):
    fleet = Fleet(world, tmp_path, postgresql.database())
    yield fleet
    fleet.close()
    postgresql.drop(fleet.url)


def assert_as_expected(fleet, expected, out_of_reach=()):
    of_others = {row["certificate"] for row in expected[0]["endpoints"] if row["address"] not in out_of_reach}
    unseen = {row["certificate"] for row in expected[0]["endpoints"]} - of_others
    found, wanted = (
        {
            what: [
                row for row in rows if row.get("address") not in out_of_reach and row.get("sha256") not in unseen
            ]
            for what, rows in each.items()
        }
        for each in (fleet.rows(), expected[0])
    )
    assert differences(found, wanted) == []
    fleet.assert_polite()
    assert max(fleet.most_at_once(str).values()) == 1


def test_two_workers_store_what_one_scan_stores_and_the_same_file_does_nothing_twice(fleet, expected, tmp_path):
    """The workers' clocks differ by eight minutes, and neither is right."""
    began = datetime.now(UTC)
    first = fleet.enqueue()
    assert (first["known"], first["jobs"]) == (False, 1)
    assert fleet.enqueue() == first | {"known": True}
    assert Counter(job.queue_name for job in fleet.jobs()) == {"route:1": 1, "steward:1": 1}
    ports = {-240: free_port(), 240: free_port()}
    for offset, port in ports.items():
        watched = ("--connection-log", tmp_path / f"log{offset}", "--metrics", port)
        fleet.worker(*watched, rate=20, environment=wrong_clock(tmp_path, offset))
    fleet.wait_until_finished()
    assert_as_expected(fleet, expected)
    assert fleet.figures() == expected[1]
    first_at, last_at = fleet.query("SELECT min(started_at), max(started_at) FROM observation")[0]
    assert began <= first_at <= last_at <= datetime.now(UTC)

    found = fleet.status()
    assert [worker["alive"] for worker in found["workers"]] == [True, True]
    assert all(worker["sessions"] for worker in found["workers"])
    assert (found["backlog"], found["scans"][0]["failed"]) == (0, 0)
    assert found["parked"] == sum(job.queue_name == "parked:1" for job in fleet.jobs()) > 0
    seen = len(fleet.visits)
    counted = [read_metrics(port) for port in ports.values()]
    assert sum(one["mxcensus_domains_routed_total",] for one in counted) == len(expected[0]["domains"])
    assert fleet.enqueue() == {"scan": 1, "known": True, "phase": "probe", "jobs": 0}
    assert [fleet.stop(worker) for worker in fleet.workers] == ["", ""]
    assert len(fleet.visits) == seen
    logged = [json.loads(line) for log in tmp_path.glob("log*") for line in log.read_text().splitlines()]
    assert sum(one["mxcensus_session_seconds_count",] for one in counted) == len(logged)
    connected = Counter(line["address"] for line in logged if line["stage"] != "connect")
    assert connected == Counter(visit.address for visit in fleet.visits)
    assert fleet.status()["workers"] == []


def test_a_421_is_a_job_for_later_that_keeps_its_lock(fleet, world):
    fleet.enqueue()
    worker = fleet.worker()
    fleet.wait_until_finished()
    (busy,) = {host.address for host in world.population.hosts if host.kind.behaviour == "greeting-421"}
    (parked,) = [job for job in fleet.jobs() if job.lock == busy]
    assert (parked.queue_name, parked.status) == ("parked:1", "todo")
    assert 800 < (parked.scheduled_at - datetime.now(UTC)).total_seconds() <= 900 * 1.25
    before = len(fleet.visits)
    fleet.change(f"UPDATE endpoint SET not_before = now() WHERE address = '{busy}'")
    fleet.change(f"UPDATE procrastinate_jobs SET scheduled_at = now() WHERE lock = '{busy}'")

    def of_busy():
        (job,) = [job for job in fleet.jobs() if job.lock == busy]
        return job

    fleet.wait_for(lambda: of_busy().attempts > parked.attempts and of_busy().status == "todo")
    fleet.wait_for(lambda: [visit.address for visit in fleet.visits[before:]] == [busy])
    again = of_busy()
    assert (again.queue_name, again.attempts) == ("parked:1", parked.attempts + 1)
    assert 7000 < (again.scheduled_at - datetime.now(UTC)).total_seconds() <= 7200 * 1.25
    fleet.stop(worker)
    assert_purging_reaches_the_queue(fleet, busy)


def assert_purging_reaches_the_queue(fleet, busy):
    """Its locks are addresses; an opt-out takes its own, the removal of a scan all."""
    jobs, operators = len(fleet.jobs()), fleet.query("SELECT name FROM fleet_operator")
    fleet.run("purge", "--db", fleet.url, busy)
    assert busy not in {job.lock for job in fleet.jobs()}
    assert len(fleet.jobs()) == jobs - 1
    assert fleet.query("SELECT name FROM fleet_operator") == operators
    fleet.run("purge", "--db", fleet.url, "*.example")
    assert fleet.query("SELECT name FROM fleet_operator") == []
    fleet.run("purge", "--db", fleet.url, "--scan", "1", "--no-reports")
    assert fleet.jobs() == fleet.query("SELECT * FROM fleet_scan") == []


def test_operators_are_shared_by_all_workers(fleet, world):
    bound = 2
    fleet.enqueue("--per-operator", str(bound))
    fleet.worker(), fleet.worker()
    fleet.wait_until_finished()
    operator = {host.address: ".".join(host.name.split(".")[-2:]) for host in world.population.hosts}
    most = fleet.most_at_once(lambda address: operator.get(address, address))
    assert max(most.values()) <= bound
    starts = {}
    for visit in fleet.visits:
        starts.setdefault(operator.get(visit.address), []).append(visit.began)
    largest = max(starts.values(), key=len)
    assert len(largest) > 8, "nothing to share"
    assert max(largest) - min(largest) >= (len(largest) - 1) * INTERVAL - 1


def test_killed_and_replaced_workers_lose_nothing_and_repeat_nothing(fleet, expected):
    fleet.enqueue()
    one, other = fleet.worker(rate=8, stalled=9), fleet.worker(rate=8, stalled=9)
    fleet.wait_for_visits(12)
    killed = [(None, len(fleet.world.visits), fleet.done_addresses())]
    one.kill()
    fleet.worker(rate=8, stalled=9)
    fleet.wait_for_visits(24)
    killed.append((None, len(fleet.world.visits), fleet.done_addresses()))
    fleet.stop(other)
    fleet.worker(rate=8, stalled=9)
    fleet.wait_until_finished()
    assert_as_expected(fleet, expected)
    fleet.assert_not_again(killed)


def test_a_database_that_restarts_costs_time_only(fleet, expected, postgresql):
    fleet.enqueue()
    fleet.worker(rate=10, stalled=27), fleet.worker(rate=10, stalled=27)
    fleet.wait_for_visits(15)
    done = [(None, len(fleet.world.visits), fleet.done_addresses())]
    postgresql.stop()
    postgresql.start()
    fleet.wait_until_finished()
    assert [worker.poll() for worker in fleet.workers] == [None, None]
    assert_as_expected(fleet, expected)
    fleet.assert_not_again(done)


def test_a_worker_that_is_cut_off_from_the_database_ends_before_others_do_its_work(
    fleet, expected, postgresql, request
):
    proxy = Proxy(postgresql.directory)
    request.addfinalizer(proxy.close)
    assert_ends_before_others_do_its_work(fleet, expected, proxy, proxy.cut)


def test_a_worker_that_is_cut_from_the_network_ends_before_others_do_its_work(fleet, expected, postgresql, request):
    """It runs in a network namespace, its database and all mail servers at the other end of one cable."""
    if reason := networks.missing():
        need(reason)
    proxy, namespace = Proxy(postgresql.directory), networks.Namespace()
    request.addfinalizer(proxy.close)
    request.addfinalizer(namespace.close)
    assert_ends_before_others_do_its_work(
        fleet, expected, proxy, namespace.cut, namespace.prefix, ("::1",), namespace.address
    )


def assert_ends_before_others_do_its_work(
    fleet, expected, proxy, pull, prefix=(), out_of_reach=(), unreachable_peer=None
):
    """What is `out_of_reach` from where the worker is, it may have found unreachable before it was cut."""
    name = fleet.url.partition("@/")[2].partition("?")[0]
    fleet.enqueue()
    url = f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/{name}"
    cut = fleet.worker(url=url, rate=8, stalled=15, prefix=prefix)
    fleet.wait_for_visits(6)
    other = fleet.worker(rate=8, stalled=15)
    fleet.wait_for_visits(15)
    done = [(None, len(fleet.world.visits), fleet.done_addresses())]
    cut_at = time.monotonic()
    pull()
    _, said = cut.communicate(timeout=30)
    assert cut.returncode == 75
    assert "cut off from the database" in said
    fleet.wait_until_finished()
    for visit in fleet.visits:
        if visit.peer.split()[0] == unreachable_peer:  # its server waits for it still, and is never told
            visit.ended = min(visit.ended or cut_at, cut_at)
    assert_as_expected(fleet, expected, out_of_reach)
    fleet.assert_not_again(done)
    fleet.stop(other)


def test_a_connection_of_the_queue_that_is_cut_holds_no_row_locks(fleet):
    """Cut between taking a job and a commit, a worker would keep that job from everybody else for hours."""
    lock = "SELECT id FROM procrastinate_jobs FOR UPDATE SKIP LOCKED"
    fleet.enqueue()
    app = jobs.make_app(fleet.url)

    async def hold():
        async with app.open_async(), app.connector.pool.connection() as connection:
            await connection.execute(lock)
            return fleet.query(lock)

    assert len(asyncio.run(hold())) == len(fleet.jobs()) == 2


def test_workers_that_do_not_fit_refuse_in_one_line(fleet, world, tmp_path):
    other = tmp_path / "trust"
    shutil.copytree(world.snapshot, other)
    settings = (other / "snapshot.toml").read_text()
    (other / "snapshot.toml").write_text(settings.replace('id = "lab"', 'id = "another"'))
    fleet.enqueue()

    def refused(process):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2, said
        assert said.count("\n") == 1, said
        return said

    assert "uses the trust snapshot lab, this worker has another" in refused(fleet.worker(trust=other))
    assert "needs PostgreSQL" in refused(fleet._popen("fleet", "migrate", "--db", "sqlite:///fleet.db"))
    running = fleet.worker(rate=0.5, stalled=15)
    fleet.wait_for_visits(1)
    fleet.change("UPDATE fleet_version SET revision = revision + 1")
    assert "a newer version" in refused(running)
    assert "a newer version" in refused(fleet.worker())
    fleet.change("UPDATE fleet_version SET revision = revision - 1")
    fleet.change("UPDATE alembic_version SET version_num = '9999'")
    assert "a newer version" in refused(fleet.worker())
