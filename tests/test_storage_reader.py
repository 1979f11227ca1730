"""What comes back: rows in the contract's form, and certificates for the classification pass."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from storing import START, certificate, classify, endpoint, failed, measured, new_scan, routing, store, writer_of

from scanner.policy_records import (
    Dane,
    DaneVerdict,
    MtaSts,
    StsAnswer,
    StsMode,
    StsPolicy,
    StsRecord,
    StsVerdict,
    TlsaRecord,
    TlsaSet,
)
from scanner.records import (
    Certificate,
    Classification,
    EkuClass,
    Failure,
    Hierarchy,
    MailRouting,
    MxHost,
    MxNote,
    Program,
    Reason,
    Routing,
    Stage,
)
from storage import reader
from storage.ledger import SqlLedger
from storage.rows import certificate_of, certificate_row, digests, list_digest

DOMAIN_FIELDS = ["domain", "weight", "routing", "rcode", "authenticated", "mx"]
DOMAIN_FIELDS += ["mta_sts", "mta_sts_record", "mta_sts_policy"]
MX_FIELDS = ["preference", "host", "addresses", "rcode_a", "rcode_aaaa", "authenticated", "notes", "tlsa"]


def matches(names, host):
    return host in names


def classified(der, **values):
    fields = {
        "hierarchy": Hierarchy.PUBLIC_CHROME,
        "programs": (Program.CHROME, Program.MOZILLA),
        "programs_unknown": (Program.APPLE,),
        **values,
    }
    return Classification(digests([der])[0], EkuClass.SERVER_AND_CLIENT, EkuClass.SERVER_ONLY, **fields)


async def test_domains(database):
    scan_id = await new_scan(database)
    odd = MxHost(5, "alias.example", (), None, "NXDOMAIN", True, (MxNote.CNAME, MxNote.NULL_MX_IGNORED))
    found = MxHost(10, "mx.example", ("192.0.2.9", "192.0.2.10", "2001:db8::1"), "NOERROR", "NOERROR")
    tlsa = TlsaSet("mx.example", "NOERROR", authenticated=True, records=(TlsaRecord(3, 1, 1, b"\xff\0"),))
    found = replace(found, tlsa=tlsa)
    await store(
        database,
        scan_id,
        MailRouting("b.example", Routing.MX, "NOERROR", True, (odd, found)),
        MailRouting("a.example", Routing.NONE, "NXDOMAIN"),
        MailRouting("c.example", Routing.ERROR, None),
    )
    rows = list(reader.domains(database, scan_id))
    assert [list(row) for row in rows] == [DOMAIN_FIELDS] * 3
    assert list(rows[0].values()) == ["a.example", None, "none", "NXDOMAIN", False, [], None, None, None]
    assert rows[1]["authenticated"] is True
    assert [list(mx) for mx in rows[1]["mx"]] == [MX_FIELDS] * 2
    assert list(rows[1]["mx"][0].values()) == [
        5, "alias.example", [], None, "NXDOMAIN", True, ["cname", "null-mx-ignored"], None
    ]  # fmt: skip
    assert list(rows[1]["mx"][1].values()) == [
        10, "mx.example", ["192.0.2.9", "192.0.2.10", "2001:db8::1"], "NOERROR", "NOERROR", False, [],
        {"base": "mx.example", "rcode": "NOERROR", "authenticated": True, "records": ["3 1 1 ff00"]},
    ]  # fmt: skip
    assert (rows[2]["routing"], rows[2]["rcode"]) == ("error", None)


async def test_mta_sts_is_judged_in_the_pass_after_the_scan(database):
    scan_id = await new_scan(database)
    answer = StsAnswer(StsRecord.VALID, "NOERROR", "7", "v=STSv1; id=7;")
    with_record = replace(routing("a.example", (10, "mx.a.example", []), (20, "b.net", [])), mta_sts=answer)
    broken = replace(routing("b.example", (10, "b.net", [])), mta_sts=StsAnswer(StsRecord.INVALID, "NOERROR"))
    none = replace(routing("c.example", (10, "b.net", [])), mta_sts=StsAnswer(StsRecord.NONE, "NXDOMAIN"))
    policy = StsPolicy("a.example", START, None, "", "192.0.2.9", 200, StsMode.TESTING, 60, ("b.net",), "text")
    await store(database, scan_id, with_record, broken, none)
    ledger = ledger_of(database, scan_id)
    assert (await ledger.policies(10), await ledger.policies(10)) == (["a.example"], [])
    await ledger.claim_policies([("a.example", "192.0.2.9")], START)
    again = ledger_of(database, scan_id)
    assert await again.policies(10) == ["a.example"]  # claimed, and the process died
    assert await again.held_back() == {"192.0.2.9": START + timedelta(seconds=60)}
    assert [row["mta_sts"] for row in reader.domains(database, scan_id)] == [None, None, "none"]
    await store(database, scan_id, policy)
    assert await ledger_of(database, scan_id).policies(10) == []
    assert list(reader.sts_work(database, scan_id)) == [
        ("a.example", StsRecord.VALID, policy, ["mx.a.example", "b.net"]),
        ("b.example", StsRecord.INVALID, None, ["b.net"]),
    ]
    classify(database, scan_id, (), sts=[StsVerdict("a.example", MtaSts.TESTING_MISMATCH, ("mx.a.example",))])
    row, other, _ = reader.domains(database, scan_id)
    assert (row["mta_sts"], other["mta_sts"]) == ("testing-mismatch", None)
    assert row["mta_sts_record"] == {"record": "valid", "rcode": "NOERROR", "id": "7", "text": "v=STSv1; id=7;"}
    assert row["mta_sts_policy"] == {
        "failure": None, "detail": "", "address": "192.0.2.9", "status": 200, "mode": "testing", "max_age": 60,
        "mx": ["b.net"], "unmatched": ["mx.a.example"], "fetched_at": "2026-03-01T12:00:00Z",
    }  # fmt: skip


def ledger_of(database, scan_id):
    return SqlLedger(database, writer_of(database, scan_id), scan_id, seed=1, interval=60.0, now=lambda: START)


async def test_tlsa_records_are_compared_in_the_pass_after_the_scan(database):
    scan_id = await new_scan(database)
    signed, unsigned = endpoint(1, host="signed.example"), endpoint(2, host="unsigned.example")
    tlsa = TlsaSet("signed.example", "NOERROR", authenticated=True, records=(TlsaRecord(3, 1, 1, b"\xff"),))
    host = MxHost(10, "signed.example", ("192.0.2.1",), "NOERROR", "NOERROR", True, tlsa=tlsa)
    await store(
        database,
        scan_id,
        MailRouting("other.example", Routing.MX, "NOERROR", mx=(replace(host, tlsa=None),)),
        MailRouting("signed.example", Routing.MX, "NOERROR", True, (host,)),
        certificate(b"leaf"),
        certificate(b"ca"),
        measured(signed, (b"leaf", b"ca", b"ca"), at=START),
        measured(unsigned, (b"leaf",)),
    )

    def judged():
        rows = reader.endpoints(database, scan_id, lambda names, host: True)
        return {row["mx_host"]: (row["dane"], row["dane_record"]) for row in rows}

    assert judged() == {"signed.example": (None, None), "unsigned.example": ("insecure", None)}
    ((name, digest, found, listed, at),) = reader.dane_work(database, scan_id)
    assert (name, found, at) == ("signed.example", tlsa, START)
    assert [record.der for record in listed] == [b"leaf", b"ca", b"ca"]
    for verdict in (Dane.MISMATCH, Dane.MATCH):  # a later pass replaces what an earlier one found
        classify(database, scan_id, (), verdicts=[DaneVerdict(name, digest, verdict, "3 1 1")])
    assert judged()["signed.example"] == ("match", "3 1 1")


async def test_a_measured_endpoint(database):
    scan_id = await new_scan(database)
    leaf, ca = b"leaf", b"ca"
    at = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)
    seen = measured(endpoint(1), (leaf, ca, ca), at=at, client_ca_names=(b"\x01",), detail="d")
    await store(database, scan_id, certificate(leaf), certificate(ca), seen)
    [unclassified] = reader.endpoints(database, scan_id, matches)
    assert [unclassified[name] for name in ("eku_class", "hierarchy", "programs", "chain_complete")] == [
        "server+client", None, None, None
    ]  # fmt: skip
    classify(database, scan_id, [classified(leaf)], [(list_digest(digests([leaf, ca, ca])), True)])
    [row] = reader.endpoints(database, scan_id, matches)
    [leaf_digest, ca_digest] = digests([leaf, ca])
    expected = {
        "mx_host": "mx1.example.net",
        "address": "192.0.2.1",
        "port": 25,
        "attempt": 1,
        "status": "measured",
        "reason": None,
        "stage": "quit",
        "failure": None,
        "reply_code": 250,
        "detail": "d",
        "greeting": "mx.example.net ESMTP Postfix",
        "ehlo_keywords": ["PIPELINING", "STARTTLS"],
        "starttls_offered": True,
        "injected_plaintext": False,
        "tls_version": "TLSv1.3",
        "cipher_suite": "TLS_AES_256_GCM_SHA384",
        "group": "x25519",
        "certificate_list": [leaf_digest, ca_digest, ca_digest],
        "certificate": leaf_digest,
        "eku_class": "server+client",
        "hierarchy": "public-chrome",
        "programs": ["chrome", "mozilla"],
        "client_auth": "not-requested",
        "client_ca_names": ["CN=01"],
        "chain_complete": True,
        "name_match": True,
        "expired": False,
        "software": "Postfix",
        "started_at": "2026-03-01T12:00:00.250000Z",
        "duration_ms": 1500,
        "dane": "insecure",
        "dane_record": None,
        "client_certificate_types": None,
        "client_signature_algorithms": None,
    }
    assert list(row.items()) == list(expected.items())  # in this order


async def test_an_endpoint_without_an_observation_has_the_same_fields(database):
    scan_id = await new_scan(database)
    await store(database, scan_id, measured(endpoint(1)))
    async with writer_of(database, scan_id) as writer:
        ledger = SqlLedger(database, writer, scan_id, seed=1, interval=60)
        await ledger.enroll([(endpoint(2), Reason.SPECIAL_PURPOSE)])
    tested, untested = reader.endpoints(database, scan_id, matches)
    assert list(untested) == list(tested)
    assert {name: value for name, value in untested.items() if value is not None} == {
        "mx_host": "mx2.example.net",
        "address": "192.0.2.2",
        "port": 25,
        "attempt": 0,
        "status": "not-tested",
        "reason": "special-purpose",
    }


async def test_endpoints_without_a_certificate_or_an_observation(database):
    scan_id = await new_scan(database)
    refused = failed(endpoint(1), stage=Stage.CONNECT, failure=Failure.REFUSED, reply_code=None)
    unread = measured(endpoint(2), (b"garbage",))
    garbage = Certificate(digests([b"garbage"])[0], b"garbage", readable=False, parse_error="not DER")
    await store(database, scan_id, refused, garbage, unread)
    first, second = reader.endpoints(database, scan_id, matches)
    nothing = ("certificate", "eku_class", "hierarchy", "programs", "client_ca_names", "chain_complete")
    assert {first[name] for name in (*nothing, "name_match", "expired")} == {None}
    assert (first["certificate_list"], first["stage"], first["failure"]) == ([], "connect", "refused")
    assert [second[name] for name in ("eku_class", "name_match", "expired")] == ["unparsable", None, None]


@pytest.mark.parametrize(("seconds", "expired"), [(-1, True), (0, False), (1, False)])
async def test_expired_is_judged_at_the_time_of_the_session(database, seconds, expired):
    scan_id = await new_scan(database)
    ends = certificate(b"leaf", not_after=START + timedelta(seconds=seconds), dns_names=("*.example.org",))
    await store(database, scan_id, ends, measured(endpoint(1)))
    [row] = reader.endpoints(database, scan_id, matches)
    assert (row["expired"], row["name_match"]) == (expired, False)


async def test_certificates(database):
    scan_id = await new_scan(database)
    leaf = certificate(
        b"leaf",
        eku_oids=("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.4"),
        not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        not_before=datetime(1, 1, 1, tzinfo=UTC),
    )
    ca = certificate(b"ca", eku_oids=None, eku_class=EkuClass.ABSENT, is_ca=True)
    await store(database, scan_id, leaf, ca, certificate(b"elsewhere"), measured(endpoint(1)))
    more = {
        "exposure": "2027-03",
        "issued_since": "earlier",
        "expires_since": "2026-03-15",
        "issuer_key": "cd" * 32,
    }
    classify(database, scan_id, [classified(b"leaf", chrome_estimated=True, **more)])
    rows = {row["role"]: row for row in reader.certificates(database, scan_id)}
    server, authority = rows["server"], rows["ca"]
    expected = {
        "sha256": leaf.sha256,
        "role": "server",
        "subject": "CN=mx.example.net",
        "issuer": "CN=Example CA",
        "serial": "0a",
        "not_before": "0001-01-01T00:00:00Z",
        "not_after": "9999-12-31T23:59:59Z",
        "key_type": "ec",
        "key_bits": 256,
        "spki_sha256": "ab" * 32,
        "signature_algorithm": "ecdsa-with-SHA256",
        "dns_names": ["mx1.example.net"],
        "eku_oids": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.4"],
        "eku_class": "server+client",
        "effective_eku_class": "server-only",
        "email": True,
        "hierarchy": "public-chrome",
        "programs": ["chrome", "mozilla"],
        "programs_unknown": ["apple"],
        "chrome_estimated": True,
        "self_signed": False,
        "parse_error": None,
        "der": base64.b64encode(b"leaf").decode(),
        "chrome_absence": None,
        "subclass": None,
        "ca_owner": None,
        "exposure": "2027-03",
        "issued_since": "earlier",
        "expires_since": "2026-03-15",
        "issuer_key": "cd" * 32,
    }
    assert list(server.items()) == list(expected.items())  # in this order
    assert list(authority) == list(expected)
    assert [authority[name] for name in ("eku_oids", "eku_class", "email", "hierarchy", "programs")] == [
        None, "absent", False, None, None
    ]  # fmt: skip


async def test_a_later_pass_replaces_an_earlier_one(database):
    scan_id = await new_scan(database)
    await store(database, scan_id, certificate(b"leaf"), measured(endpoint(1), (b"leaf",)))
    classify(database, scan_id, [classified(b"leaf")] * 2)
    classify(database, scan_id, [classified(b"leaf", hierarchy=Hierarchy.DISTRUSTED, programs=())])
    [row] = reader.certificates(database, scan_id)
    assert (row["hierarchy"], row["programs"]) == ("distrusted", [])


async def test_certificates_and_lists_for_the_classification_pass(database, monkeypatch):
    monkeypatch.setattr(reader, "PAGE", 1)
    scan_id, other = await new_scan(database), await new_scan(database)
    leaf, ca, root = certificate(b"leaf"), certificate(b"ca", is_ca=True), certificate(b"v1-root")
    seen = measured(endpoint(1), (b"leaf", b"ca", b"v1-root", b"ca"))
    alone = measured(endpoint(2), (b"leaf",))
    await store(database, scan_id, leaf, ca, root, seen, alone)
    await store(database, other, certificate(b"other"), measured(endpoint(1), (b"other",)))
    by_digest = sorted([leaf, ca, root], key=lambda record: record.sha256)
    assert list(reader.presented_certificates(database, scan_id)) == [(record, None) for record in by_digest]
    assert {record.der for record in reader.ca_certificates(database, scan_id)} == {b"ca", b"v1-root"}
    both, one = list_digest(digests(seen.certificate_list)), list_digest(digests(alone.certificate_list))
    listed = {both: (leaf, ca, root, ca), one: (leaf,)}
    assert {digest: rest for digest, *rest in reader.lists(database, scan_id)} == {
        digest: [certificates, None] for digest, certificates in listed.items()
    }
    classify(database, scan_id, [classified(b"ca")], [(both, True)])
    stored = {record.der: meaning for record, meaning in reader.presented_certificates(database, scan_id)}
    assert stored[b"leaf"] is None
    assert (stored[b"ca"]["programs"], stored[b"ca"]["exposure"]) == ("chrome+mozilla", "not-affected")
    assert {digest: complete for digest, _, complete in reader.lists(database, scan_id)} == {both: True, one: None}


async def test_classifications_are_written_while_certificates_are_read(database, monkeypatch):
    monkeypatch.setattr(reader, "PAGE", 2)
    monkeypatch.setattr("storage.classifications.BATCH", 3)
    scan_id = await new_scan(database)
    ders = [b"leaf %d" % number for number in range(10)]
    await store(
        database,
        scan_id,
        *(certificate(der) for der in ders),
        *(measured(endpoint(number), (der,)) for number, der in enumerate(ders)),
    )
    found = (classified(record.der) for record, _ in reader.presented_certificates(database, scan_id))
    classify(database, scan_id, found)
    assert {row["hierarchy"] for row in reader.certificates(database, scan_id)} == {"public-chrome"}


async def test_rows_come_in_the_same_order_from_every_database(database):
    scan_id = await new_scan(database)
    names = ["b.example", "a-b.example", "a.example", "ab.example", "_x.example", "0.example"]
    await store(database, scan_id, *(routing(name, kind=Routing.NONE) for name in names))
    assert [row["domain"] for row in reader.domains(database, scan_id)] == sorted(names)


@pytest.mark.parametrize(
    "record",
    [
        certificate(
            b"x", sct_timestamps=(START, START + timedelta(milliseconds=1)), policy_oids=("2.23.140.1.2.1",)
        ),
        certificate(b"x", eku_oids=(), eku_class=EkuClass.NEITHER, key_bits=None, dns_names=()),
        Certificate("00" * 32, b"", readable=False, parse_error="empty"),
    ],
)
def test_a_certificate_survives_its_row(record):
    assert (
        certificate_of(json.loads(json.dumps(certificate_row(record), default=_as_text), object_hook=_back))
        == record
    )


def _as_text(value):
    return {"bytes": value.hex()} if isinstance(value, bytes) else {"time": value.isoformat()}


def _back(value):
    if "bytes" in value:
        return bytes.fromhex(value["bytes"])
    return datetime.fromisoformat(value["time"]) if "time" in value else value
