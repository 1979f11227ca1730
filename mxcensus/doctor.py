"""The checks of `mxcensus doctor`: what has to be right before the first packet, each one a `Finding`.

Only resolvers are asked. Whether the network lets port 25 out cannot be told without a packet to somebody's server,
so it is said and not tested.
"""

import asyncio
import contextlib
import os
import resource
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path

import dns.exception
import dns.resolver
import dns.reversename
from sqlalchemy import Connection, make_url, update
from sqlalchemy.exc import ArgumentError

from mxcensus.plan import Plan
from scanner.records import Answer, AnswerStatus
from scanner.resolver import Resolver
from storage.database import open_database
from storage.errors import StorageFailed
from storage.schema import scan

Query = Callable[[str, str], Awaitable[Answer]]

SIGNED = ("", "TXT")
"""The root is signed, whatever it has; a validating resolver says so (RFC 4035 section 3.2.3)."""

OLD_SNAPSHOT_DAYS = 180
SPARE_FILES = 100
"""Descriptors beside those of sessions: the database, resolvers' sockets, the program itself."""

LEAST_YEAR = 2026
"""A clock before the program was written is wrong."""


class Level(StrEnum):
    """How bad a finding is; only `fail` means that a scan should not begin."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    text: str


def examine(plan: Plan, now: datetime) -> list[Finding]:
    """Every check, in the order of a scan."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        *asyncio.run(_ask(plan)),
        clock(now),
        port_25(plan.scan.port),
        open_files(files, plan.scan.limits.concurrency),
        database(plan.database),
        snapshot(plan.trust.as_of, now.date()),
        identity(plan.ehlo_name, plan.contact),
    ]


async def _ask(plan: Plan) -> list[Finding]:
    async with Resolver(plan.resolvers) as resolver:
        return [
            *await resolves(resolver.query),
            await reverse_name(resolver.query, partial(pointers, plan.resolvers), plan.ehlo_name),
        ]


async def resolves(query: Query) -> Sequence[Finding]:
    """Whether the resolver answers, and validates."""
    answer = await query(*SIGNED)
    if answer.status is AnswerStatus.NO_ANSWER:
        return [Finding("resolver", Level.FAIL, "does not answer")]
    if answer.status not in {AnswerStatus.OK, AnswerStatus.NODATA}:
        return [Finding("resolver", Level.FAIL, f"answers {answer.rcode} for the root")]
    validates = (
        Finding("dnssec", Level.OK, "the resolver validates (AD)")
        if answer.authenticated
        else Finding(
            "dnssec", Level.WARN, "no AD bit for the signed root: `authenticated` will be false everywhere"
        )
    )
    return [Finding("resolver", Level.OK, "answers"), validates]


def pointers(resolvers: Sequence[tuple[str, int]], address: str) -> set[str]:
    """The reverse names of an address, none where nobody says; the scanner's own resolver asks for no PTR."""
    host, port = resolvers[0]
    asked = dns.resolver.Resolver(configure=False)
    asked.nameservers, asked.port, asked.lifetime = [host], port, 5.0
    try:
        found = asked.resolve(dns.reversename.from_address(address), "PTR")
    except dns.exception.DNSException:
        return set()
    return {str(item.target).lower().removesuffix(".") for item in found}


async def reverse_name(query: Query, names_of: Callable[[str], set[str]], ehlo_name: str | None) -> Finding:
    """Whether an address of the EHLO name has a reverse name that is the EHLO name (RFC 1912 section 2.1)."""
    check = "reverse-name"
    if ehlo_name is None:
        return Finding(check, Level.UNTESTED, "no --ehlo-name")
    answers = [await query(ehlo_name, rdtype) for rdtype in ("A", "AAAA")]
    addresses = [str(address) for answer in answers for address in answer.data]
    if not addresses:
        return Finding(check, Level.WARN, f"{ehlo_name} has no address")
    missing = [address for address in addresses if ehlo_name not in await asyncio.to_thread(names_of, address)]
    if missing:
        return Finding(check, Level.WARN, f"no reverse name of {', '.join(missing)} is {ehlo_name}")
    return Finding(check, Level.OK, f"{ehlo_name} and its addresses confirm each other")


def clock(now: datetime) -> Finding:
    """Expiry and spacing are judged by this clock."""
    if now.year < LEAST_YEAR:
        return Finding("clock", Level.FAIL, f"says {now:%Y-%m-%d}, which cannot be")
    return Finding("clock", Level.OK, f"says {now:%Y-%m-%dT%H:%M:%SZ}; compare it, expiry is judged by it")


def port_25(port: int) -> Finding:
    """What cannot be tested without contacting somebody."""
    return Finding(
        f"port-{port}", Level.UNTESTED, "whether the network lets it out shows only with a packet; none was sent"
    )


def open_files(limit: int, concurrency: int) -> Finding:
    """Whether there are descriptors for all sessions at once."""
    if limit != resource.RLIM_INFINITY and limit < concurrency + SPARE_FILES:
        return Finding("open-files", Level.FAIL, f"limit {limit} is too low for --concurrency {concurrency}")
    return Finding("open-files", Level.OK, f"limit {limit} for --concurrency {concurrency}")


def database(url: str) -> Finding:
    """Whether the database opens and may be written; a SQLite file that is not there yet is not made."""
    try:
        file = make_url(url).database if url.startswith("sqlite") else None
        if file is not None and not Path(file).exists():
            if os.access(Path(file).absolute().parent, os.W_OK):
                return Finding("database", Level.OK, f"{file} will be made")
            return Finding("database", Level.FAIL, f"{file} cannot be made: its directory is not writable")
        with contextlib.closing(open_database(url, create=False, patience=1)) as opened:
            opened.write(_touch)
            return Finding("database", Level.OK, f"{opened} can be written")
    except (ValueError, OSError, ArgumentError, StorageFailed) as error:
        return Finding("database", Level.FAIL, " ".join(str(error).split()))


def _touch(connection: Connection) -> None:
    """A write that changes nothing: no scan has the number 0."""
    connection.execute(update(scan).where(scan.c.id == 0).values(label=None))


def snapshot(as_of: date, today: date) -> Finding:
    """How old the trust snapshot is."""
    days = (today - as_of).days
    level = Level.WARN if days > OLD_SNAPSHOT_DAYS else Level.OK
    return Finding("trust", level, f"snapshot of {as_of}, {days} days old")


def identity(ehlo_name: str | None, contact: str | None) -> Finding:
    """Whether servers can tell who asks."""
    if ehlo_name and contact:
        return Finding("identity", Level.OK, f"{ehlo_name}, {contact}")
    return Finding("identity", Level.WARN, "more than 10 domains need --ehlo-name and --contact")


PROBING = """\
Canonical: https://{name}/.well-known/probing.txt
Contact: {contact}
Expires: {expires}T00:00:00Z
Preferred-Languages: en
Probe-description: One SMTP session to each mail server that an MX names: EHLO, STARTTLS, EHLO, QUIT. No message.
"""
INFORMATION = """\
# Why did {name} connect to your mail server?

We count which certificates mail servers present over STARTTLS. Our scanner opens one SMTP session, says EHLO,
STARTTLS, EHLO and QUIT, and keeps the greeting, the extensions and the certificates. It never sends MAIL, RCPT or
AUTH, tries no password and delivers no message. It opens one connection at a time to an address.

Questions and complaints: {contact}

To be left alone: see optout.txt.
"""
OPT_OUT = """\
To opt out, write to {contact} with your addresses, networks, domains or MX host names. We stop at once, and delete
what we stored on request.
"""
PAGES = ((".well-known/probing.txt", PROBING), ("index.md", INFORMATION), ("optout.txt", OPT_OUT))


def pages(ehlo_name: str, contact: str, today: date) -> Iterator[tuple[str, str]]:
    """(path, text) of what to publish: probing.txt (RFC 9511 section 3), an information page, an opt-out text."""
    expires = today + timedelta(days=365)
    for path, text in PAGES:
        said = contact_uri(contact) if path.endswith("probing.txt") else contact
        yield path, text.format(name=ehlo_name, contact=said, expires=expires)


def contact_uri(contact: str) -> str:
    """A contact as probing.txt wants it: a URI (RFC 9116 section 2.5.3); words that are none stay as they are."""
    is_mailbox = "@" in contact and " " not in contact and ":" not in contact
    return f"mailto:{contact}" if is_mailbox else contact
