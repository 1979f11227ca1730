"""`mxcensus doctor`: each check with what makes it fail, and the pages it writes."""

import asyncio
import json
import sqlite3
from datetime import UTC, date, datetime

import pytest
from test_lab_scan import mxcensus

from lab.world import World
from mxcensus import doctor
from scanner.records import Answer, AnswerStatus

SILENT = Answer(AnswerStatus.NO_ANSWER, None)
FAILS = Answer(AnswerStatus.FAILED, "SERVFAIL")
NODATA = Answer(AnswerStatus.NODATA, "NOERROR")
VALIDATED = Answer(AnswerStatus.NODATA, "NOERROR", authenticated=True)
ADDRESS = Answer(AnswerStatus.OK, "NOERROR", data=("192.0.2.1",))


def asking(answers):
    async def query(_name, rdtype):
        return answers.get(rdtype, NODATA)

    return query


@pytest.mark.parametrize(
    ("answer", "levels"),
    [(SILENT, ["fail"]), (FAILS, ["fail"]), (NODATA, ["ok", "warn"]), (VALIDATED, ["ok", "ok"])],
)
def test_the_resolver_answers_and_validates(answer, levels):
    found = asyncio.run(doctor.resolves(asking({"TXT": answer})))
    assert [finding.level for finding in found] == levels


@pytest.mark.parametrize(
    ("answers", "names", "ehlo_name", "level"),
    [
        ({"A": ADDRESS}, {"census.example.net"}, "census.example.net", "ok"),
        ({"A": ADDRESS}, {"host-1.provider.example"}, "census.example.net", "warn"),
        ({"A": ADDRESS}, set(), "census.example.net", "warn"),
        ({}, {"census.example.net"}, "census.example.net", "warn"),
        ({}, set(), None, "untested"),
    ],
)
def test_the_reverse_name_is_forward_confirmed(answers, names, ehlo_name, level):
    found = asyncio.run(doctor.reverse_name(asking(answers), lambda _address: names, ehlo_name))
    assert found.level == level


def test_clock_files_snapshot_and_identity():
    assert doctor.clock(datetime(1970, 1, 2, tzinfo=UTC)).level == "fail"
    assert doctor.clock(datetime(2030, 1, 2, tzinfo=UTC)).level == "ok"
    assert [doctor.open_files(1024, number).level for number in (500, 1000)] == ["ok", "fail"]
    assert [doctor.snapshot(date(2026, 1, 1), day).level for day in (date(2026, 2, 1), date(2027, 1, 1))] == [
        "ok",
        "warn",
    ]
    assert [doctor.identity("a.example", contact).level for contact in ("me", None)] == ["ok", "warn"]


def test_the_database(tmp_path):
    missing = tmp_path / "census.db"
    assert doctor.database(f"sqlite:///{missing}").level == "ok"
    assert not missing.exists()
    assert doctor.database(f"sqlite:///{tmp_path}/no/census.db").level == "fail"
    assert doctor.database("nonsense").level == "fail"
    sqlite3.connect(missing).execute("CREATE TABLE other (a)").connection.close()
    assert doctor.database(f"sqlite:///{missing}").level == "fail"


@pytest.mark.parametrize(
    ("contact", "said"),
    [
        ("census@example.net", "mailto:census@example.net"),
        ("mailto:census@example.net", "mailto:census@example.net"),
        ("https://example.net/me@home", "https://example.net/me@home"),
        ("the tests", "the tests"),
    ],
)
def test_a_mailbox_becomes_a_uri_in_probing_txt_and_nowhere_else(contact, said):
    pages = dict(doctor.pages("census.example.net", contact, date(2026, 11, 24)))
    assert f"Contact: {said}\n" in pages[".well-known/probing.txt"]
    assert f"complaints: {contact}\n" in pages["index.md"]


def test_doctor_contacts_nobody_and_writes_the_pages(tmp_path):
    with World(10, tmp_path) as world:
        common = ["--resolver", world.resolver, "--trust", world.snapshot]
        who = ["--ehlo-name", "census.example.net", "--contact", "mailto:census@example.net"]
        found = json.loads(mxcensus(tmp_path, "doctor", *common, *who, "-o", "www", "--json", status=1).stdout)
        assert world.visits == []
    levels = {finding["check"]: finding["level"] for finding in found["findings"]}
    assert levels["resolver"] == "fail"  # the lab's resolver knows no root
    assert levels["port-25"] == "untested"
    assert levels["database"] == "ok"
    probing = (tmp_path / "www/.well-known/probing.txt").read_text()
    assert "Canonical: https://census.example.net/.well-known/probing.txt\n" in probing
    assert "Contact: mailto:census@example.net\n" in probing
    assert "Expires: " in probing
    assert "census@example.net" in (tmp_path / "www/optout.txt").read_text()
    mxcensus(tmp_path, "doctor", *common, "-o", "www", status=2)
