"""A scan of servers that mean no good: every row as declared, in bounded time and memory, and not one traceback.

MXCENSUS_HOSTILE says how many hosts (`make soak`: 5,000); the suite takes each behaviour once.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from documented import written_table
from test_lab_scan import exported

from lab.hostile import HOSTILE, matrix
from lab.hosts import BEHAVIOURS
from lab.process import WorldProcess

HOSTS = int(os.environ.get("MXCENSUS_HOSTILE", "730"))
TIMEOUT = 2
MEGABYTES = 500
MEASURED = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(child.pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command and writes its peak in KB. A child of the tests' own process would begin with the peak of that."""
DOCUMENT = Path(__file__).parent.parent / "docs" / "robustness.md"
BEGIN, END = "<!-- hostile servers: begin -->\n\n", "\n\n<!-- hostile servers: end -->"


def test_the_lab_has_each_behaviour():
    """One host in five is honest; no behaviour has the name of an honest one."""
    assert not set(HOSTILE) & set(BEHAVIOURS)
    assert len(HOSTILE) <= HOSTS - HOSTS // 5


@pytest.mark.timeout(600)
def test_hostile_servers_cost_bounded_time_and_memory_and_get_the_right_verdict(tmp_path, record_property):
    with WorldProcess(HOSTS, tmp_path / "lab", hostile=True) as world:
        targets = world.write_targets(tmp_path / "domains.csv")
        with tempfile.TemporaryFile("w+") as err:
            began = time.monotonic()
            process = subprocess.Popen(
                [
                    sys.executable, "-c", MEASURED, tmp_path / "KB",
                    sys.executable, "-m", "mxcensus", "scan", "-f", targets, "--resolver", world.resolver,
                    "--port", str(world.port), "--trust", world.snapshot, "--ehlo-name", "census.example.net",
                    "--contact", "the tests", "--allow-special-purpose", "--interval", "0.1",
                    "--concurrency", "300", "--per-operator", "2000", "--rate", "2000",
                    "--timeout", str(TIMEOUT), "--json",
                ],
                cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=err,
                env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path / "config"), "NO_COLOR": "1"},
            )  # fmt: skip
            process.wait(580)
            seconds = time.monotonic() - began
            err.seek(0)
            said = err.read()
        assert process.returncode == 0, said[-2000:]
        assert "Traceback" not in said, said[-3000:]
        megabytes = int((tmp_path / "KB").read_text()) / 1024
        assert megabytes < MEGABYTES
        assert seconds < 60 + HOSTS * 0.1
        rows = {(row["mx_host"], row["address"]): row for row in exported(tmp_path, "endpoints")}
        assert sorted(rows) == sorted(world.expected.endpoints)
        wrong = [
            (key, name, rows[key][name], value, rows[key]["detail"])
            for key, fields in world.expected.endpoints.items()
            for name, value in fields.items()
            if rows[key][name] != value
        ]
        assert wrong == []
        assert Counter(visit.address for visit in world.visits) == Counter(
            host.address for host in world.population.hosts
        )
    record_property("hostile hosts", HOSTS)
    record_property("MB at most", round(megabytes))


def test_the_matrix_in_the_documents_is_this_one():
    """MXCENSUS_WRITE=1 writes it."""
    written = written_table(DOCUMENT, BEGIN, END, matrix())
    assert len(re.findall("^[|] ", written, re.MULTILINE)) > 20
