"""What tells issuers apart: the key that verified the signature, or else what the certificate claims."""

import pytest
from hierarchies import certificates, intermediate, issue, key, leaf, root, snapshot
from sqlalchemy import update
from storing import endpoint, measured, new_scan, store

from mxcensus import classification
from scanner.certificates import parse
from scanner.classify import Classifier
from storage import counts, reader, schema

SPKI = "spki_sha256"


def issuer_key(issued, seen=()):
    return Classifier(snapshot(), certificates(*seen)).classify(issued.certificate).issuer_key


def test_the_key_that_verified_the_signature_whatever_its_name():
    first, renamed, namesake = root("CA", 1), root("Renamed CA", 1), root("CA", 4)
    pool = [first, renamed, namesake]
    assert issuer_key(leaf(first), pool) == first.certificate.spki_sha256
    assert issuer_key(leaf(renamed), pool) == first.certificate.spki_sha256
    assert issuer_key(leaf(namesake), pool) == namesake.certificate.spki_sha256
    assert issuer_key(first, pool) == first.certificate.spki_sha256  # a CA's own is that of what it issued
    assert issuer_key(leaf(intermediate(first)), pool) != first.certificate.spki_sha256  # its issuer was not seen


def test_a_self_signed_certificate_s_own_key():
    alone = issue("Alone", private_key=key(7))
    assert issuer_key(alone) == alone.certificate.spki_sha256


@pytest.mark.parametrize(("identifiers", "kind", "of_one_name"), [(True, "claimed", 2), (False, "named", 1)])
def test_without_the_issuer_s_certificate_it_is_a_claim(identifiers, kind, of_one_name):
    """Two CAs of one name are two only where the certificates have a key identifier; a name is never a key."""
    leaves = [
        leaf(root(text, number), identifiers=identifiers) for text, number in (("CA", 1), ("CA", 4), ("Other", 1))
    ]
    found = [issuer_key(one) for one in leaves]
    assert {one.partition(":")[0] for one in found} == {kind}
    assert len(set(found[:2])) == of_one_name
    assert found[2] not in found[:2]
    assert issuer_key(leaf(root("ca ", 1), identifiers=identifiers)) == found[0]  # RFC 5280 section 7.1


def test_a_broken_signature_leaves_a_claim():
    top = root()
    der = bytearray(leaf(top).certificate.der)
    der[-1] ^= 1
    broken = parse(bytes(der))
    found = Classifier(snapshot(), certificates(top)).classify(broken).issuer_key
    assert found.startswith("claimed:")


def test_what_cannot_be_read_has_none():
    assert Classifier(snapshot()).classify(parse(b"no certificate")).issuer_key is None


def spread(database, scan_id):
    with database.reading() as connection:
        return counts.read(connection, scan_id).private_spread


async def test_private_issuers_are_counted_by_key(database):
    """Of one name two keys count as two; one key under two names, and the CA's own certificate, as one."""
    first, renamed, namesake = root("CA", 1), root("Renamed CA", 1), root("CA", 4)
    presented = [
        [leaf(first, number=11), first],
        [leaf(first, number=12)],
        [leaf(renamed, number=13), renamed],
        [first],  # self-signed, in the place of an end entity certificate
        [leaf(namesake, number=14), namesake],
        [issue("Alone", private_key=key(7))],
    ]
    scan_id = await new_scan(database)
    records = {one.sha256: one.certificate for listed in presented for one in listed}
    sessions = [
        measured(endpoint(n, host=f"mx.op{n}.example"), tuple(one.certificate.der for one in listed))
        for n, listed in enumerate(presented, 1)
    ]
    await store(database, scan_id, *records.values(), *sessions)
    assert spread(database, scan_id) == {}
    classification.classify_scan(database, scan_id, snapshot())
    assert spread(database, scan_id) == {
        "1": 2,
        "2-9": 1,
    }  # the namesake and the one alone; the CA of four operators
    rows = {row["sha256"]: row for row in reader.certificates(database, scan_id)}
    assert rows[presented[1][0].sha256]["issuer_key"] == rows[first.sha256][SPKI] == rows[renamed.sha256][SPKI]
    of_before = schema.classification.c.scan_id == scan_id
    database.write(
        lambda c: c.execute(update(schema.classification).where(of_before).values(issuer_key=None)) and None
    )
    assert spread(database, scan_id) == {"1": 3, "2-9": 1}  # by name, and self-signed ones by key, as it was
    classification.classify_scan(database, scan_id, snapshot())
    assert spread(database, scan_id) == {"1": 2, "2-9": 1}
