"""Which questions about TLS policy are asked, of whom, and what becomes of the answers; the fake DNS is a dict."""

from dataclasses import replace

import pytest

from scanner.mail_policy import MOST_TLSA, ask
from scanner.policy_records import Dane, StsAnswer, StsRecord, TlsaRecord
from scanner.records import Answer, AnswerStatus, MailRouting, MxHost, MxNote, Routing

OK, NODATA, NXDOMAIN = AnswerStatus.OK, AnswerStatus.NODATA, AnswerStatus.NXDOMAIN
NONEXISTENT = Answer(NXDOMAIN, "NXDOMAIN", authenticated=True)
SERVFAIL = Answer(AnswerStatus.FAILED, "SERVFAIL")
RECORD = (3, 1, 1, bytes(32))
SIGNED = MxHost(10, "mx.example.net", ("192.0.2.1",), "NOERROR", "NOERROR", authenticated=True)


def routing(*hosts, secure=True):
    return MailRouting("example.org", Routing.MX, "NOERROR", secure, hosts)


def tlsa(*records, secure=True):
    return Answer(OK, "NOERROR", secure, data=records)


async def asked(found, answers=None, port=25):
    questions = []

    async def lookup(batch):
        questions.extend(batch)
        return [(answers or {}).get(name, NONEXISTENT) for name, _ in batch]

    return await ask(found, lookup, port), [name for name, rdtype in questions if rdtype == "TLSA"]


async def test_tlsa_records_of_a_signed_host_on_the_port_of_the_scan():
    found, names = await asked(routing(SIGNED), {"_2525._tcp.mx.example.net": tlsa(RECORD)}, port=2525)
    assert names == ["_2525._tcp.mx.example.net"]
    (host,) = found.mx
    assert (host.tlsa.base, host.tlsa.rcode, host.tlsa.authenticated) == ("mx.example.net", "NOERROR", True)
    assert host.tlsa.records == (TlsaRecord(*RECORD),)
    assert replace(host, tlsa=None) == SIGNED


@pytest.mark.parametrize("secure", [True, False])
async def test_the_record_of_mta_sts_is_asked_for_wherever_mail_is_routed(secure):
    text = {"_mta-sts.example.org": Answer(OK, "NOERROR", data=(b"v=STSv1; id=5",))}
    found, _ = await asked(routing(SIGNED, secure=secure), text)
    assert found.mta_sts == StsAnswer(StsRecord.VALID, "NOERROR", "5", "v=STSv1; id=5")
    nowhere, _ = await asked(routing(secure=secure), text)
    assert nowhere.mta_sts is None


@pytest.mark.parametrize(
    "found",
    [
        routing(SIGNED, secure=False),
        routing(replace(SIGNED, authenticated=False)),
        routing(replace(SIGNED, addresses=())),
        routing(),
    ],
)
async def test_nothing_is_asked_that_could_not_count(found):
    same, names = await asked(found)
    assert names == []
    assert same.mx == found.mx


async def test_only_the_signed_hosts_of_a_domain_are_asked_about():
    other = replace(SIGNED, host="other.example.net", authenticated=False)
    found, names = await asked(routing(SIGNED, other))
    assert names == ["_25._tcp.mx.example.net"]
    assert [host.tlsa and host.tlsa.standing for host in found.mx] == [Dane.NONE, None]


REAL, OWN = "_25._tcp.real.example", "_25._tcp.mx.example.net"
ELSE = (2, 0, 1, bytes(32))


@pytest.mark.parametrize(
    ("real", "own", "base", "standing"),
    [
        (tlsa(RECORD), tlsa(ELSE), "real.example", None),
        (NONEXISTENT, tlsa(ELSE), "mx.example.net", None),
        (tlsa(RECORD, secure=False), tlsa(ELSE), "mx.example.net", None),
        (SERVFAIL, tlsa(ELSE), "real.example", Dane.ERROR),
        (NONEXISTENT, NONEXISTENT, "mx.example.net", Dane.NONE),
        (tlsa(RECORD, secure=False), NONEXISTENT, "mx.example.net", Dane.NONE),
        (NONEXISTENT, SERVFAIL, "mx.example.net", Dane.ERROR),
    ],
)
async def test_of_an_alias_the_name_that_it_stands_for_comes_first(real, own, base, standing):
    found, names = await asked(routing(replace(SIGNED, expanded="real.example")), {REAL: real, OWN: own})
    assert names == [REAL, OWN]
    (host,) = found.mx
    assert (host.tlsa.base, host.tlsa.standing) == (base, standing)


async def test_a_flood_of_records_is_cut_and_noted():
    flood = [(3, 1, 1, number.to_bytes(32, "big")) for number in range(MOST_TLSA + 1)]
    found, _ = await asked(routing(SIGNED), {OWN: tlsa(*flood)})
    (host,) = found.mx
    assert len(host.tlsa.records) == MOST_TLSA
    assert host.notes == (MxNote.TRUNCATED,)
