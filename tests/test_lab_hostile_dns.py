"""A scan of domains whose name servers lie, among honest ones: every row as declared, and nobody is led astray."""

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from documented import written_table
from test_lab_scan import EHLO_NAME, exported, mxcensus

from lab.dns import Nameserver
from lab.hostile_dns import LIARS, domains, expected, matrix
from lab.lying import LyingZone
from lab.world import World

DOMAINS = 40
TRUE = "customer0-0.example"
DOCUMENT = Path(__file__).parent.parent / "docs" / "robustness.md"
BEGIN, END = "<!-- hostile resolvers: begin -->\n\n", "\n\n<!-- hostile resolvers: end -->"


def compared(found, wanted):
    """The fields of `found` that are wanted, lists of rows too."""
    if isinstance(wanted, dict):
        return {name: compared(found[name], value) for name, value in wanted.items()}
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        return [compared(*pair) for pair in zip(found, wanted, strict=True)]
    return found


@pytest.mark.timeout(200)
def test_lying_name_servers_lead_nobody_astray_and_get_the_right_verdict(tmp_path):
    with World(DOMAINS, tmp_path / "lab") as world:
        rows = world.expected.domains
        host = world.population.routes[TRUE][0]
        with closing(LyingZone(world.population, host)) as zone, Nameserver(zone) as liar:
            targets = world.write_targets(tmp_path / "domains.csv")
            targets.write_text(targets.read_text() + "".join(f"{name},1\n" for name in domains()))
            done = mxcensus(
                tmp_path, "scan", "-f", targets, "--resolver", f"127.0.0.1:{liar.port}", "--port", world.port,
                "--trust", world.snapshot, "--ehlo-name", EHLO_NAME, "--contact", "the tests",
                "--allow-special-purpose", "--interval", "0.1", "--per-operator", "200", "--rate", "2000",
                "--timeout", "10", "--json",
            )  # fmt: skip
            assert liar.faults == []
        assert json.loads(done.stdout)["domains"] == DOMAINS + len(LIARS)
        truth = {name: value for name, value in rows[TRUE].items() if name != "weight"}
        wanted = {name: {**rows[name]} for name in rows} | expected(truth)
        found = {row["domain"]: row for row in exported(tmp_path, "domains")}
        assert sorted(found) == sorted(wanted)
        wrong = [
            (domain, name, compared(found[domain][name], value), value)
            for domain, fields in wanted.items()
            for name, value in fields.items()
            if compared(found[domain][name], value) != value
        ]
        assert wrong == []
        endpoints = exported(tmp_path, "endpoints")
        assert not [row["mx_host"] for row in endpoints if row["mx_host"].startswith("forged")]
        assert {row["failure"] for row in endpoints if row["mx_host"].startswith("wide.")} == {"refused"}
        assert sum(row["mx_host"] == host for row in endpoints) == 1


def test_the_matrix_in_the_documents_is_this_one():
    """MXCENSUS_WRITE=1 writes it."""
    written = written_table(DOCUMENT, BEGIN, END, matrix())
    assert len(re.findall("^[|] ", written, re.MULTILINE)) == len(LIARS) + 1
