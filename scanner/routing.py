"""How mail for a domain is routed (RFC 5321 section 5.1, RFC 7505), decided from DNS answers.

This module says what to ask and what the answers mean; how they are asked is the caller's `Lookup`. The rules:

| answer to MX | addresses of the domain | routing |
|---|---|---|
| records | not asked | `mx` |
| nothing but the root | not asked | `null-mx` |
| NODATA | some | `implicit-mx` |
| NODATA | none, both answered | `none` |
| NODATA | none, one not answered | `error` |
| NXDOMAIN | not asked | `none` |
| any other rcode, no answer | not asked | `error` |

An MX host that is an alias is followed and noted; one that is written as an address, or that cannot be a host name,
is noted and not looked up. A null MX beside others is dropped and noted on the others. A domain with an implicit
MX that is itself an alias has the same note, though there it is allowed.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

from scanner.records import Answer, AnswerStatus, MailRouting, MxHost, MxNote, Routing

Lookup = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Answer]]]
"""Asks (name, type) questions, all at once, and gives their answers in the same order."""

_ANSWERED = frozenset({AnswerStatus.OK, AnswerStatus.NODATA})
_UNKNOWN = frozenset({AnswerStatus.FAILED, AnswerStatus.NO_ANSWER})
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
"""A host name (RFC 1123 section 2.1), underscores allowed: they are no part of one, and many exist."""

_DOTTED_QUAD = re.compile(r"\[?[0-9]+(?:\.[0-9]+){3}\]?")


@dataclass(frozen=True, slots=True)
class RoutingBounds:
    """How much of an answer is followed: MX hosts of a domain, addresses of an MX host."""

    mx: int = 50
    addresses: int = 20


DEFAULT_BOUNDS = RoutingBounds()


async def route(domain: str, lookup: Lookup, bounds: RoutingBounds = DEFAULT_BOUNDS) -> MailRouting:
    """The mail routing of a domain (lower-case A-labels); its MX hosts sorted by preference, then name.

    `rcode` is that of the MX question. `authenticated` is the AD bit of its answer; of an implicit MX, that of the
    answers with the addresses.
    """
    (answer,) = await lookup([(domain, "MX")])
    if answer.status is AnswerStatus.NODATA:
        return await _implicit(domain, answer, lookup, bounds)
    if answer.status is not AnswerStatus.OK:
        nowhere = Routing.NONE if answer.status is AnswerStatus.NXDOMAIN else Routing.ERROR
        return MailRouting(domain, nowhere, answer.rcode, answer.authenticated)
    exchanges, notes = _exchanges(answer)
    if not exchanges:
        return MailRouting(domain, Routing.NULL_MX, answer.rcode, answer.authenticated)
    if len(exchanges) > bounds.mx:
        exchanges, notes = exchanges[: bounds.mx], (*notes, MxNote.TRUNCATED)
    mx = await _resolve(exchanges, notes, lookup, bounds)
    return MailRouting(domain, Routing.MX, answer.rcode, answer.authenticated, mx)


async def _implicit(domain: str, answer: Answer, lookup: Lookup, bounds: RoutingBounds) -> MailRouting:
    answers = await lookup([(domain, "A"), (domain, "AAAA")])
    host = _mx_host(0, domain, answers, (), bounds)
    if host.addresses:
        return MailRouting(domain, Routing.IMPLICIT_MX, answer.rcode, host.authenticated, (host,))
    unknown = any(a.status in _UNKNOWN for a in answers)
    return MailRouting(domain, Routing.ERROR if unknown else Routing.NONE, answer.rcode, answer.authenticated)


def _exchanges(answer: Answer) -> tuple[list[tuple[int, str]], tuple[MxNote, ...]]:
    """(preference, exchange), each exchange once with its lowest preference, and the notes that all of them get."""
    best: dict[str, int] = {}
    for preference, exchange in cast(Sequence[tuple[int, str]], answer.data):
        name = exchange.lower().removesuffix(".")
        best[name] = min(preference, best.get(name, preference))
    null = best.pop("", None) is not None
    notes = (MxNote.NULL_MX_IGNORED,) if null and best else ()
    return sorted((preference, name) for name, preference in best.items()), notes


async def _resolve(
    exchanges: Sequence[tuple[int, str]], notes: tuple[MxNote, ...], lookup: Lookup, bounds: RoutingBounds
) -> tuple[MxHost, ...]:
    faults = {name: fault for _, name in exchanges if (fault := _fault(name)) is not None}
    questions = [(name, rdtype) for _, name in exchanges if name not in faults for rdtype in ("A", "AAAA")]
    answers = iter(await lookup(questions) if questions else ())
    hosts = []
    for preference, name in exchanges:
        if name in faults:
            hosts.append(MxHost(preference, name, notes=(*notes, faults[name])))
        else:
            hosts.append(_mx_host(preference, name, (next(answers), next(answers)), notes, bounds))
    return tuple(hosts)


def _mx_host(
    preference: int,
    name: str,
    answers: Sequence[Answer],
    notes: tuple[MxNote, ...],
    bounds: RoutingBounds,
) -> MxHost:
    """An MX host from the answers to A and AAAA."""
    a, aaaa = answers
    addresses = [*sorted(set(map(str, a.data))), *sorted(set(map(str, aaaa.data)))]
    if len(addresses) > bounds.addresses:
        addresses, notes = addresses[: bounds.addresses], (*notes, MxNote.TRUNCATED)
    ends = {answer.canonical_name or name for answer in answers if answer.status is AnswerStatus.OK}
    if any(answer.canonical_name not in {"", name} for answer in answers):
        notes = (*notes, MxNote.CNAME)
    answered = [answer for answer in answers if answer.status in _ANSWERED]
    return MxHost(
        preference=preference,
        host=name,
        addresses=tuple(addresses),
        rcode_a=a.rcode,
        rcode_aaaa=aaaa.rcode,
        authenticated=bool(answered) and all(answer.authenticated for answer in answered),
        notes=tuple(dict.fromkeys(notes)),
        expanded=ends.pop() if len(ends) == 1 and name not in ends else "",
    )


def _fault(name: str) -> MxNote | None:
    """Why an exchange is not looked up, None for a host name."""
    if _HOST.fullmatch(name):
        return None
    try:
        ip_address(name.strip("[]").removeprefix("ipv6:"))
    except ValueError:
        return MxNote.ADDRESS_LITERAL if _DOTTED_QUAD.fullmatch(name) else MxNote.BAD_NAME
    return MxNote.ADDRESS_LITERAL
