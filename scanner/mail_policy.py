"""What the owners of a domain and of its mail hosts say about TLS in DNS: what to ask, and what the answers are.

The _mta-sts TXT record (RFC 8461) is asked for wherever mail is routed to a host. TLSA records of each MX host (RFC
7672) are asked for only where they can count: the MX answer and the address answers are authenticated, and there
is an address. How the questions are asked is the caller's `Lookup`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import cast

from scanner.mta_sts import read_record, record_name
from scanner.policy_records import Dane, TlsaRecord, TlsaSet
from scanner.records import Answer, MailRouting, MxHost, MxNote

Lookup = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Answer]]]
"""Asks (name, type) questions, all at once, and gives their answers in the same order."""

MOST_TLSA = 50
"""Records kept of one TLSA RRset; real ones have one to four."""


async def ask(routing: MailRouting, lookup: Lookup, port: int) -> MailRouting:
    """The same routing with the domain's MTA-STS record and the TLSA records of its MX hosts on `port`."""
    if not routing.mx:
        return routing
    text = (record_name(routing.domain), "TXT")
    if not _secure(routing):
        return replace(routing, mta_sts=read_record((await lookup([text]))[0]))
    bases = {host.host: _bases(host) for host in routing.mx}
    questions = [text, *((tlsa_name(base, port), "TLSA") for names in bases.values() for base in names)]
    answers = dict(zip(questions, await lookup(questions), strict=True))
    return replace(
        routing,
        mta_sts=read_record(answers[text]),
        mx=tuple(
            _with_tlsa(host, [(base, answers[tlsa_name(base, port), "TLSA"]) for base in bases[host.host]])
            for host in routing.mx
        ),
    )


def tlsa_name(base: str, port: int) -> str:
    """Where the TLSA records of a host are (RFC 6698 section 3)."""
    return f"_{port}._tcp.{base}"


def _secure(routing: MailRouting) -> bool:
    return routing.authenticated and any(host.authenticated and host.addresses for host in routing.mx)


def _bases(host: MxHost) -> tuple[str, ...]:
    """The names to ask, the preferred one first: what an alias leads to, then the name itself (section 2.2.3)."""
    if not (host.authenticated and host.addresses):
        return ()
    return (host.expanded, host.host) if host.expanded else (host.host,)


def _with_tlsa(host: MxHost, answers: Sequence[tuple[str, Answer]]) -> MxHost:
    """The host with the first RRset that counts; one that could not be looked up counts too."""
    sets = [_tlsa_set(base, answer) for base, answer in answers]
    if not sets:
        return host
    chosen = next((found for found in sets if found.standing in (None, Dane.ERROR)), sets[-1])
    notes = host.notes
    if len(chosen.records) > MOST_TLSA:
        chosen = replace(chosen, records=chosen.records[:MOST_TLSA])
        notes = tuple(dict.fromkeys((*notes, MxNote.TRUNCATED)))
    return replace(host, tlsa=chosen, notes=notes)


def _tlsa_set(base: str, answer: Answer) -> TlsaSet:
    records = sorted(cast(Sequence[tuple[int, int, int, bytes]], answer.data))
    return TlsaSet(base, answer.rcode, answer.authenticated, tuple(TlsaRecord(*record) for record in records))
