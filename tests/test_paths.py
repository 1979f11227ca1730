"""Path building on hard input: what has to be found, what must not be, and what it may cost."""

import time
from dataclasses import replace
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from hierarchies import CLIENT, SERVER, certificates, intermediate, issue, key, leaf, name, root
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner import der
from scanner.certificates import parse
from scanner.paths import MOST_SIGNATURE_CHECKS, Pool
from scanner.trust import bundled


def anchors(pool, issued):
    """The anchors that a certificate reaches, as sha256; None for a private one."""
    return {route.anchor for route in pool.find(issued.certificate).routes}


def pool_of(roots, others=(), seen=()):
    pool = Pool(certificates(*roots), certificates(*others))
    for issued in seen:
        pool.add(issued.certificate)
    return pool


mail = x509.RFC822Name


def limits(*allowed, excluded=()):
    return x509.NameConstraints([x509.DNSName(base) for base in allowed] or None, [*excluded] or None)


def test_a_plain_path():
    top = root()
    middle = intermediate(top)
    assert anchors(pool_of([top], seen=[middle]), leaf(middle)) == {top.sha256}


def test_a_missing_intermediate_ends_the_search():
    assert anchors(pool_of([root()]), leaf(intermediate(root()))) == set()


def test_every_cross_signed_path_is_found():
    """One key, certified by two roots, one of them by way of another intermediate."""
    first, second = root("First", 1), root("Second", 4)
    bridge = intermediate(second, "Bridge", 5)
    pool = pool_of([first, second], seen=[intermediate(first, "I", 2), bridge, intermediate(bridge, "I", 2)])
    assert anchors(pool, leaf(intermediate(first, "I", 2))) == {first.sha256, second.sha256}


def test_one_name_with_different_keys_is_told_apart_by_signature():
    """Two authorities of one name; the key identifiers are missing, so only the signature tells."""
    good, bad = root("Root", 1), root("Root", 4)
    other = {"identifiers": False}
    first, second = intermediate(good, "I", 2, **other), intermediate(bad, "I", 5, **other)
    pool = pool_of([good, bad], seen=[first, second])
    assert anchors(pool, leaf(first, **other)) == {good.sha256}
    assert anchors(pool, leaf(second, **other)) == {bad.sha256}


def test_one_key_with_different_names_is_told_apart_by_name():
    first, second = root("First", 1), root("Second", 1)
    assert anchors(pool_of([first, second]), leaf(second)) == {second.sha256}


def test_a_key_identifier_that_lies_does_not_matter():
    """Identifiers are hints: here the leaf's points at a key that did not sign."""
    top, other = root("Root", 1), root("Root", 4)
    liar = x509.AuthorityKeyIdentifier.from_issuer_public_key(key(4).public_key())
    assert anchors(pool_of([top, other]), leaf(top, identifiers=False, extra=[liar])) == {top.sha256}


def test_a_signature_that_is_broken_is_no_path():
    top = root()
    issued = leaf(top)
    data = issued.certificate.der[:-1] + bytes([issued.certificate.der[-1] ^ 1])
    assert pool_of([top]).find(parse(data)).routes == ()


def test_loops_end():
    """A and B certify one another; only B also reaches a root."""
    top = root()
    a, b = intermediate(top, "A", 2), intermediate(top, "B", 4)
    pool = pool_of([top], seen=[intermediate(b, "A", 2), intermediate(a, "B", 4), b])
    assert anchors(pool, leaf(a)) == {top.sha256}
    assert anchors(pool_of([top], seen=[intermediate(b, "A", 2), intermediate(a, "B", 4)]), leaf(a)) == set()


@pytest.mark.parametrize(
    ("changes", "reached"),
    [
        ({}, True),
        ({"ca": False}, False),
        ({"ca": None}, False),
        ({"key_cert_sign": False}, False),
        ({"key_usage": False}, True),
        ({"path_length": 0}, True),
    ],
)
def test_an_issuer_has_to_be_a_ca_that_may_sign(changes, reached):
    top = root()
    middle = issue("I", top, private_key=key(2), **{"ca": True, **changes})
    assert anchors(pool_of([top], seen=[middle]), leaf(middle)) == ({top.sha256} if reached else set())


def test_path_length_counts_intermediates_that_are_not_self_issued():
    top = root(path_length=1)
    first = intermediate(top, "A", 2)
    renewed = intermediate(first, "A", 4)  # self-issued: a new key for the same name
    second = intermediate(renewed, "B", 5)
    pool = pool_of([top], seen=[first, renewed, second])
    assert anchors(pool, leaf(renewed)) == {top.sha256}
    assert anchors(pool, leaf(second)) == set()
    assert anchors(pool, second) == {top.sha256}, "the subject itself is not counted"


def test_a_longer_path_that_allows_more_is_kept_beside_a_short_one_that_forbids():
    """The direct certificate has pathLen 0; the way round is longer and has none."""
    top = root()
    narrow, bridge = intermediate(top, "A", 2, path_length=0), intermediate(top, "Bridge", 4)
    wide, below = intermediate(bridge, "A", 2), intermediate(narrow, "B", 5)
    assert anchors(pool_of([top], seen=[narrow, below]), leaf(below)) == set()
    assert anchors(pool_of([top], seen=[narrow, below, bridge, wide]), leaf(below)) == {top.sha256}


@pytest.mark.parametrize(
    ("constraints", "changes", "reached"),
    [
        (limits("example.com"), {"dns": ("mx.example.com",)}, True),
        (limits("example.com"), {"dns": ("mx.example.com", "other.org")}, False),
        (limits("example.com"), {"dns": ("notexample.com",)}, False),
        (limits("EXAMPLE.com"), {"dns": ("MX.example.COM",)}, True),
        (limits(".example.com"), {"dns": ("example.com",)}, False),
        (limits("example.com"), {"dns": ()}, True),
        (limits(""), {"dns": ("anything.org",)}, True),
        (limits(excluded=[x509.DNSName("example.com")]), {"dns": ("mx.example.com",)}, False),
        (limits(excluded=[x509.DNSName("example.com")]), {"dns": ("mx.example.org",)}, True),
        (limits(excluded=[x509.IPAddress(ip_network("192.0.2.0/24"))]), {"dns": ("mx.example.org",)}, True),
        (
            limits(excluded=[x509.IPAddress(ip_network("192.0.2.0/24"))]),
            {"alternative_names": [x509.IPAddress(ip_network("192.0.2.7/32").network_address)]},
            False,
        ),
        (limits(excluded=[mail("example.com")]), {"alternative_names": [mail("a@EXAMPLE.com")]}, False),
        (limits(excluded=[mail(".example.com")]), {"alternative_names": [mail("a@example.com")]}, True),
        (
            limits(excluded=[x509.UniformResourceIdentifier("example.com")]),
            {"alternative_names": [x509.UniformResourceIdentifier("https://u@example.com:443/x")]},
            False,
        ),
        (limits(excluded=[x509.DirectoryName(name("mx.example.com"))]), {}, False),
        (limits(excluded=[x509.DirectoryName(name("MX.example.com "))]), {}, False),
        (limits(excluded=[x509.DirectoryName(name("other"))]), {}, True),
        (
            limits(excluded=[x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]),
            {"alternative_names": [x509.RegisteredID(x509.ObjectIdentifier("1.2.4"))]},
            False,
        ),
    ],
)
def test_name_constraints(constraints, changes, reached):
    """A form that is constrained and not understood is refused, as RFC 5280 section 4.2.1.10 wants."""
    top = root(constraints=constraints)
    assert anchors(pool_of([top]), leaf(top, **changes)) == ({top.sha256} if reached else set())


def test_name_constraints_bind_all_below_except_self_issued():
    top = root(constraints=limits(excluded=[x509.DirectoryName(name("A"))]))
    forbidden = intermediate(top, "A", 2)
    assert anchors(pool_of([top], seen=[forbidden]), leaf(forbidden)) == set()
    own = root("A", constraints=limits(excluded=[x509.DirectoryName(name("A"))]))
    renewed = intermediate(own, "A", 2)
    assert anchors(pool_of([own], seen=[renewed]), leaf(renewed)) == {own.sha256}


def test_constraints_that_cannot_be_read_make_a_ca_unfit():
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.30"), b"\x30\x03\x02\x01\x00")
    top = root(extra=[broken])
    assert anchors(pool_of([top]), leaf(top)) == set()


def test_a_version_1_certificate_is_an_anchor_and_nothing_else():
    """A version 1 certificate has no CA:TRUE; in the middle of a path it must not stand."""
    top = root()
    anchor = _version_1(root("Old", 4))
    middle = _version_1(intermediate(top, "I", 2))
    pool = Pool([top.certificate, anchor.certificate], [middle.certificate])
    assert {route.anchor for route in pool.find(leaf(root("Old", 4)).certificate).routes} == {anchor.sha256}
    assert pool.find(leaf(middle).certificate).routes == ()


def _version_1(issued):
    """The same certificate without version and extensions; an issuer of its own key signs it anew."""
    parts = der.split_certificate(issued.certificate.der)
    fields = der.children(der.only(parts.tbs, der.SEQUENCE))
    tbs = der.encode(der.SEQUENCE, b"".join(item.whole for item in fields if item.tag not in (0xA0, 0xA3)))
    signer = key(1) if parts.issuer != parts.subject else issued.private_key
    signature = der.encode(der.BIT_STRING, b"\0" + signer.sign(tbs, ec.ECDSA(hashes.SHA256())))
    certificate = parse(der.encode(der.SEQUENCE, tbs + parts.signature_algorithm + signature))
    return replace(issued, certificate=certificate)


RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("private_key", "how"),
    [
        (RSA, {}),
        (RSA, {"digest": hashes.SHA512}),
        (RSA, {"padding": padding.PSS(padding.MGF1(hashes.SHA256()), 32)}),
        (RSA, {"padding": padding.PSS(padding.MGF1(hashes.SHA384()), 48), "digest": hashes.SHA384}),
        (ed25519.Ed25519PrivateKey.generate(), {"digest": None}),
        (ed448.Ed448PrivateKey.generate(), {"digest": None}),
        (dsa.generate_private_key(2048), {}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else str(sorted(value)),
)
def test_signature_algorithms(private_key, how):
    digest = {} if how.get("digest", 1) else {"digest": None}
    top = issue("Root", private_key=private_key, ca=True, **digest)
    assert anchors(pool_of([top]), leaf(top, **how)) == {top.sha256}


def test_sha1_still_verifies():
    """Old roots are facts too; the library no longer makes such signatures, so a bundled one has to do."""
    old = [
        r.certificate
        for r in bundled().roots.values()
        if r.certificate.signature_algorithm == "sha1WithRSAEncryption"
    ]
    assert old
    assert all(Pool().find(certificate).self_signed for certificate in old)


def test_an_unknown_algorithm_cannot_be_verified_and_that_is_a_value():
    parts = der.split_certificate(root().certificate.der)
    unknown = der.encode(der.SEQUENCE, der.encode(der.OID, b"\x2a\x03\x04"))
    tbs = der.only(parts.tbs, der.SEQUENCE).content.replace(parts.signature_algorithm, unknown)
    signature = der.encode(der.BIT_STRING, b"\0" + parts.signature)
    odd = parse(der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, tbs) + unknown + signature))
    assert odd.readable
    assert odd.signature_algorithm == "1.2.3.4"
    pool = Pool()
    assert pool.add(odd)
    assert pool.find(odd).routes == ()
    assert not pool.find(odd).self_signed


def test_self_signed_is_told_by_its_own_key():
    assert Pool().find(issue("x").certificate).self_signed
    assert not Pool().find(leaf(root()).certificate).self_signed
    odd = issue("x", issuer_name=name("somebody else"))
    assert Pool().find(odd.certificate).self_signed


def test_usage_limits_of_intermediates_are_kept_per_route():
    top = root()
    narrow, wide = intermediate(top, "I", 2, eku=(SERVER,)), intermediate(top, "I", 2, eku=(SERVER, CLIENT))
    pool = pool_of([top], seen=[narrow])
    assert [route.usage for route in pool.find(leaf(narrow).certificate).routes] == [{"1.3.6.1.5.5.7.3.1"}]
    pool.add(wide.certificate)
    assert [route.usage for route in pool.find(leaf(narrow).certificate).routes] == [
        {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
    ]


def test_a_list_reaches_an_anchor_by_itself_in_any_order():
    top, stranger = root(), root("Stranger", 6)
    first = intermediate(top, "A", 2)
    second = intermediate(first, "B", 4)
    end = leaf(second)
    pool = pool_of([top], seen=[first, second, stranger])
    rows = {top.sha256}
    assert pool.reaches(certificates(end, second, first), rows)
    assert pool.reaches(certificates(end, stranger, first, first, second, end), rows)
    assert not pool.reaches(certificates(end, second), rows), "what others presented does not complete a list"
    assert not pool.reaches(certificates(end), rows)
    assert not pool.reaches([], rows)
    assert pool.reaches(certificates(top), rows)


def test_hundreds_of_certificates_of_one_name_cost_milliseconds():
    """A hostile server: 300 keys of one name and one key identifier, none of which signed."""
    top = root()
    ski = x509.SubjectKeyIdentifier.from_public_key(key(2).public_key())
    crowd = [issue("I", private_key=key(100 + n), ca=True, identifiers=False, extra=[ski]) for n in range(300)]
    pool = pool_of([top], [intermediate(top, "I", 2)], crowd)
    end = leaf(intermediate(top, "I", 2))
    began = time.perf_counter()
    assert anchors(pool, end) == {top.sha256}, "the snapshot's own are tried first"
    assert time.perf_counter() - began < 0.5
    assert len(pool._verified) <= MOST_SIGNATURE_CHECKS + 2


def test_hundreds_of_certificates_of_one_key_cost_milliseconds():
    """One name and one key, certified 300 times by itself and by its twin, with loops everywhere."""
    top = root()
    a, b = intermediate(top, "A", 2), intermediate(top, "B", 4)
    crowd = [intermediate(b, "A", 2, path_length=n) for n in range(150)]
    crowd += [intermediate(a, "B", 4, path_length=n) for n in range(150)]
    pool = pool_of([top], seen=[a, b, *crowd])
    began = time.perf_counter()
    assert anchors(pool, leaf(a)) == {top.sha256}
    assert time.perf_counter() - began < 1.0


def test_a_long_chain_needs_no_recursion():
    issued = [root("0", 10)]
    for n in range(1, 1200):
        issued.append(intermediate(issued[-1], str(n), 10 + n % 7))
    pool = pool_of(issued[:1], seen=issued[1:])
    assert anchors(pool, leaf(issued[-1])) == {issued[0].sha256}


TOPS = [root("First", 1), root("Second", 4, path_length=0)]
MESH = [
    *TOPS,
    intermediate(TOPS[0], "A", 2, path_length=1),
    intermediate(TOPS[1], "A", 2),
    intermediate(intermediate(TOPS[0], "A", 2), "B", 5),
    intermediate(intermediate(TOPS[1], "B", 5), "A", 2, eku=(SERVER,)),
    root("A", 2),
    root("A", 7),
]


@settings(max_examples=25, deadline=None)
@given(st.permutations(MESH))
def test_the_order_of_input_does_not_matter(order):
    pool = Pool(certificates(*TOPS))
    for issued in order:
        pool.add(issued.certificate)
    found = [sorted(map(repr, pool.find(leaf(issuer).certificate).routes)) for issuer in MESH]
    straight = pool_of(TOPS, seen=MESH)
    assert found == [sorted(map(repr, straight.find(leaf(issuer).certificate).routes)) for issuer in MESH]
