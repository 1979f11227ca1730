"""Policy dates as data: which rules a certificate falls under, and when it can no longer be renewed as it is.

Root programs' rules and CAs' announcements are rows of `data/policy.toml`, with ids, dates and sources. Nothing
here reads a clock: a cohort compares a certificate's own dates with a rule's.
"""

import tomllib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from importlib import resources
from typing import Any

from scanner import der
from scanner.names import attribute
from scanner.records import (
    NOT_AFFECTED,
    UNKNOWN_SUNSET,
    Certificate,
    Classification,
    EkuClass,
    Hierarchy,
    PolicyRule,
    Program,
)

RULES_VERSION = "2026-11-24.2"
"""Names the rules by which certificates are classified: EKU and hierarchy classes, software and policy tables."""

EARLIER = "earlier"
"""In place of a date of the table: before all of them."""

_ORGANISATION = "2.5.4.10"
_PUBLIC = {Hierarchy.PUBLIC_CHROME, Hierarchy.PUBLIC_NOT_CHROME, Hierarchy.PUBLIC_PURPOSE_UNKNOWN}
_MOST_RENEWALS = 2000
"""A certificate of one day renews some hundreds of times before the last date of the table."""


@dataclass(frozen=True, slots=True)
class Sunset:
    """When a CA stops to issue clientAuth: `end` for good, `default` unless asked for; None where not known."""

    id: str
    owners: tuple[str, ...]
    source: str
    end: date | None = None
    default: date | None = None
    secondary: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The table, as of its own day."""

    as_of: date
    rules: tuple[PolicyRule, ...]
    sunsets: tuple[Sunset, ...]

    def sunset_of(self, organisation: str | None) -> Sunset | None:
        """The announcement of the CA that writes its name so."""
        return next((sunset for sunset in self.sunsets if organisation in sunset.owners), None)


@dataclass(frozen=True, slots=True)
class Cohort:
    """A certificate beside one rule: issued on or after its date or before, expiring on or after it or before."""

    rule: str
    issued_after: bool
    expires_after: bool


def load_policy() -> Policy:
    """The table that comes with the program."""
    text = (resources.files("scanner") / "data" / "policy.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    return Policy(
        as_of=values["as_of"],
        rules=tuple(PolicyRule(**{**row, "program": _program(row)}) for row in values["rule"]),
        sunsets=tuple(Sunset(**{**row, "owners": tuple(row["owners"])}) for row in values["sunset"]),
    )


def _program(row: dict[str, Any]) -> Program | None:
    return Program(row["program"]) if "program" in row else None


def cohort(certificate: Certificate, rules: Sequence[PolicyRule]) -> tuple[Cohort, ...]:
    """Where a certificate stands beside each rule; empty when its dates cannot be read."""
    if certificate.not_before is None or certificate.not_after is None:
        return ()
    return tuple(
        Cohort(rule.id, certificate.not_before >= start, certificate.not_after >= start)
        for rule in rules
        for start in (_midnight(rule.date),)
    )


def timeline(policy: Policy) -> tuple[date, ...]:
    """The dates of the rules that hold, each once, the earliest first."""
    return tuple(sorted({rule.date for rule in policy.rules if rule.superseded_by is None}))


def since(when: datetime | None, dates: Sequence[date]) -> str | None:
    """The latest of `dates` (sorted) at or before a time, as YYYY-MM-DD; `earlier` for none, None for no time."""
    if when is None:
        return None
    place = bisect_right(dates, when.astimezone(UTC).date())
    return dates[place - 1].isoformat() if place else EARLIER


def first_forced_renewal(certificate: Certificate, classification: Classification, policy: Policy) -> str:
    """The month (YYYY-MM) of the first renewal that can no longer be dual, `unknown-sunset` or `not-affected`.

    Affected are public certificates of class server+client. They can be renewed as they are until the earlier of
    the CA's own end and, where Chrome trusts the root, Chrome's rule. A certificate is taken to be renewed on the
    day it expires, for as long as it was valid before, or what the Baseline Requirements then allow. Where neither
    date is known the sunset is unknown; a CA without a known end is bound by Chrome's date alone.
    """
    if classification.hierarchy not in _PUBLIC or certificate.eku_class is not EkuClass.SERVER_AND_CLIENT:
        return NOT_AFFECTED
    if certificate.not_before is None or certificate.not_after is None:
        return NOT_AFFECTED
    sunset = policy.sunset_of(issuer_organisation(certificate)) or policy.sunset_of(classification.ca_owner)
    ends = [sunset.end] if sunset is not None and sunset.end is not None else []
    ends += (rule.date for rule in policy.rules if _binds(rule, classification))
    if not ends:
        return UNKNOWN_SUNSET
    end = _midnight(min(ends))
    renewal, validity = certificate.not_after, certificate.not_after - certificate.not_before
    for _ in range(_MOST_RENEWALS):
        if renewal >= end or validity <= timedelta(0):
            break
        renewal += min(validity, _longest(policy, renewal))
    return f"{max(renewal, end) if validity <= timedelta(0) else renewal:%Y-%m}"


def issuer_organisation(certificate: Certificate) -> str | None:
    """The organisation that the issuer's name gives, or None."""
    try:
        return attribute(der.split_certificate(certificate.der).issuer, _ORGANISATION)
    except der.DerError:
        return None


def _binds(rule: PolicyRule, classification: Classification) -> bool:
    return (
        rule.forbids_combination
        and rule.applies_to == "subscriber"
        and rule.superseded_by is None
        and rule.program in classification.programs
    )


def _longest(policy: Policy, when: datetime) -> timedelta:
    """The longest validity that the rules allow a certificate issued at this time."""
    limits = [rule.max_days for rule in policy.rules if rule.max_days is not None and _midnight(rule.date) <= when]
    return timedelta(days=min(limits)) if limits else timedelta.max


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
