"""What a CertificateRequest says: types, algorithms and the class of its CA names, from the wire to the figure."""

from datetime import UTC, datetime

import pytest
from smtpfake import (
    certificate_message,
    certificate_request,
    message,
    record,
    server_context,
    server_hello,
    serving,
)
from storing import certificate, endpoint, measured, new_scan

from mxcensus import reporting
from mxcensus.classification import classify_scan
from reports.definitions import Unit
from scanner.ca_names import ca_names_class, folded, public_names
from scanner.handshake_records import Request, request_in
from scanner.names import name_text
from scanner.records import CaNames, ClientAuth, Endpoint
from scanner.session import SessionSettings, observe
from scanner.trust import bundled
from storage import reader
from storage.writer import Writer

ASKED = record(22, server_hello() + certificate_message([b"one"]) + certificate_request([b"name"]))


def test_types_and_algorithms_are_read_from_the_wire():
    both = ("rsa_sign", "ecdsa_sign")
    assert request_in(ASKED, "TLSv1.2") == Request(both, ("rsa_pkcs1_sha256", "ecdsa_secp256r1_sha256"))
    assert request_in(ASKED, "TLSv1.3") is None
    older = record(22, message(13, b"\x02\x01\x40\x00\x00"))
    assert request_in(older, "TLSv1.1") == Request(both, None)
    odd = record(22, message(13, b"\x01\xee\x00\x02\x12\x34\x00\x00"))
    assert request_in(odd, "TLSv1.2") == Request(("0xee",), ("0x1234",))


@pytest.mark.parametrize(
    "body", [b"", b"\x05\x01", b"\x01\x01", b"\x01\x01\x00\x03\x04\x01\x04", b"\x01\x01\x00\x09\x04\x01"]
)
def test_a_broken_request_is_none(body):
    assert request_in(record(22, message(13, body)), "TLSv1.2") in (None, Request(("rsa_sign",), ()))


def test_a_request_that_is_cut_is_none():
    assert all(request_in(ASKED[:cut], "TLSv1.2") is None for cut in range(len(ASKED)))


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.2", "TLSv1.3"])
async def test_a_session_keeps_them_where_they_are_not_encrypted(version):
    def script(peer):
        peer.until_starttls()
        peer.tls(server_context(version, ask=True))
        peer.rest()

    with serving(script) as (port, _):
        settings = SessionSettings("scanner.example", 8.0)
        found = await observe(Endpoint("mx.test", "127.0.0.1", port), 1, settings, lambda: datetime.now(UTC))
    assert found.client_auth is ClientAuth.REQUESTED
    assert (found.client_certificate_types is None) == (version == "TLSv1.3")
    assert version == "TLSv1.3" or "rsa_sign" in found.client_certificate_types
    assert (found.client_signature_algorithms is None) == (version != "TLSv1.2")
    assert version != "TLSv1.2" or "ecdsa_secp256r1_sha256" in found.client_signature_algorithms


PUBLIC = folded(["CN=Public A", "CN=Public B"])


@pytest.mark.parametrize(
    ("names", "own", "expected"),
    [
        ([], [], "empty"),
        (["CN=public a"], [], "public"),
        (["CN=Public A", "CN=Public B"], ["CN=Public A"], "public"),
        (["CN=Public A", "CN=Mine"], ["CN=Mine"], "public-and-other"),
        (["CN=Mine"], ["CN=mine", "CN=leaf"], "own"),
        (["CN=Mine", "CN=Theirs"], ["CN=Mine"], "private"),
        (["CN=Theirs"], [], "private"),
    ],
)
def test_the_class_of_ca_names(names, own, expected):
    assert ca_names_class(names, own, PUBLIC) is CaNames(expected)


def test_every_trusted_root_of_the_bundled_snapshot_is_public():
    snapshot = bundled()
    names = public_names(snapshot)
    trusted = [root.certificate for root in snapshot.roots.values() if root.trusted]
    assert all(root.subject.casefold() in names for root in trusted)
    assert len(names) > 100


def name(text):
    """DER of a Name with one common name."""
    value = b"\x0c" + bytes([len(text)]) + text.encode()
    attribute = b"\x06\x03\x55\x04\x03" + value
    inner = b"\x30" + bytes([len(attribute)]) + attribute
    rdn = b"\x31" + bytes([len(inner)]) + inner
    return b"\x30" + bytes([len(rdn)]) + rdn


async def test_from_the_session_to_the_figure(database):
    hosts = {
        "silent": (endpoint(1), ClientAuth.NOT_REQUESTED, None),
        "empty": (endpoint(2), ClientAuth.REQUESTED, ()),
        "own": (endpoint(3), ClientAuth.REQUESTED, (name("Example CA"),)),
        "private": (endpoint(4), ClientAuth.REQUIRED, (name("Somebody"),)),
        "unknown": (endpoint(5), ClientAuth.REQUESTED_UNKNOWN, (name("Example CA"), name("Somebody"))),
    }
    scan = await new_scan(database)
    writer = Writer(
        database, scan, seed=7, operator_of=lambda host: host, software_of=lambda _: None, ca_name_text=name_text
    )
    async with writer:
        await writer.write(certificate(b"leaf", issuer="CN=Example CA"))
        for one, state, asked in hosts.values():
            facts = {"client_certificate_types": ("rsa_sign",), "client_signature_algorithms": ("ed25519",)}
            await writer.write(
                measured(one, (b"leaf",), client_auth=state, client_ca_names=asked, **(facts if asked else {}))
            )
    classify_scan(database, scan, bundled())
    figure = reporting.build(database, scan).figure("client_ca_names", Unit.ENDPOINT)
    assert {row.key[0]: row.count for row in figure.rows} == {
        "not-requested": 1,
        "empty": 1,
        "own": 1,
        "private": 2,
    }
    rows = {row["mx_host"]: row for row in reader.endpoints(database, scan, lambda *_: True)}
    kept = rows[hosts["own"][0].mx_host]
    assert (kept["client_certificate_types"], kept["client_signature_algorithms"]) == (["rsa_sign"], ["ed25519"])
    assert rows[hosts["silent"][0].mx_host]["client_certificate_types"] is None
