"""Policy as data: the table itself, cohorts, and the month of the first renewal that can no longer be dual."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hierarchies import CLIENT, SERVER, issue, key, name, root, row, snapshot

from scanner.classify import Classifier
from scanner.policy import EARLIER, RULES_VERSION, cohort, first_forced_renewal, load_policy, since, timeline
from scanner.records import NOT_AFFECTED, UNKNOWN_SUNSET, Program

POLICY = load_policy()
RULES = {rule.id: rule for rule in POLICY.rules}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_rules_that_the_working_group_asks_about_are_there():
    dates = {(rule.program, rule.date) for rule in POLICY.rules if rule.superseded_by is None}
    assert {
        (Program.CHROME, date(2026, 6, 15)),
        (Program.CHROME, date(2027, 3, 15)),
        (Program.MOZILLA, date(2028, 12, 31)),
        (Program.APPLE, date(2027, 7, 1)),
    } <= dates
    assert {(rule.date, rule.max_days) for rule in POLICY.rules if rule.max_days} == {
        (date(2026, 3, 15), 200),
        (date(2027, 3, 15), 100),
        (date(2029, 3, 15), 47),
    }


def test_only_chrome_forbids_the_combination():
    assert {rule.program for rule in POLICY.rules if rule.forbids_combination} == {Program.CHROME}


def test_every_row_has_an_id_of_its_own_and_a_source():
    ids = [row.id for row in (*POLICY.rules, *POLICY.sunsets)]
    assert len(ids) == len(set(ids))
    assert all(row.source for row in (*POLICY.rules, *POLICY.sunsets))
    assert all(rule.superseded_by in {None, *RULES} for rule in POLICY.rules)
    owners = [owner for sunset in POLICY.sunsets for owner in sunset.owners]
    assert len(owners) == len(set(owners)), "an organisation belongs to one row"
    assert RULES_VERSION


@pytest.mark.parametrize(
    ("not_before", "days", "expected"),
    [
        ("2026-01-01", 90, (False, False)),
        ("2027-01-01", 90, (False, True)),
        ("2027-03-15", 90, (True, True)),
        ("2027-03-14T23:59:59", 0, (False, False)),
        ("2026-03-15", 365, (False, True)),
    ],
)
def test_cohorts(not_before, days, expected):
    certificate = issue("x", not_before=at(not_before), days=days).certificate
    (found,) = cohort(certificate, [RULES["chrome-subscriber-2027-03-15"]])
    assert (found.issued_after, found.expires_after) == expected


def test_a_certificate_without_dates_is_in_no_cohort():
    assert cohort(replace(issue("x").certificate, not_before=None), POLICY.rules) == ()


DATES = timeline(POLICY)


def test_the_timeline_has_each_date_that_holds_once():
    assert list(DATES) == sorted({rule.date for rule in POLICY.rules if rule.superseded_by is None})
    assert date(2027, 3, 15) in DATES


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2020-01-01", EARLIER),
        (f"{DATES[0]}", f"{DATES[0]}"),
        ("2027-03-14T23:59:59", "2026-06-15"),
        ("2027-03-15", "2027-03-15"),
        ("9999-12-31T23:59:59", f"{DATES[-1]}"),
    ],
)
def test_since_which_date(when, expected):
    assert since(at(when), DATES) == expected
    assert since(None, DATES) is None


@pytest.mark.parametrize("start", ["2024-05-01", "2026-03-15", "2026-11-24", "2027-03-15", "2030-01-01"])
@pytest.mark.parametrize("days", [0, 47, 200, 398, 3650])
def test_every_cohort_follows_from_the_two_dates(start, days):
    certificate = issue("x", not_before=at(start), days=days).certificate
    issued, expires = since(certificate.not_before, DATES), since(certificate.not_after, DATES)
    for found in cohort(certificate, [rule for rule in POLICY.rules if rule.superseded_by is None]):
        rule = RULES[found.rule]
        assert found.issued_after == (issued != EARLIER and issued >= f"{rule.date}")
        assert found.expires_after == (expires != EARLIER and expires >= f"{rule.date}")


def test_a_classification_has_exposure_and_cohort():
    top = root(name("CA/Nobody"))
    issued = issue("mx", top, private_key=key(3), eku=(SERVER, CLIENT), not_before=at("2026-10-01"), days=90)
    found = Classifier(snapshot(row(top, **CHROME))).classify(issued.certificate)
    assert (found.exposure, found.issued_since, found.expires_since) == ("2027-03", "2026-06-15", "2026-06-15")


def forced(issuer, programs, not_before, days, eku=(SERVER, CLIENT)):
    """The first forced renewal of a leaf whose issuer has this organisation, under a root with these programs."""
    top = root(name(f"CA/{issuer}"))
    issued = issue("mx", top, private_key=key(3), eku=eku, not_before=at(not_before), days=days)
    classification = Classifier(snapshot(row(top, **programs))).classify(issued.certificate)
    return first_forced_renewal(issued.certificate, classification, POLICY)


CHROME, MOZILLA = {"chrome": "server", "mozilla": "server"}, {"mozilla": "server"}


@pytest.mark.parametrize(
    ("issuer", "programs", "not_before", "days", "expected"),
    [
        # The CA's own end has passed: the next renewal is the one.
        ("Let's Encrypt", CHROME, "2026-07-01", 90, "2026-09"),
        # DigiCert ends on 2027-03-01, before Chrome: still renewed as it is in 2026-12, not in 2027-03-21.
        ("DigiCert Inc", CHROME, "2026-09-12", 95, "2027-03"),
        # No end of the CA's own: Chrome's date binds. Renewed 2026-12-30 and 2027-03-30.
        ("Nobody", CHROME, "2026-10-01", 90, "2027-03"),
        ("Nobody", CHROME, "2026-03-01", 398, "2027-04"),
        # After 2026-03-15 a renewal is for 200 days at most: 2026-12-01, then 2027-06-19.
        ("Nobody", CHROME, "2025-11-01", 395, "2027-06"),
        # Chrome does not trust it, and nobody else forbids.
        ("Nobody", MOZILLA, "2026-10-01", 90, UNKNOWN_SUNSET),
        ("SSL Corporation", MOZILLA, "2026-10-01", 90, UNKNOWN_SUNSET),
        ("Certum", MOZILLA, "2026-10-01", 90, UNKNOWN_SUNSET),
        ("Asseco Data Systems S.A.", MOZILLA, "2026-10-01", 90, "2026-12"),
    ],
)
def test_the_first_forced_renewal(issuer, programs, not_before, days, expected):
    assert forced(issuer, programs, not_before, days) == expected


def test_what_is_not_affected():
    assert forced("Let's Encrypt", CHROME, "2026-10-01", 90, eku=(SERVER,)) == NOT_AFFECTED
    own = issue("mx", eku=(SERVER, CLIENT))
    classification = Classifier(snapshot()).classify(own.certificate)
    assert first_forced_renewal(own.certificate, classification, POLICY) == NOT_AFFECTED


def test_the_owner_of_the_root_speaks_where_the_issuer_is_not_known():
    top = root(name("Root/DigiCert Inc"))
    white_label = issue("Reseller/Reseller", top, private_key=key(2), ca=True)
    end = issue("mx", white_label, private_key=key(3), eku=(SERVER, CLIENT), not_before=at("2026-12-01"), days=90)
    classifier = Classifier(snapshot(row(top, owner="DigiCert Inc", **MOZILLA)), [white_label.certificate])
    assert first_forced_renewal(end.certificate, classifier.classify(end.certificate), POLICY) == "2027-03"


def test_a_certificate_of_no_validity_ends_too():
    certificate = issue("mx", eku=(SERVER, CLIENT), not_before=at("2026-12-01")).certificate
    top = root()
    issued = issue("mx", top, private_key=key(3), eku=(SERVER, CLIENT), not_before=at("2026-12-01"))
    classification = Classifier(snapshot(row(top, **CHROME))).classify(issued.certificate)
    odd = replace(certificate, not_after=certificate.not_before - timedelta(days=1))
    assert first_forced_renewal(odd, classification, POLICY) == "2027-03"
