"""Which software answers, read from its greeting and EHLO by a table; `unknown` is honest, and frequent.

Greetings can be changed, so this says what a server claims to be. The table is `data/software.toml`; its head says
what an entry is made of. The name that a host gives itself is no claim, except for services known by their hosts.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from scanner.records import Observation

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Software:
    """A name from the table, and the version where the server tells it."""

    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table: patterns for parts of what the server says, and its keywords. All must hold."""

    name: str
    domain: re.Pattern[str] | None
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    keywords: frozenset[str]
    only: frozenset[str] | None


@cache
def table() -> tuple[Entry, ...]:
    """The entries of `data/software.toml` in order."""
    text = (resources.files("scanner") / "data" / "software.toml").read_text(encoding="utf-8")
    return tuple(
        Entry(
            row["name"],
            re.compile(row["domain"], re.IGNORECASE) if "domain" in row else None,
            tuple((part, re.compile(row[part], re.IGNORECASE)) for part in ("greeting", "ehlo") if part in row),
            frozenset(row.get("keywords", ())),
            frozenset(row["only"]) if "only" in row else None,
        )
        for row in tomllib.loads(text)["software"]
    )


def recognise(greeting: str | None, ehlo: str | None = None, keywords: Sequence[str] = ()) -> Software:
    """The software by its greeting, the first line of its EHLO reply (both without the code), and EHLO keywords.

    Keywords may have parameters. What a server did not get to say is None or empty.
    """
    domain, text = _domain_and_text(greeting)
    words = frozenset(keyword.split(" ", 1)[0].upper() for keyword in keywords)
    for entry, software in _claims(text, _domain_and_text(ehlo)[1], words):
        if entry.domain is None or (domain is not None and entry.domain.search(domain)):
            return software
    return Software(UNKNOWN)


@lru_cache(maxsize=2_000)
def _claims(text: str | None, ehlo: str | None, words: frozenset[str]) -> tuple[tuple[Entry, Software], ...]:
    """The entries that hold but for the domain; remembered, since texts repeat where names do not."""
    said = {"greeting": text, "ehlo": ehlo}
    claims = []
    for entry in table():
        if not entry.keywords <= words or entry.only not in {None, words - {"STARTTLS"}}:
            continue
        matches = [
            None if (spoken := said[part]) is None else pattern.search(spoken) for part, pattern in entry.patterns
        ]
        if None not in matches:
            versions = (match.groupdict().get("version") for match in matches if match)
            version = next(filter(None, versions), None)
            claims.append((entry, Software(entry.name, version.rstrip(".") if version else None)))
    return tuple(claims)


def of_observation(observation: Observation) -> str | None:
    """The name of an observation's software; None where there was no greeting to read."""
    if observation.greeting is None:
        return None
    return recognise(observation.greeting, observation.ehlo_greeting, observation.ehlo_keywords).name


def _domain_and_text(line: str | None) -> tuple[str | None, str | None]:
    """`Domain [ SP text ]` (RFC 5321 sections 4.1.1.1 and 4.2) on one line; a first word without a dot is text."""
    if line is None:
        return None, None
    domain, _, text = " ".join(line.split()).partition(" ")
    return (domain, text) if "." in domain else ("", f"{domain} {text}".strip())
