"""Resuming is exact: kill the real program at any moment, and the rows are those of an undisturbed run.

MXCENSUS_KILLS says how many times (`make soak`: 200), MXCENSUS_OUTAGES how many database outages (50). The lab's
servers log every connection, which is the proof that nobody was contacted twice.
"""

import os
import random
import signal
import time

import pytest
from resuming import Program, differences, wait_for_visits

from lab.world import World

DOMAINS = 75
KILLS_A_SCAN = 3
KILLS = int(os.environ.get("MXCENSUS_KILLS", "6"))
OUTAGES = int(os.environ.get("MXCENSUS_OUTAGES", "1"))

pytestmark = [pytest.mark.xdist_group("resume"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(DOMAINS, tmp_path_factory.mktemp("lab")) as world:
        yield world


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """The rows of a run that nobody disturbed, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    program = Program(world, folder, f"sqlite:///{folder}/census.db")
    began = time.monotonic()
    program.finish(program.start())
    seconds = time.monotonic() - began
    program.assert_polite()
    rows = program.rows()
    assert len(rows["endpoints"]) > 50
    return rows, seconds


@pytest.mark.parametrize("seed", range(-(-KILLS // KILLS_A_SCAN)))
def test_killed_at_random_moments_nothing_is_lost_and_nobody_is_asked_twice(
    world, undisturbed, tmp_path, seed, record_property
):
    rows, seconds = undisturbed
    moments = random.Random(seed)
    program = Program(world, tmp_path, f"sqlite:///{tmp_path}/census.db")
    killed = [program.kill_after(moments.uniform(0.5, 1) * seconds)]
    for _ in range(KILLS_A_SCAN - 1):
        resumed = ["--resume"] if (tmp_path / "census.db").exists() else []
        killed.append(program.kill_after(moments.uniform(0, 1) * seconds, *resumed))
    program.resume()
    assert differences(program.rows(), rows) == []
    program.assert_polite()
    program.assert_not_again(killed)
    record_property("kill -9", len(killed))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_scan_with_130_and_it_resumes(world, undisturbed, tmp_path, number):
    rows, _ = undisturbed
    program = Program(world, tmp_path, f"sqlite:///{tmp_path}/census.db")
    process = program.start()
    wait_for_visits(program, 15, process)
    process.send_signal(number)
    program.finish(process, status=130)
    stopped = 130, len(world.visits), program.done_addresses()
    assert stopped[2]
    program.resume()
    assert differences(program.rows(), rows) == []
    program.assert_polite()
    program.assert_not_again([stopped])


def test_a_resumed_scan_keeps_opt_outs_and_manners_that_nobody_repeats(world, tmp_path):
    program = Program(world, tmp_path, f"sqlite:///{tmp_path}/census.db")
    excluded = world.population.zone["mx-0.shared-mail.test", "A"][0]
    optouts = tmp_path / "optouts"
    optouts.write_text(f"{excluded}\ngood-0.example\n")
    process = program.start("--exclude", "optouts")
    wait_for_visits(program, 10, process)
    process.send_signal(signal.SIGINT)
    program.finish(process, status=130)
    killed = 130, len(world.visits), program.done_addresses()
    optouts.rename(tmp_path / "moved")
    _, err = (process := program.start_bare()).communicate(timeout=30)
    assert process.returncode == 2
    assert "opt-outs" in err
    (tmp_path / "moved").rename(optouts)
    program.finish(program.start_bare())  # with the default interval of a minute this would take half an hour
    program.assert_polite()
    program.assert_not_again([killed])
    assert excluded not in {visit.address for visit in program.visits}
    rows = program.rows()
    assert {row["reason"] for row in rows["endpoints"] if row["address"] == excluded} == {"excluded"}
    assert "good-0.example" not in {row["domain"] for row in rows["domains"]}


@pytest.mark.lab
@pytest.mark.parametrize("seed", range(OUTAGES))
def test_an_outage_of_the_database_loses_nothing(world, undisturbed, tmp_path, postgresql, seed, record_property):
    rows, _ = undisturbed
    moments = random.Random(seed)
    url = postgresql.database()
    program = Program(world, tmp_path, url)
    process = program.start()
    wait_for_visits(program, moments.randrange(1, 40), process)
    postgresql.stop()
    time.sleep(moments.uniform(0.5, 2))
    assert process.poll() is None
    postgresql.start()
    program.finish(process)
    assert differences(program.rows(), rows) == []
    program.assert_polite()
    postgresql.drop(url)
    record_property("database outages", 1)
