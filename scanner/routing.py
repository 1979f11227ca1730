"""How mail for a domain is routed (RFC 5321 section 5.1, RFC 7505), decided from DNS answers.

This module says what to ask and what the answers mean; how they are asked is the caller's `Lookup`. The rules:

| MX answer | addresses of the domain | routing |
|---|---|---|
| records | | `mx` |
| one record, the root | | `null-mx` |
| NODATA | some | `implicit-mx` |
| NODATA | none | `none` |
| NXDOMAIN | | `none` |
| any other rcode, no answer | | `error` |

An MX host that is an alias is followed and noted; one that is written as an address, or that cannot be a host name,
is noted and not looked up. A null MX beside others is dropped and noted on the others.
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
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
"""A host name, underscores allowed: they are against RFC 952, and exist."""


@dataclass(frozen=True, slots=True)
class RoutingBounds:
    """How much of a hostile answer is followed."""

    mx: int = 50
    addresses: int = 20


DEFAULT_BOUNDS = RoutingBounds()


async def route(domain: str, lookup: Lookup, bounds: RoutingBounds = DEFAULT_BOUNDS) -> MailRouting:
    """The mail routing of a domain; its MX hosts sorted by preference, then name."""
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
    failed = any(a.status in {AnswerStatus.FAILED, AnswerStatus.NO_ANSWER} for a in answers)
    return MailRouting(domain, Routing.ERROR if failed else Routing.NONE, answer.rcode, answer.authenticated)


def _exchanges(answer: Answer) -> tuple[list[tuple[int, str]], tuple[MxNote, ...]]:
    """(preference, exchange) of a set, each exchange once, and the notes that all of them get."""
    best: dict[str, int] = {}
    for preference, exchange in cast(Sequence[tuple[int, str]], answer.data):
        name = exchange.lower()
        best[name] = min(preference, best.get(name, preference))
    null = best.pop("", None) is not None
    notes = (MxNote.NULL_MX_IGNORED,) if null and best else ()
    return sorted((preference, name) for name, preference in best.items()), notes


async def _resolve(
    exchanges: Sequence[tuple[int, str]], notes: tuple[MxNote, ...], lookup: Lookup, bounds: RoutingBounds
) -> tuple[MxHost, ...]:
    bad = {name: note for _, name in exchanges if (note := _unusable(name)) is not None}
    questions = [(name, kind) for _, name in exchanges if name not in bad for kind in ("A", "AAAA")]
    answers = iter(await lookup(questions))
    hosts = []
    for preference, name in exchanges:
        if name in bad:
            hosts.append(MxHost(preference, name, notes=(*notes, bad[name])))
        else:
            hosts.append(_mx_host(preference, name, (next(answers), next(answers)), notes, bounds))
    return tuple(hosts)


def _mx_host(
    preference: int, name: str, answers: Sequence[Answer], notes: tuple[MxNote, ...], bounds: RoutingBounds
) -> MxHost:
    a, aaaa = answers
    addresses = [*sorted(map(str, a.data)), *sorted(map(str, aaaa.data))]
    if len(addresses) > bounds.addresses:
        addresses, notes = addresses[: bounds.addresses], (*notes, MxNote.TRUNCATED)
    if any(answer.canonical_name not in {"", name} for answer in answers):
        notes = (*notes, MxNote.CNAME)
    return MxHost(
        preference=preference,
        host=name,
        addresses=tuple(addresses),
        rcode_a=a.rcode,
        rcode_aaaa=aaaa.rcode,
        authenticated=all(answer.authenticated and answer.status in _ANSWERED for answer in answers),
        notes=tuple(dict.fromkeys(notes)),
    )


def _unusable(name: str) -> MxNote | None:
    try:
        ip_address(name.strip("[]").removeprefix("ipv6:"))
    except ValueError:
        return None if _HOST.fullmatch(name) else MxNote.BAD_NAME
    return MxNote.ADDRESS_LITERAL
