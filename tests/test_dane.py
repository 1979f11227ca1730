"""DANE as an SMTP sender judges it: one record against one list, each rule by a case that differs in one thing."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.authority import Authority, Leaf
from scanner import dane, der
from scanner.certificates import parse
from scanner.policy_records import Dane, TlsaRecord, TlsaSet

HOST = "mx.example.org"


@pytest.fixture(scope="module")
def authority():
    return Authority()


def presented(authority, **leaf):
    return [parse(der) for der in authority.present(Leaf(**leaf), HOST).certificate_list]


def record(usage, selector, matching, certificate):
    content = certificate.der if selector == 0 else der.split_certificate(certificate.der).spki
    data = {0: content, 1: hashlib.sha256(content).digest(), 2: hashlib.sha512(content).digest()}[matching]
    return TlsaRecord(usage, selector, matching, data)


def judge(authority, certificates, *records, base=HOST, days=0):
    tlsa = TlsaSet(base, "NOERROR", authenticated=True, records=records)
    verdict, matched = dane.judge(tlsa, certificates, authority.now + timedelta(days=days))
    return verdict, matched and matched.parameters


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_dane_ee_names_the_certificate_or_its_key_in_every_form(authority, selector, matching):
    leaf, issuer = presented(authority)
    own, other = record(3, selector, matching, leaf), record(3, selector, matching, issuer)
    assert judge(authority, [leaf, issuer], own) == (Dane.MATCH, f"3 {selector} {matching}")
    assert judge(authority, [leaf, issuer], other) == (Dane.MISMATCH, None)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_dane_ta_names_a_certificate_above_or_its_key_in_every_form(authority, selector, matching):
    leaf, issuer = presented(authority)
    anchor = record(2, selector, matching, issuer)
    assert judge(authority, [leaf, issuer], anchor) == (Dane.MATCH, f"2 {selector} {matching}")
    assert judge(authority, [leaf], anchor)[0] is (Dane.MATCH if (selector, matching) == (0, 0) else Dane.MISMATCH)
    assert judge(authority, [leaf, issuer], record(2, selector, matching, leaf)) == (Dane.MISMATCH, None)


def test_dane_ta_takes_a_path_of_several_in_any_order_with_strangers(authority):
    leaf, *above = presented(authority, issuer="private", listed="untidy")
    root = next(c for c in above if c.subject == c.issuer and "private" in c.subject)
    assert judge(authority, [leaf, *above], record(2, 0, 1, root)) == (Dane.MATCH, "2 0 1")
    stranger = next(c for c in above if "stranger" in c.subject)
    assert judge(authority, [leaf, *above], record(2, 0, 1, stranger)) == (Dane.MISMATCH, None)


def test_names_and_dates_matter_to_dane_ta_only(authority):
    for leaf in ({"named": "other"}, {"expired": True}):
        own, issuer = presented(authority, **leaf)
        assert judge(authority, [own, issuer], record(2, 1, 1, issuer))[0] is Dane.MISMATCH
        assert judge(authority, [own, issuer], record(3, 1, 1, own))[0] is Dane.MATCH
    own, issuer = presented(authority)
    assert judge(authority, [own, issuer], record(2, 1, 1, issuer), days=4000)[0] is Dane.MISMATCH
    assert judge(authority, [own, issuer], record(2, 1, 1, issuer), base="other.example")[0] is Dane.MISMATCH
    wildcard, issuer = presented(authority, named="wildcard")
    assert judge(authority, [wildcard, issuer], record(2, 1, 1, issuer))[0] is Dane.MATCH


def test_a_common_name_counts_only_without_dns_names(authority):
    own, issuer = presented(authority, named="common-name")
    assert judge(authority, [own, issuer], record(2, 1, 1, issuer))[0] is Dane.MATCH
    named = replace(own, dns_names=("other.example",))
    assert judge(authority, [named, issuer], record(2, 1, 1, issuer))[0] is Dane.MISMATCH


@pytest.mark.parametrize(
    "bad",
    [
        (0, 0, 1, 32), (1, 1, 1, 32), (255, 0, 1, 32), (3, 2, 1, 32), (3, 0, 3, 32),
        (3, 0, 1, 31), (3, 0, 2, 32), (3, 1, 0, 0),
    ],
)  # fmt: skip
def test_records_that_no_sender_can_use(authority, bad):
    *parameters, length = bad
    unusable = TlsaRecord(*parameters, bytes(length))
    certificates = presented(authority)
    assert judge(authority, certificates, unusable) == (Dane.UNUSABLE, None)
    beside = record(3, 1, 1, certificates[0])
    assert judge(authority, certificates, unusable, beside) == (Dane.MATCH, "3 1 1")


def test_only_the_strongest_digest_of_a_kind_counts(authority):
    leaf, issuer = presented(authority)
    own = record(3, 1, 1, leaf)
    assert judge(authority, [leaf, issuer], own, record(3, 1, 2, issuer))[0] is Dane.MISMATCH
    assert judge(authority, [leaf, issuer], own, record(3, 0, 2, issuer)) == (Dane.MATCH, "3 1 1")
    assert judge(authority, [leaf, issuer], own, record(2, 1, 2, leaf)) == (Dane.MATCH, "3 1 1")
    assert judge(authority, [leaf, issuer], own, TlsaRecord(3, 1, 2, bytes(9))) == (Dane.MATCH, "3 1 1")


@pytest.mark.parametrize(
    ("tlsa", "verdict"),
    [
        (TlsaSet(HOST, "NOERROR", authenticated=True), Dane.NONE),
        (TlsaSet(HOST, "NXDOMAIN", authenticated=True), Dane.NONE),
        (TlsaSet(HOST, "SERVFAIL"), Dane.ERROR),
        (TlsaSet(HOST, None), Dane.ERROR),
        (TlsaSet(HOST, "NXDOMAIN"), Dane.INSECURE),
        (TlsaSet(HOST, "NOERROR", records=(TlsaRecord(3, 1, 1, bytes(32)),)), Dane.INSECURE),
    ],
)
def test_what_holds_whatever_is_presented(authority, tlsa, verdict):
    assert tlsa.standing is verdict
    assert dane.judge(tlsa, [], authority.now) == (verdict, None)


def test_an_unreadable_certificate_still_has_a_digest(authority):
    garbage = parse(b"\x30\x03\x02\x01\x00")
    assert judge(authority, [garbage], record(3, 0, 1, garbage)) == (Dane.MATCH, "3 0 1")
    assert judge(authority, [garbage], TlsaRecord(3, 1, 1, bytes(32)))[0] is Dane.MISMATCH


octets = st.binary(max_size=70)
records = st.builds(TlsaRecord, st.integers(0, 5), st.integers(0, 3), st.integers(0, 4), octets)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(records, max_size=5), st.lists(octets, max_size=3))
def test_garbage_is_judged_and_never_raises(authority, found, listed):
    tlsa = TlsaSet(HOST, "NOERROR", authenticated=True, records=tuple(found))
    verdict, matched = dane.judge(tlsa, [parse(data) for data in listed], authority.now)
    assert (matched is not None) is (verdict is Dane.MATCH)
    if not found:
        assert verdict is Dane.NONE
    elif not any(map(dane.usable, found)):
        assert verdict is Dane.UNUSABLE
