"""The hierarchy classes of the contract, in their order, and what goes with them."""

from datetime import date, timedelta

import pytest
from cryptography import x509
from hierarchies import (
    ANY,
    CLIENT,
    EMAIL,
    SERVER,
    START,
    certificates,
    intermediate,
    issue,
    key,
    leaf,
    root,
    row,
    sct_extension,
    snapshot,
)

from scanner.certificates import parse
from scanner.classify import Classifier
from scanner.records import EkuClass, Hierarchy
from scanner.self_signed import load_defaults

ALL = {"mozilla": "server", "chrome": "server", "apple": "unknown", "microsoft": "unknown"}


def classify(issued, *rows, seen=(), intermediates=(), chrome_anchors=()):
    trust = snapshot(*rows, intermediates=intermediates, chrome_anchors=chrome_anchors)
    return Classifier(trust, certificates(*seen)).classify(issued.certificate)


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({"mozilla": "server", "chrome": "server"}, "public-chrome"),
        ({"chrome": "server;client"}, "public-chrome"),
        ({"mozilla": "server", "apple": "unknown"}, "public-not-chrome"),
        ({"apple": "unknown", "mozilla": "email"}, "public-purpose-unknown"),
        ({"mozilla": "email", "microsoft": "client;other"}, "public-other-purpose"),
        ({}, "distrusted"),
    ],
)
def test_public_classes_follow_the_row_of_the_root(programs, expected):
    top = root()
    found = classify(leaf(top), row(top, **programs))
    assert found.hierarchy == expected
    assert found.programs == tuple(sorted(p for p, words in programs.items() if "server" in words))
    assert found.programs_unknown == tuple(sorted(p for p, words in programs.items() if words == "unknown"))


def test_programs_are_the_union_over_all_paths():
    first, second = root("First", 1), root("Second", 4)
    cross = [intermediate(first), intermediate(second)]
    found = classify(
        leaf(cross[0]), row(first, apple="server", mozilla="unknown"), row(second, mozilla="server"), seen=cross
    )
    assert found.programs == ("apple", "mozilla")
    assert found.programs_unknown == ("mozilla",)
    assert found.hierarchy is Hierarchy.PUBLIC_NOT_CHROME


def test_a_root_that_is_presented_is_its_own_path():
    top = root()
    found = classify(top, row(top, **ALL))
    assert found.hierarchy is Hierarchy.PUBLIC_CHROME
    assert found.self_signed


def test_self_signed_before_private_and_public_before_both():
    assert classify(issue("mx")).hierarchy is Hierarchy.SELF_SIGNED
    own = root("Own CA", 5)
    assert classify(own, seen=[own]).hierarchy is Hierarchy.SELF_SIGNED
    assert classify(leaf(own), seen=[own]).hierarchy is Hierarchy.PRIVATE
    assert classify(leaf(intermediate(own)), seen=[own, intermediate(own)]).hierarchy is Hierarchy.PRIVATE


def test_a_public_path_wins_over_a_private_one():
    public, private = root("Public", 1), root("Private", 4)
    cross = [intermediate(public), intermediate(private), private]
    assert classify(leaf(cross[0]), row(public, **ALL), seen=cross).hierarchy is Hierarchy.PUBLIC_CHROME


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "undetermined"),
        ({"policies": ("2.23.140.1.2.1",)}, "unresolved"),
        ({"policies": ("1.2.3",)}, "undetermined"),
        ({"extra": [sct_extension(START)]}, "unresolved"),
    ],
)
def test_a_missing_issuer_is_unresolved_only_if_something_says_public(changes, expected):
    assert classify(leaf(intermediate(root()), **changes)).hierarchy == expected


def test_what_an_ancestor_says_counts_too():
    middle = intermediate(root("Missing", 6), policies=("2.23.140.1.2.2",))
    assert classify(leaf(middle), seen=[middle]).hierarchy is Hierarchy.UNRESOLVED
    plain = intermediate(root("Missing", 6))
    assert classify(leaf(plain), seen=[plain]).hierarchy is Hierarchy.UNDETERMINED


def test_an_issuer_known_by_name_and_key_identifier_says_public():
    """The signature is broken, so there is no path; the issuer that is claimed is a row of the snapshot."""
    top = root()
    issued = leaf(top)
    data = issued.certificate.der
    broken = parse(data[:-1] + bytes([data[-1] ^ 1]))
    classifier = Classifier(snapshot(row(top, **ALL)))
    assert classifier.classify(broken).hierarchy is Hierarchy.UNRESOLVED
    stranger = Classifier(snapshot(row(root("Root", 6), **ALL)))
    assert stranger.classify(broken).hierarchy is Hierarchy.UNDETERMINED, "the same name with another key"


def test_unparsable_is_only_what_cannot_be_read_at_all():
    found = Classifier(snapshot()).classify(parse(b"no certificate"))
    assert (found.hierarchy, found.eku_class) == (Hierarchy.UNPARSABLE, EkuClass.UNPARSABLE)
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.37"), b"\x05\x00")
    found = classify(issue("mx", extra=[broken]))
    assert (found.hierarchy, found.eku_class) == (Hierarchy.SELF_SIGNED, EkuClass.UNPARSABLE)


LIMIT = START + timedelta(days=30)
BEFORE, AFTER = LIMIT - timedelta(seconds=1), LIMIT + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("changes", "trusted", "estimated"),
    [
        ({"extra": [sct_extension(BEFORE, AFTER)]}, True, False),
        ({"extra": [sct_extension(AFTER)], "not_before": START}, False, False),
        ({"not_before": BEFORE}, True, True),
        ({"not_before": AFTER}, False, True),
    ],
)
def test_chrome_counts_while_an_sct_is_old_enough(changes, trusted, estimated):
    top = root()
    found = classify(leaf(top, **changes), row(top, **ALL, sct_not_after=LIMIT))
    assert found.hierarchy == ("public-chrome" if trusted else "public-not-chrome")
    assert ("chrome" in found.programs) is trusted
    assert found.chrome_estimated is estimated
    assert found.chrome_absence == (None if trusted else "constrained")


def test_a_root_that_only_chrome_trusts_is_distrusted_after_its_limit():
    top = root()
    found = classify(leaf(top, not_before=AFTER), row(top, chrome="server", sct_not_after=LIMIT))
    assert (found.hierarchy, found.chrome_absence) == (Hierarchy.DISTRUSTED, "constrained")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "never"),
        ({"removed": date(2026, 1, 1)}, "removed"),
        ({"sct_not_after": LIMIT}, "removed"),
    ],
)
def test_why_chrome_is_missing(changes, expected):
    top = root()
    assert classify(leaf(top), row(top, mozilla="server", **changes)).chrome_absence == expected


def test_chrome_is_not_missed_where_there_is_no_public_root():
    assert classify(issue("mx")).chrome_absence is None
    assert not classify(issue("mx")).chrome_estimated


def test_mozilla_stops_at_its_distrust_after():
    top = root()
    old, new = leaf(top, not_before=BEFORE), leaf(top, not_before=AFTER)
    line = row(top, mozilla="server", apple="server", mozilla_distrust=LIMIT)
    assert classify(old, line).programs == ("apple", "mozilla")
    assert classify(new, line).programs == ("apple",)


def test_chrome_anchors_on_intermediates_directly():
    top = root()
    middle = intermediate(top)
    found = classify(leaf(middle), row(top, mozilla="server"), chrome_anchors=[middle])
    assert found.programs == ("chrome", "mozilla")
    assert found.hierarchy is Hierarchy.PUBLIC_CHROME


@pytest.mark.parametrize(
    ("limits", "eku", "expected"),
    [
        (None, (SERVER, CLIENT), "server+client"),
        ((SERVER,), (SERVER, CLIENT), "server-only"),
        ((SERVER, CLIENT), (SERVER, CLIENT), "server+client"),
        ((CLIENT, EMAIL), (SERVER, CLIENT), "client-only"),
        ((EMAIL,), (SERVER, CLIENT), "neither"),
        ((ANY,), (SERVER, CLIENT), "server+client"),
        ((SERVER,), (ANY,), "server-only"),
        ((SERVER,), None, "server-only"),
        (None, None, "absent"),
        (None, (ANY,), "any"),
    ],
)
def test_intermediates_limit_what_is_effective_and_both_facts_are_kept(limits, eku, expected):
    top = root(eku=(EMAIL,))  # a root's own usages limit nothing
    middle = intermediate(top, eku=limits)
    end = leaf(middle, eku=eku)
    found = classify(end, row(top, **ALL), seen=[middle])
    assert found.effective_eku_class == expected
    assert found.eku_class is end.certificate.eku_class


def test_the_best_path_is_the_highest_class_then_the_least_limiting():
    public, other = root("Public", 1), root("Other", 4)
    wide = intermediate(other, eku=(SERVER, CLIENT))
    narrow = intermediate(public, eku=(SERVER,))
    rows = (row(public, **ALL, owner="P"), row(other, mozilla="server", owner="O"))
    found = classify(leaf(narrow), *rows, seen=[wide, narrow])
    assert (found.effective_eku_class, found.ca_owner) == (EkuClass.SERVER_ONLY, "P")
    wider = intermediate(public)
    found = classify(leaf(narrow), *rows, seen=[wide, narrow, wider])
    assert found.effective_eku_class is EkuClass.SERVER_AND_CLIENT


def test_the_owner_is_only_told_of_public_certificates():
    private = root("Private/Acme", 5)
    assert classify(leaf(private), seen=[private]).ca_owner is None


def test_chain_complete_is_about_the_list_alone():
    top = root()
    middle = intermediate(top)
    end = leaf(middle)
    classifier = Classifier(snapshot(row(top, **ALL)), certificates(middle))
    assert classifier.classify(end.certificate).hierarchy is Hierarchy.PUBLIC_CHROME
    assert classifier.chain_complete(certificates(end, middle))
    assert not classifier.chain_complete(certificates(end))
    assert not classifier.chain_complete(certificates(issue("mx")))
    assert not classifier.chain_complete([])


def test_a_self_signed_list_is_not_complete_even_with_its_own_ca():
    own = root("Own", 5)
    assert not Classifier(snapshot()).chain_complete(certificates(leaf(own), own))


def test_classification_does_not_depend_on_what_was_classified_before():
    top = root()
    middle = intermediate(top)
    classifier = Classifier(snapshot(row(top, **ALL)), certificates(middle))
    first = classifier.classify(leaf(middle).certificate)
    for other in (issue("a"), root("b", 6), leaf(root("c", 7))):
        classifier.classify(other.certificate)
    assert first.hierarchy is Hierarchy.PUBLIC_CHROME


def postfix_tls():
    """As `postfix tls new-server-cert` makes them: both usages, a hundred years."""
    return issue("mx.example.com", eku=(SERVER, CLIENT), dns=("mx.example.com",), days=36525, key_usage=False)


def debian_ssl_cert():
    """As make-ssl-cert makes them: no usages, one name, ten years."""
    return issue("mx.example.com", dns=("mx.example.com",), days=3650, key_usage=False)


def exim_generated():
    """As Exim without tls_certificate makes them for each start."""
    return issue(_name(("2.5.4.6", "UK"), ("2.5.4.10", "Exim Developers"), ("2.5.4.3", "mx.example.com")), ca=None)


def courier_generated():
    """As mkesmtpdcert makes them."""
    return issue(_name(("2.5.4.10", "Courier Mail Server"), ("2.5.4.11", "Automatically-generated ESMTP SSL key")))


def sendmail_debian():
    """As update_tls makes them."""
    return issue(_name(("2.5.4.10", "Sendmail"), ("2.5.4.11", "Sendmail Server"), ("2.5.4.3", "mx.example.com")))


def dovecot_generated():
    """As Debian's package made them."""
    return issue(_name(("2.5.4.10", "Dovecot mail server"), ("2.5.4.11", "mx"), ("2.5.4.3", "mx")))


def plesk():
    """As Plesk makes them."""
    return issue(_name(("2.5.4.10", "Plesk"), ("2.5.4.3", "Plesk"), ("1.2.840.113549.1.9.1", "info@plesk.com")))


def exchange_generated():
    """The one for authentication between Exchange servers."""
    return issue("Microsoft Exchange Server Auth Certificate")


def exchange_host():
    """The one of a new Exchange server."""
    return issue("MAIL01", eku=(SERVER,), dns=("MAIL01", "MAIL01.corp.example"), days=1826)


def redhat_localhost():
    """As mod_ssl makes them when it is installed."""
    return issue(
        _name(("2.5.4.7", "SomeCity"), ("2.5.4.10", "SomeOrganization"), ("2.5.4.11", "SomeOrganizationalUnit"))
    )


def zimbra():
    """Issued by the CA that Zimbra makes for itself."""
    own = root(_name(("2.5.4.10", "CA"), ("2.5.4.11", "Zimbra Collaboration Server"), ("2.5.4.3", "mx")), 5)
    return leaf(own)


def _name(*attributes):
    return x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in attributes])


SOFTWARE = (
    postfix_tls,
    debian_ssl_cert,
    exim_generated,
    courier_generated,
    sendmail_debian,
    dovecot_generated,
    plesk,
    exchange_generated,
    exchange_host,
    redhat_localhost,
    zimbra,
)


@pytest.mark.parametrize("make", SOFTWARE, ids=lambda make: make.__name__)
def test_software_s_own_certificates_are_recognised(make):
    assert classify(make()).subclass == make.__name__.replace("_", "-")


def test_every_row_of_the_software_table_is_tested_and_has_a_source():
    defaults = load_defaults()
    assert {default.id for default in defaults} == {make.__name__.replace("_", "-") for make in SOFTWARE}
    assert all(default.source and default.certainty in {"name", "shape"} for default in defaults)


@pytest.mark.parametrize(
    "changes",
    [
        {"days": 365},
        {"eku": (SERVER,)},
        {"dns": ("other.example",)},
        {"ca": True},
        {"eku": (SERVER, CLIENT, EMAIL)},
    ],
)
def test_what_only_resembles_postfix_is_not(changes):
    made = {"eku": (SERVER, CLIENT), "dns": ("mx.example.com",), "days": 36525, **changes}
    assert classify(issue("mx.example.com", **made)).subclass is None


def test_a_certificate_of_a_ca_is_no_software_default():
    top = root()
    made = {"eku": (SERVER, CLIENT), "dns": ("mx.example.com",), "days": 36525}
    assert classify(issue("mx.example.com", top, private_key=key(3), **made), row(top, **ALL)).subclass is None
