"""Which software answers, read from its greeting and EHLO by a table; `unknown` is honest, and frequent.

Banners can be changed, so this says what a server claims to be. The table is `data/software.toml`: an id, and
patterns for the greeting, the EHLO reply's first line, or keywords. The first entry that matches counts.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from scanner.records import Observation

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Software:
    """A name from the table, and the version where the server tells it."""

    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    greeting: re.Pattern[str] | None
    ehlo: re.Pattern[str] | None
    keywords: frozenset[str]


@cache
def _table() -> tuple[_Entry, ...]:
    text = (resources.files("scanner") / "data" / "software.toml").read_text(encoding="utf-8")
    return tuple(
        _Entry(
            entry["name"],
            re.compile(entry["greeting"], re.IGNORECASE) if "greeting" in entry else None,
            re.compile(entry["ehlo"], re.IGNORECASE) if "ehlo" in entry else None,
            frozenset(entry.get("keywords", ())),
        )
        for entry in tomllib.loads(text)["software"]
    )


def recognise(greeting: str | None, ehlo: str | None = None, keywords: Sequence[str] = ()) -> Software:
    """The software by its greeting, the first line of its EHLO reply, and its EHLO keywords."""
    words = {keyword.split(" ")[0].upper() for keyword in keywords}
    for entry in _table():
        match = entry.greeting.search(greeting) if entry.greeting and greeting else None
        said = entry.ehlo.search(ehlo) if entry.ehlo and ehlo else None
        if (
            (entry.greeting is None or match)
            and (entry.ehlo is None or said)
            and (not entry.keywords or entry.keywords <= words)
        ):
            return Software(entry.name, _version(match))
    return Software(UNKNOWN)


def of_observation(observation: Observation) -> str | None:
    """The software of an observation; None where there was no greeting to read."""
    if observation.greeting is None:
        return None
    return recognise(observation.greeting, observation.ehlo_greeting, observation.ehlo_keywords).name


def _version(match: re.Match[str] | None) -> str | None:
    return match.groupdict().get("version") if match is not None else None
