"""Purging reaches every table, and nothing that is somebody else's."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select
from storing import (
    START,
    certificate,
    classify,
    endpoint,
    failed,
    measured,
    new_experiment,
    new_scan,
    routing,
    store,
)
from test_storage_reader import classified

from scanner.ledger import Sample, SampledAddress, Stratum
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
from scanner.records import CaNames, CaNamesVerdict, Role, Sighting, Stage
from scanner.trials import Outcome, Trial
from storage import experiments, reader, second_looks
from storage.purge import purge
from storage.rows import ca_names_digest, digests, list_digest
from storage.sampled import store_sample
from storage.schema import metadata

MINE, THEIRS = endpoint(1, host="mx.mine.example"), endpoint(2, host="mx.theirs.example")
CERTIFICATES = [certificate(der) for der in (b"mine", b"shared-ca", b"theirs")]


STS = StsAnswer(StsRecord.VALID, "NOERROR", "1")


def signed(domain, host, address):
    """Mail routing of a domain whose one host has TLSA records."""
    found = routing(domain, (10, host, [address]))
    tlsa = TlsaSet(host, "NOERROR", authenticated=True, records=(TlsaRecord(3, 1, 1, bytes(32)),))
    return replace(
        found, authenticated=True, mta_sts=STS, mx=(replace(found.mx[0], authenticated=True, tlsa=tlsa),)
    )


async def census(database, *, mine=True):
    """A scan of two domains; without `mine` it is what a purge of the first must leave."""
    scan_id = await new_scan(database)
    records = [
        signed("theirs.example", "mx.theirs.example", "192.0.2.2"),
        *CERTIFICATES[1:],
        measured(THEIRS, (b"theirs", b"shared-ca"), client_ca_names=(b"\x02",)),
        StsPolicy("theirs.example", START, address="192.0.2.2", mode=StsMode.ENFORCE, mx=("*.theirs.example",)),
    ]
    if mine:
        records += [
            signed("mine.example", "mx.mine.example", "192.0.2.1"),
            CERTIFICATES[0],
            StsPolicy("mine.example", START, address="192.0.2.1", mode=StsMode.ENFORCE, mx=("*.mine.example",)),
            measured(MINE, (b"mine", b"shared-ca"), client_ca_names=(b"\x01",)),
            Sighting(1, Role.CLIENT, (), prefix="192.0.2.0/24", ehlo_name="MX.mine.example"),
        ]
    await store(database, scan_id, *records)
    ders = [b"mine", b"shared-ca", b"theirs"][0 if mine else 1 :]
    leaves = [der for der in ders if der != b"shared-ca"]
    lists = [(list_digest(digests([der, b"shared-ca"])), True) for der in leaves]
    hosts = {b"mine": MINE.mx_host, b"theirs": THEIRS.mx_host}
    verdicts = [
        DaneVerdict(hosts[der], digest, Dane.MATCH, "3 1 1") for der, (digest, _) in zip(leaves, lists, strict=True)
    ]
    named = {b"mine": b"\x01", b"theirs": b"\x02"}
    asked = [
        CaNamesVerdict(ca_names_digest([named[der]]), digest, CaNames.PRIVATE)
        for der, (digest, _) in zip(leaves, lists, strict=True)
    ]
    sts = [StsVerdict(name, MtaSts.ENFORCE) for name in ("mine.example", "theirs.example")[0 if mine else 1 :]]
    classify(database, scan_id, [classified(der) for der in ders], lists, verdicts=verdicts, asked=asked, sts=sts)
    addresses = ["192.0.2.1", "192.0.2.2"] if mine else ["192.0.2.2"]
    drawn = tuple(SampledAddress(address, 0, at, 0.5) for at, address in enumerate(addresses))
    database.write(lambda connection: store_sample(connection, scan_id, Sample((Stratum(4, 2, 4),), drawn)))
    for one in [MINE, THEIRS] if mine else [THEIRS]:
        await second_looks.write(database, scan_id, 7, "rsa", failed(one, stage=Stage.HANDSHAKE), [])
    number = await new_experiment(database)
    for position, tried in enumerate([MINE, THEIRS] if mine else [THEIRS]):
        await experiments.write(database, number, position, Trial(tried, "none", Outcome.ACCEPTED))
    return scan_id


def sizes(database):
    with database.reading() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in metadata.sorted_tables
            if table.name not in {"scan", "experiment", "sample_stratum"}
        }


def names(database, scan_id):
    return (
        {row["domain"] for row in reader.domains(database, scan_id)},
        {row["mx_host"] for row in reader.endpoints(database, scan_id, lambda names, host: True)},
        {record.der for record, _ in reader.presented_certificates(database, scan_id)},
    )


ALL = {
    "domain", "mx_set_host", "mx_host", "mx_address", "endpoint", "observation", "certificate", "certificate_list",
    "ca_name_set", "scan_certificate", "classification", "list_classification", "trial", "tlsa", "dane_verdict",
    "sighting", "ca_names_verdict", "second_look", "sample_address", "mta_sts", "sts_policy", "sts_verdict",
}  # fmt: skip


@pytest.mark.parametrize(
    ("what", "keeps"),
    [
        ({"domain": "mine.example"}, {"sighting"}),
        ({"domain": "*.mine.example"}, set()),
        ({"host": "mx.mine.example"}, {"domain", "mta_sts", "sts_policy", "sts_verdict"}),
        ({"host": "*.mine.example"}, {"domain", "mta_sts", "sts_policy", "sts_verdict"}),
        ({"network": "192.0.2.1"}, {"domain", "mx_set_host", "mx_host", "tlsa", "mta_sts"}),
        ({"network": "192.0.2.0/31"}, {"domain", "mx_set_host", "mx_host", "tlsa", "mta_sts"}),
        ({"domain": "*.example", "network": "::/0"}, None),
    ],
)
async def test_purge(database, what, keeps):
    scan_id = await census(database)
    before = sizes(database)
    assert set(before) == ALL
    deleted = purge(database, **what)
    after = sizes(database)
    assert deleted == {name: before[name] - after[name] for name in deleted}
    if keeps is None:
        assert set(after.values()) == {0}
        return
    # one row in each table was the purged one's; the shared CA stays in two of three tables of certificates
    assert {name: before[name] - after[name] for name in ALL} == {name: int(name not in keeps) for name in ALL}
    theirs = {"theirs.example"} | ({"mine.example"} if "domain" in keeps else set())
    assert names(database, scan_id) == (theirs, {"mx.theirs.example"}, {b"theirs", b"shared-ca"})


@pytest.mark.parametrize(
    "what",
    [
        {"domain": "ine.example"},
        {"domain": "*.ine.example"},
        {"domain": "_ine.example"},
        {"domain": "*.%.example"},
        {"host": "mine.example"},
        {"network": "198.51.100.0/24"},
        {"network": "::/0"},
    ],
)
async def test_what_does_not_match_stays(database, what):
    await census(database)
    before = sizes(database)
    assert set(purge(database, **what).values()) <= {0}
    assert sizes(database) == before


async def test_a_certificate_stays_while_another_scan_has_it(database):
    first, second = await census(database), await new_scan(database)
    await store(database, second, measured(THEIRS, (b"mine", b"shared-ca")))
    purge(database, domain="mine.example")
    assert names(database, first)[2] == {b"theirs", b"shared-ca"}
    assert names(database, second)[2] == {b"mine", b"shared-ca"}


BY = {"prefix": "198.51.100.0/24", "ehlo_name": "out.mine.example", "operator": "mine.example"}


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        (("prefix",), {"network": "198.51.100.7/32"}),
        (("prefix",), {"network": "198.51.0.0/16"}),
        (("ehlo_name",), {"host": "out.mine.example"}),
        (("ehlo_name",), {"domain": "*.mine.example"}),
        (("operator",), {"domain": "mine.example"}),
        ((), {"domain": "*.mine.example"}),  # by the dNSName of its certificate
        ((), {"host": "client.mine.example"}),
    ],
)
async def test_sightings_of_a_peer_go_with_their_certificates(database, facts, what):
    scan_id, other = await new_scan(database), await new_scan(database)
    mine = certificate(b"mine", dns_names=("*.client.mine.example",) if not facts else ("x.example",))
    theirs, issuer = certificate(b"theirs", dns_names=("mx.theirs.example",)), certificate(b"shared-ca")
    stays = Sighting(
        2, Role.CLIENT, (theirs.sha256, issuer.sha256), prefix="198.50.0.0/24", operator="yours.example"
    )
    goes = Sighting(1, Role.CLIENT, (mine.sha256, issuer.sha256), **{name: BY[name] for name in facts})
    await store(database, scan_id, mine, theirs, issuer, goes, stays)
    await store(database, other, stays)
    lists = [(list_digest([one.sha256, issuer.sha256]), True) for one in (mine, theirs)]
    classify(database, scan_id, [classified(der) for der in (b"mine", b"theirs", b"shared-ca")], lists)
    before = sizes(database)
    purge(database, **what)
    gone = {name: before[name] - count for name, count in sizes(database).items() if before[name] - count}
    touched = (
        "sighting",
        "certificate",
        "certificate_list",
        "scan_certificate",
        "classification",
        "list_classification",
    )
    assert gone == dict.fromkeys(touched, 1)
    assert names(database, scan_id)[2] == {b"theirs", b"shared-ca"}


@pytest.mark.parametrize(
    "what",
    [{"domain": "ine.example"}, {"host": "mine.example"}, {"network": "198.51.101.0/24"}, {"network": "::/0"}],
)
async def test_sightings_of_others_stay(database, what):
    scan_id = await new_scan(database)
    mine = certificate(b"mine", dns_names=("client.mine.example",))
    await store(database, scan_id, mine, Sighting(1, Role.CLIENT, (mine.sha256,), **(BY | {"operator": None})))
    purge(database, **what)
    assert names(database, scan_id)[2] == {b"mine"}


def test_a_network_has_to_be_one(database):
    with pytest.raises(ValueError, match="example"):
        purge(database, network="example.com")
