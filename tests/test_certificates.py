"""Certificates as facts: what is read, and that nothing raises."""

import base64
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hierarchies import (
    ANY,
    CLIENT,
    EMAIL,
    SERVER,
    START,
    certificates,
    intermediate,
    issue,
    leaf,
    root,
    row,
    sct_extension,
    snapshot,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner import der
from scanner.certificates import eku_class, key_of, name_matches, parse
from scanner.classify import Classifier
from scanner.names import name_key, name_text
from scanner.records import EkuClass

VECTORS = Path(cryptography_vectors.__file__).parent / "x509"
CUSTOM = sorted(path for path in VECTORS.rglob("*") if path.suffix in {".pem", ".der", ".crt"})


def ders(path):
    """The certificates in a file, PEM with or without headers, or DER."""
    data = path.read_bytes()
    blocks = data.split(b"-----BEGIN CERTIFICATE-----")[1:]
    return [base64.b64decode(block.split(b"-----END")[0].split(b"\n\n")[-1]) for block in blocks] or [data]


def vector(name):
    return parse(ders(VECTORS / name)[0])


def test_the_facts_of_an_ordinary_certificate():
    issued = leaf(
        intermediate(root()), dns=("MX.example.com", "*.example.org"), eku=(SERVER, CLIENT, EMAIL), serial=0xAB
    )
    found = issued.certificate
    assert found.readable
    assert found.parse_error is None
    assert found.subject == "CN=mx.example.com"
    assert found.issuer == "CN=Intermediate"
    assert found.serial == "ab"
    assert found.not_before == START
    assert found.not_before.tzinfo is UTC
    assert (found.key_type, found.key_bits) == ("ec", 256)
    assert found.signature_algorithm == "ecdsa-with-SHA256"
    assert found.dns_names == ("MX.example.com", "*.example.org")
    assert found.eku_oids == ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.4")
    assert found.eku_class is EkuClass.SERVER_AND_CLIENT
    assert found.email
    assert not found.is_ca
    assert len(found.spki_sha256) == 64
    assert intermediate(root()).certificate.is_ca


@pytest.mark.parametrize(
    ("eku", "expected"),
    [
        (None, "absent"),
        ((ANY, SERVER), "any"),
        ((SERVER, CLIENT), "server+client"),
        ((SERVER, EMAIL), "server-only"),
        ((CLIENT,), "client-only"),
        ((EMAIL,), "neither"),
    ],
)
def test_eku_classes_are_the_first_that_holds(eku, expected):
    assert issue("x", eku=eku).certificate.eku_class == expected


def test_an_empty_extended_key_usage_is_read_as_it_is():
    assert eku_class(()) is EkuClass.NEITHER
    assert eku_class(None) is EkuClass.ABSENT


def test_embedded_scts_give_their_times():
    times = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    assert issue("x", extra=[sct_extension(*times)]).certificate.sct_timestamps == tuple(sorted(times))


def test_one_broken_extension_leaves_the_rest():
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.32"), b"\x30\x03\x02\x01")
    found = issue("x", eku=(SERVER,), dns=("a.example",), extra=[broken]).certificate
    assert found.readable
    assert "2.5.29.32" in found.parse_error
    assert found.eku_class is EkuClass.SERVER_ONLY
    assert found.dns_names == ("a.example",)


def test_a_broken_extended_key_usage_is_unparsable_and_nothing_else_is():
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.37"), b"\x30\x03\x06\x05\x2a")
    found = issue("x", dns=("a.example",), extra=[broken]).certificate
    assert found.readable
    assert found.eku_class is EkuClass.UNPARSABLE
    assert found.eku_oids is None
    assert found.dns_names == ("a.example",)


def test_an_extended_key_usage_that_stands_twice_is_unparsable():
    issued = issue("x", eku=(SERVER,))
    parts = der.split_certificate(issued.certificate.der)
    found = parse(der.with_extensions(parts, (*parts.extensions, parts.extension("2.5.29.37"))))
    assert found.eku_class is EkuClass.UNPARSABLE
    assert "duplicate" in found.parse_error


@pytest.mark.parametrize("data", [b"", b"\0", b"0", b"\x30\x80\0\0", b"\x30\x84\xff\xff\xff\xff", b"hello" * 100])
def test_what_is_no_certificate_is_a_value(data):
    found = parse(data)
    assert not found.readable
    assert found.parse_error
    assert found.subject is None
    assert found.eku_class is EkuClass.UNPARSABLE


@pytest.mark.parametrize("path", CUSTOM, ids=lambda path: path.name)
def test_odd_certificates_of_the_vectors_never_raise(path):
    for data in ders(path):
        found = parse(data)
        assert found.readable or found.parse_error


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("custom/negative_serial.pem", lambda found: found.serial.startswith("-")),
        ("custom/invalid_utf8_common_name.pem", lambda found: "#0c" in found.subject),
        (
            "custom/unsupported_subject_public_key_info.pem",
            lambda found: "." in found.key_type and not found.key_bits,
        ),
        ("custom/ec_no_named_curve.pem", lambda found: found.key_type == "ec"),
        ("custom/two_basic_constraints.pem", lambda found: "duplicate" in found.parse_error),
        ("custom/malformed-san.pem", lambda found: found.dns_names == () and "2.5.29.17" in found.parse_error),
        ("verisign_md2_root.pem", lambda found: found.signature_algorithm == "md2WithRSAEncryption"),
        ("badasn1time.pem", lambda found: not found.readable),
        ("custom/dsa_selfsigned_ca.pem", lambda found: found.key_type == "dsa" and found.key_bits),
        ("ed448/root-ed448.pem", lambda found: (found.key_type, found.key_bits) == ("ed448", 456)),
        ("custom/rsa_pss.pem", lambda found: found.signature_algorithm == "rsassaPss"),
        ("v1_cert.pem", lambda found: found.eku_class is EkuClass.ABSENT and not found.is_ca),
    ],
)
def test_what_is_odd_is_a_value(name, check):
    assert check(vector(name))


def test_a_huge_key_costs_no_more_than_reading_it():
    modulus = der.encode(der.INTEGER, b"\0" + b"\xff" * 65536)
    rsa_key = der.encode(der.SEQUENCE, modulus + der.encode(der.INTEGER, b"\x01\x00\x01"))
    algorithm = der.encode(der.SEQUENCE, bytes.fromhex("06092a864886f70d010101") + b"\x05\x00")
    spki = der.encode(der.SEQUENCE, algorithm + der.encode(der.BIT_STRING, b"\0" + rsa_key))
    assert key_of(spki) == ("rsa", 65536 * 8)


def test_key_types():
    assert (
        issue("x", private_key=ed25519.Ed25519PrivateKey.generate(), digest=None).certificate.key_type == "ed25519"
    )
    rsa_key = rsa.generate_private_key(65537, 2048)
    found = issue("x", private_key=rsa_key).certificate
    assert (found.key_type, found.key_bits, found.signature_algorithm) == ("rsa", 2048, "sha256WithRSAEncryption")


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (["mx.example.com"], "MX.example.com.", True),
        (["MX.Example.COM"], "mx.example.com", True),
        (["*.example.com"], "mx.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "a.mx.example.com", False),
        (["m*.example.com"], "mx.example.com", False),
        (["mx.*.com"], "mx.example.com", False),
        (["*"], "localhost", False),
        (["*."], "localhost", False),
        (["*.*.com"], "mx.example.com", False),
        (["bücher.example"], "xn--bcher-kva.example", True),
        (["xn--bcher-kva.example"], "bücher.example", True),
        (["192.0.2.1"], "192.0.2.1", False),
        (["a..example"], "a..example", False),
        ([], "mx.example.com", False),
        (["other.example", "mx.example.com"], "mx.example.com", True),
        (["mx.example.com\0.evil.example"], "mx.example.com", False),
        (["*.example.com"], "", False),
    ],
)
def test_host_names_match_by_left_most_wildcard_only(names, host, expected):
    assert name_matches(names, host) is expected


def test_names_are_rfc_4514_text_and_safe_to_print():
    def rdn(oid, tag, value):
        inner = der.encode(der.OID, oid) + der.encode(tag, value)
        return der.encode(der.SET, der.encode(der.SEQUENCE, inner))

    cn, email = b"\x55\x04\x03", bytes.fromhex("2a864886f70d010901")
    encoded = der.encode(der.SEQUENCE, rdn(b"\x55\x04\x0a", 0x13, b"A, B+C") + rdn(cn, 0x0C, b" x\x1b[31m "))
    assert name_text(encoded) == r"CN=\ x\1B[31m\ ,O=A\, B\+C"
    assert name_text(der.encode(der.SEQUENCE, rdn(cn, 0x0C, b"\xff"))) == "CN=#0c01ff"
    assert name_text(der.encode(der.SEQUENCE, rdn(email, 0x16, b"a@b"))) == "1.2.840.113549.1.9.1=a@b"
    assert name_text(b"\x30\x00") == ""


def test_names_are_compared_without_case_white_space_and_string_type():
    def common_name(tag, value):
        inner = der.encode(der.OID, b"\x55\x04\x03") + der.encode(tag, value)
        return name_key(der.encode(der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, inner))))

    assert common_name(0x13, b"Example  CA ") == common_name(0x0C, b"example ca")
    assert common_name(0x1E, "Bücher".encode("utf-16-be")) == common_name(0x0C, "BÜCHER".encode())
    assert common_name(0x0C, b"a") != common_name(0x0C, b"b")


SEEDS = [
    leaf(intermediate(root()), extra=[sct_extension(START)], policies=("2.23.140.1.2.1",)).certificate.der,
    root(constraints=x509.NameConstraints([x509.DNSName("example.com")], None)).certificate.der,
    issue("ed", private_key=ed25519.Ed25519PrivateKey.generate(), digest=None).certificate.der,
]


@st.composite
def mutated(draw):
    """A certificate with some of its bytes changed, left out, repeated or cut off."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at : at + draw(st.integers(1, 4))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 8))]
            case _:
                data = data[: max(at, 1)]
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(mutated() | st.binary(max_size=64))
def test_no_bytes_raise(data):
    """Neither when they are read, nor as a subject, nor as an issuer, nor as a list."""
    found = parse(data)
    assert found.readable or found.parse_error
    top = root()
    classifier = Classifier(snapshot(row(top, chrome="server")), [found, *certificates(intermediate(top))])
    assert classifier.classify(found).sha256 == found.sha256
    assert classifier.chain_complete([found, found, top.certificate]) in {True, False}
