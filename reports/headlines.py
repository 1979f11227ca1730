"""The working group's questions, each answered in a sentence built from the numbers of a report.

A sentence names its rung: what a certificate carries is not yet what a client presents, and a request met by a
stranger is not yet a need. Counts come with shares, shares never alone.
"""

from dataclasses import dataclass

from reports.definitions import (
    MIXED,
    QUESTION_CLIENT,
    QUESTION_COVERAGE,
    QUESTION_MOVE,
    QUESTION_PUBLIC,
    QUESTION_SCALE,
    QUESTION_SOFTWARE,
    QUESTION_WHEN,
    QUESTION_WHICH,
    UNIT_TITLES,
    Unit,
)
from reports.figures import Figure, Part, Report
from reports.text import number, percent, show
from scanner.records import UNKNOWN_SUNSET, ClientAuth, Dane, EkuClass, Hierarchy

RUNG_REACHED = "reached"
RUNG_CARRIES = "carries clientAuth as a server; not seen using it"
RUNG_ISSUED = "issued by"
RUNG_POLICY = "by dated policies, an estimate"
RUNG_ASKED = "asked of a stranger; what others meet is not seen"
RUNG_PUBLISHED = "published in DNS; whether senders heed it is not seen"
RUNG_GREETING = "told from the greeting"


@dataclass(frozen=True, slots=True)
class Headline:
    """One question, the rung that the answer stands on, and the answer."""

    question: str
    rung: str
    sentence: str


def headlines(report: Report) -> tuple[Headline, ...]:
    """One answer a question; a question without a number says that nothing was measured."""
    return (
        Headline(QUESTION_COVERAGE, RUNG_REACHED, _coverage(report)),
        Headline(QUESTION_SCALE, RUNG_CARRIES, _scale(report)),
        Headline(QUESTION_PUBLIC, RUNG_ISSUED, _public(report)),
        Headline(QUESTION_WHICH, RUNG_ISSUED, _which(report)),
        Headline(QUESTION_WHEN, RUNG_POLICY, _when(report)),
        Headline(QUESTION_CLIENT, RUNG_ASKED, _client(report)),
        Headline(QUESTION_MOVE, RUNG_PUBLISHED, _move(report)),
        Headline(QUESTION_SOFTWARE, RUNG_GREETING, _software(report)),
    )


NOTHING = "Nothing was measured."


def _measured(report: Report, name: str, unit: Unit) -> Figure | None:
    figure = report.figure(name, unit)
    return figure if figure is not None and figure.coverage.measured else None


def _part(part: Part) -> str:
    return f"{number(part.count)} ({percent(part.share)})"


def _of(figure: Figure) -> str:
    return f"{number(figure.coverage.measured)} measured {UNIT_TITLES[figure.unit]}"


def _coverage(report: Report) -> str:
    figure = report.figure("eku", Unit.DOMAIN)
    endpoints = report.figure("eku", Unit.ENDPOINT)
    if figure is None or endpoints is None:
        return NOTHING
    sentence = (
        f"Certificates were captured for {number(figure.coverage.measured)} of "
        f"{number(figure.coverage.attempted)} domains, from {number(endpoints.coverage.measured)} of "
        f"{number(endpoints.coverage.attempted)} endpoints"
    )
    lost = ", ".join(f"{name} {number(count)}" for name, count in endpoints.coverage.bias.items())
    return f"{sentence}; of the other endpoints: {lost}." if lost else f"{sentence}."


def _scale(report: Report) -> str:
    hosts = _measured(report, "eku", Unit.MX_HOST)
    certificates = _measured(report, "eku", Unit.CERTIFICATE)
    domains = _measured(report, "eku", Unit.DOMAIN)
    if hosts is None or certificates is None:
        return NOTHING
    dual = EkuClass.SERVER_AND_CLIENT.value
    sentence = (
        f"Of {_of(certificates)}, {_part(certificates.part(eku=dual))} carry both serverAuth and clientAuth; so do "
        f"the certificates of {_part(hosts.part(eku=dual))} of {_of(hosts)}"
    )
    if domains is not None:
        sentence += f", which is all that {_part(domains.part(eku=dual))} of {_of(domains)} have"
    return f"{sentence}."


def _public(report: Report) -> str:
    figure = _measured(report, "hierarchy", Unit.CERTIFICATE)
    dual = _measured(report, "eku_by_hierarchy", Unit.CERTIFICATE)
    if figure is None or dual is None or figure.private_share is None:
        return NOTHING
    low, high = figure.private_share.low, figure.private_share.high
    both = EkuClass.SERVER_AND_CLIENT.value
    chrome = dual.part(eku=both, hierarchy=Hierarchy.PUBLIC_CHROME.value)
    return (
        f"Of {_of(figure)}, between {_part(low)} and {_part(high)} are private (self-signed included; the range is "
        f"what cannot be determined); {_part(chrome)} carry both roles under a root that Chrome trusts."
    )


def _which(report: Report) -> str:
    programs = _measured(report, "programs", Unit.CERTIFICATE)
    issuers = _measured(report, "issuers", Unit.CERTIFICATE)
    if programs is None or issuers is None:
        return NOTHING
    classes = {hierarchy.value for hierarchy in Hierarchy}
    owners = [row for row in issuers.rows if row.key[0] not in classes and row.key[0] not in (MIXED, "unknown")]
    trusted = [row for row in programs.rows if row.key[0] not in (MIXED, "none", "unclassified")]
    count = sum(row.count for row in trusted)
    sentence = (
        f"Of {_of(programs)}, {_part(Part(count, count / programs.coverage.measured))} are trusted for servers by "
        "at least one root program"
    )
    if owners:
        named = ", ".join(f"{show(row.key[0], 60)} {_part(Part(row.count, row.share))}" for row in owners[:3])
        sentence += f"; the largest CA owners are {named}"
    return f"{sentence}."


def _when(report: Report) -> str:
    figure = _measured(report, "exposure", Unit.CERTIFICATE)
    if figure is None:
        return NOTHING
    months = [row for row in figure.rows if row.key[0][:1].isdigit()]
    unknown = figure.part(exposure=UNKNOWN_SUNSET)
    dual = sum(row.count for row in months) + unknown.count
    share = Part(dual, dual / figure.coverage.measured)
    sentence = f"Of {_of(figure)}, {_part(share)} are valid, public and carry both roles"
    if months:
        most = max(months, key=lambda row: row.count)
        sentence += (
            f"; the first can no longer be renewed so in {months[0].key[0]}, the last in {months[-1].key[0]}, "
            f"most in {most.key[0]} ({number(most.count)})"
        )
    if unknown.count:
        sentence += f"; for {_part(unknown)} no end is known"
    return f"{sentence}."


def _client(report: Report) -> str:
    figure = _measured(report, "client_auth", Unit.MX_HOST)
    if figure is None:
        return NOTHING
    required = figure.part(client_auth=ClientAuth.REQUIRED.value)
    asked = [figure.part(client_auth=kind.value).count for kind in _ASKING]
    every = Part(sum(asked), sum(asked) / figure.coverage.measured)
    return (
        f"Of {_of(figure)}, {_part(every)} ask a client for a certificate on every measured endpoint and "
        f"{_part(required)} go no further without one."
    )


def _move(report: Report) -> str:
    hosts = _measured(report, "dane", Unit.MX_HOST)
    if hosts is None:
        return NOTHING
    public = [row for row in hosts.rows if row.key[0] == Dane.MATCH and row.key[2] in _PUBLIC]
    count = sum(row.count for row in public)
    return (
        f"Of {_of(hosts)}, {_part(hosts.part(dane=Dane.MATCH.value))} match their TLSA records, so that senders "
        f"with DANE need no public CA; {_part(Part(count, count / hosts.coverage.measured))} have one all the same."
    )


_PUBLIC = (Hierarchy.PUBLIC_CHROME, Hierarchy.PUBLIC_NOT_CHROME, Hierarchy.PUBLIC_PURPOSE_UNKNOWN)

_ASKING = (ClientAuth.REQUESTED, ClientAuth.REQUIRED, ClientAuth.REQUESTED_UNKNOWN)


def _software(report: Report) -> str:
    figure = _measured(report, "software", Unit.MX_HOST)
    if figure is None:
        return NOTHING
    known = [row for row in figure.rows if row.key[0] not in (MIXED, "unknown")][:3]
    unknown = figure.part(software="unknown")
    named = ", ".join(f"{show(row.key[0], 40)} {_part(Part(row.count, row.share))}" for row in known)
    return f"Of {_of(figure)}: {named + ', and ' if named else ''}{_part(unknown)} do not tell."
