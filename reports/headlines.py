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
    QUESTION_NEED,
    QUESTION_PUBLIC,
    QUESTION_SCALE,
    QUESTION_SOFTWARE,
    QUESTION_WHEN,
    QUESTION_WHICH,
    UNIT_TITLES,
    Unit,
)
from reports.figures import Figure, Part, Report
from reports.text import counted, number, show
from scanner.policy_records import Dane, MtaSts
from scanner.records import UNKNOWN_SUNSET, ClientAuth, EkuClass, Hierarchy, Role

RUNG_REACHED = "reached"
RUNG_CARRIES = "carries clientAuth as a server; not seen using it"
RUNG_ISSUED = "issued by"
RUNG_POLICY = "by dated policies, an estimate"
RUNG_ASKED = "asked of a stranger; what others meet is not seen"
RUNG_PUBLISHED = "published in DNS; whether senders heed it is not seen"
RUNG_GREETING = "told from the greeting"
RUNG_PRESENTED = "seen presenting it as a client; not seen needing it"
RUNG_REQUIRED = "required by a peer"

UNSEEN = "Not seen: outbound pools and partner connectors, which never are an MX."
UNSEEN_SERVERS = "Not seen: what the same hosts present as clients, outbound pools, partner connectors."
UNSEEN_ASKED = "Not seen: what partners are asked on connectors of their own."
UNSEEN_CLIENTS = "Not seen: whoever never came to this listener or log, and what these present to others."


@dataclass(frozen=True, slots=True)
class Headline:
    """One question, the rung that the answer stands on, the answer, and what such a census cannot see of it."""

    question: str
    rung: str
    sentence: str
    unseen: str


def headlines(report: Report) -> tuple[Headline, ...]:
    """One answer a question; a question without a number says that nothing was measured."""
    servers = (
        Headline(QUESTION_COVERAGE, RUNG_REACHED, _coverage(report), UNSEEN),
        Headline(QUESTION_SCALE, RUNG_CARRIES, _scale(report), UNSEEN_SERVERS),
        Headline(QUESTION_PUBLIC, RUNG_ISSUED, _public(report), UNSEEN_SERVERS),
        Headline(QUESTION_WHICH, RUNG_ISSUED, _which(report), UNSEEN_SERVERS),
        Headline(QUESTION_WHEN, RUNG_POLICY, _when(report), UNSEEN_SERVERS),
        Headline(QUESTION_CLIENT, RUNG_ASKED, _client(report), UNSEEN_ASKED),
        Headline(QUESTION_MOVE, RUNG_PUBLISHED, _move(report), UNSEEN_SERVERS),
        Headline(QUESTION_SOFTWARE, RUNG_GREETING, _software(report), UNSEEN),
    )
    clients = (
        Headline(QUESTION_NEED, RUNG_PRESENTED, _presented(report), UNSEEN_CLIENTS),
        Headline(QUESTION_NEED, RUNG_REQUIRED, _need(report), UNSEEN_CLIENTS),
    )
    return (*(servers if report.serves else ()), *(() if report.clients is None else clients))


NOTHING = "Nothing was measured."


def _measured(report: Report, name: str, unit: Unit, role: Role = Role.SERVER) -> Figure | None:
    figure = report.figure(name, unit, role)
    return figure if figure is not None and figure.coverage.measured else None


def _part(part: Part) -> str:
    return counted(part.count, part.share)


def _of(figure: Figure) -> str:
    return f"{number(figure.coverage.measured)} measured {UNIT_TITLES[figure.unit]}"


def _coverage(report: Report) -> str:
    figure = report.figure("eku", Unit.DOMAIN)
    endpoints = report.figure("eku", Unit.ENDPOINT)
    if figure is None or endpoints is None:
        return NOTHING
    brought = report.figure("eku", Unit.CERTIFICATE)
    if not endpoints.coverage.attempted and brought is not None and brought.coverage.measured:
        return f"Nobody was contacted: others saw the {_of(brought)}."
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
    if certificates is None:
        return NOTHING
    dual = EkuClass.SERVER_AND_CLIENT.value
    sentence = f"Of {_of(certificates)}, {_part(certificates.part(eku=dual))} carry both serverAuth and clientAuth"
    if hosts is not None:
        sentence += f"; so do the certificates of {_part(hosts.part(eku=dual))} of {_of(hosts)}"
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
    sentence = (
        f"Of {_of(hosts)}, {_part(hosts.part(dane=Dane.MATCH.value))} match their TLSA records, so that senders "
        f"with DANE need no public CA; {_part(Part(count, count / hosts.coverage.measured))} have one all the same."
    )
    domains = _measured(report, "mta_sts", Unit.DOMAIN)
    if domains is None:
        return sentence
    enforced = [row for row in domains.rows if row.key[0] in _ENFORCED]
    counts = [sum(row.count for row in rows) for rows in (enforced, [r for r in enforced if r.key[2] in _PRIVATE])]
    every, private = (Part(count, count / domains.coverage.measured) for count in counts)
    unasked = domains.part(mta_sts=MtaSts.NOT_FETCHED.value)
    sentence += (
        f" Of {_of(domains)}, {_part(every)} enforce MTA-STS, so that their senders take publicly trusted "
        f"certificates only; {_part(private)} do so with a private or self-signed one"
    )
    return (
        f"{sentence}." if not unasked.count else f"{sentence}; the policies of {_part(unasked)} were not fetched."
    )


_PUBLIC = (Hierarchy.PUBLIC_CHROME, Hierarchy.PUBLIC_NOT_CHROME, Hierarchy.PUBLIC_PURPOSE_UNKNOWN)

_ENFORCED = (MtaSts.ENFORCE, MtaSts.ENFORCE_MISMATCH)
_PRIVATE = (Hierarchy.PRIVATE, Hierarchy.SELF_SIGNED)

_ASKING = (ClientAuth.REQUESTED, ClientAuth.REQUIRED, ClientAuth.REQUESTED_UNKNOWN)


def _presented(report: Report) -> str:
    figure = _measured(report, "eku", Unit.CERTIFICATE, Role.CLIENT)
    times = report.figure("eku", Unit.WEIGHT, Role.CLIENT)
    if figure is None or times is None:
        return NOTHING
    both, server, client = (
        _part(figure.part(eku=kind.value))
        for kind in (EkuClass.SERVER_AND_CLIENT, EkuClass.SERVER_ONLY, EkuClass.CLIENT_ONLY)
    )
    coverage = times.coverage
    return (
        f"Of {number(figure.coverage.measured)} end entity certificates presented by clients, {both} carry both "
        f"serverAuth and clientAuth, {server} serverAuth only and {client} clientAuth only; a certificate was "
        f"presented {number(coverage.measured)} times of {number(coverage.attempted)}."
    )


def _need(report: Report) -> str:
    figure = report.figure("client_need", Unit.CERTIFICATE, Role.CLIENT)
    if figure is None or not figure.coverage.measured:
        return NOTHING
    carry, presented, required = (
        number(figure.part(**{"carries": "yes"} | more).count)
        for more in ({}, {"presented": "yes"}, {"required": "yes"})
    )
    unknown = number(figure.part(carries="yes", presented="yes", required="unknown").count)
    return (
        f"Of {number(figure.coverage.measured)} end entity certificates of servers and clients, {carry} carry "
        f"clientAuth; of those {presented} were seen presented as a client, and {required} of them to a peer that "
        f"required one (not known of {unknown})."
    )


def _software(report: Report) -> str:
    figure = _measured(report, "software", Unit.MX_HOST)
    if figure is None:
        return NOTHING
    known = [row for row in figure.rows if row.key[0] not in (MIXED, "unknown")][:3]
    unknown = figure.part(software="unknown")
    named = ", ".join(f"{show(row.key[0], 40)} {_part(Part(row.count, row.share))}" for row in known)
    return f"Of {_of(figure)}: {named + ', and ' if named else ''}{_part(unknown)} do not tell."
