"""`scan --sample` against the lab: few are contacted, the same ones after a resume, and the report says so."""

import asyncio
import json
import signal

import pytest
from resuming import Program, wait_for_visits
from test_lab_scan import EHLO_NAME, exported, mxcensus, scan

from lab.world import World
from scanner.ledger import MemoryLedger, Sample, SampledAddress, Stratum
from scanner.records import MailRouting, MxHost, Reason, Routing, Target
from scanner.scan import Progress, ScanSettings, Steps, survey

SIZE = 25


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(100, tmp_path_factory.mktemp("lab")) as world:
        yield world


@pytest.fixture(scope="module")
def scanned(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    before = len(world.visits)
    return folder, scan(world, folder, "--sample", SIZE), world.visits[before:]


def test_only_the_sample_is_contacted_and_the_rest_is_said_to_be_outside(scanned):
    folder, summary, visits = scanned
    rows = exported(folder, "endpoints")
    outside = {row["address"] for row in rows if row["reason"] == "not-sampled"}
    inside = {row["address"] for row in rows} - outside
    assert SIZE / 2 < len(inside) < 2 * SIZE
    assert len(outside) > SIZE
    assert {visit.address for visit in visits} <= inside
    assert summary["measured"] + summary["failed"] <= len([row for row in rows if row["address"] in inside])
    assert all(row["reason"] == "not-sampled" for row in rows if row["address"] in outside)


def test_the_report_tells_of_all_and_marks_it(scanned):
    folder, _, _ = scanned
    report = json.loads(mxcensus(folder, "report", "--format", "json").stdout)
    assert report["sample"]["addresses"] < report["sample"]["of"]
    figure = next(f for f in report["figures"] if (f["id"], f["unit"]) == ("eku", "mx_host"))
    seen = [row for row in exported(folder, "endpoints") if row["status"] == "measured"]
    assert figure["coverage"]["measured"] > len(seen)
    assert any("interval" in row for row in figure["rows"])
    assert "≈" in mxcensus(folder, "report", "--format", "md").stdout


def test_a_resumed_scan_keeps_the_sample(world, tmp_path):
    program = Program(world, tmp_path, f"sqlite:///{tmp_path}/census.db")
    process = program.start("--sample", SIZE)
    wait_for_visits(program, 5, process)
    process.send_signal(signal.SIGINT)
    program.finish(process, status=130)  # so that there is something left, whatever the sample is
    inside = {row["address"] for row in exported(tmp_path, "endpoints") if row["reason"] != "not-sampled"}
    before = len(world.visits)
    program.finish(program.start_bare("--sample", 90, "--interval", "0.1"))
    after = {row["address"] for row in exported(tmp_path, "endpoints") if row["reason"] != "not-sampled"}
    assert after == inside
    contacted = {visit.address for visit in world.visits[before:]}
    assert contacted
    assert contacted <= inside


def test_plan_foretells_the_sample(world, scanned):
    folder, _, _ = scanned
    done = mxcensus(
        folder, "plan", "-f", folder / "domains.csv", "--resolver", world.resolver, "--port", world.port,
        "--ehlo-name", EHLO_NAME, "--contact", "the tests", "--allow-special-purpose", "--seed", 7,
        "--sample", SIZE, "--json",
    )  # fmt: skip
    planned = json.loads(done.stdout)
    reasons = [row["reason"] for row in exported(folder, "endpoints")]
    assert planned["not_tested"]["not-sampled"] == reasons.count("not-sampled")


@pytest.mark.parametrize(
    "more", [["--sample", "0"], ["--sample", "x"], ["--sample", "5", "--shard", "1/2", "--seed", "1"]]
)
def test_bad_samples_are_refused_before_anything(tmp_path, more):
    done = mxcensus(tmp_path, "scan", "a.example", *more, status=2)
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "census.db").exists()


def test_a_sample_that_was_kept_is_used_though_another_would_be_drawn():
    """What a resumed scan does, whatever its routing has become meanwhile."""
    ledger = MemoryLedger(1)
    kept = Sample((Stratum(20, 1, 20),), (SampledAddress("192.0.2.7", 0, 0, 0.05),))

    async def route(name):
        number = int(name.split(".")[0])
        return MailRouting(name, Routing.MX, "NOERROR", mx=(MxHost(10, f"mx.{name}", (f"192.0.2.{number}",)),))

    async def run():
        await ledger.add_targets(Target(f"{number}.example") for number in range(1, 21))
        await ledger.keep_sample(kept)
        steps = Steps(route, None, lambda _: None, lambda host: host, None, None)
        async for _ in survey(ledger, ScanSettings(1, sample=5), steps, asyncio.Event(), Progress()):
            pass
        return await ledger.pending(100)

    assert [work.endpoint.address for work in asyncio.run(run())] == ["192.0.2.7"]
    assert set(ledger.not_tested.values()) == {Reason.NOT_SAMPLED}
    assert len(ledger.not_tested) == 19
