"""The words that a release may use: closed lists, so that no text of a stranger ever leaves as a key.

What is not in a list is counted as `other`, before anything is counted.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from scanner.records import (
    NOT_AFFECTED,
    UNKNOWN_SUNSET,
    ClientAuth,
    EkuClass,
    Failure,
    Hierarchy,
    Program,
    Reason,
    Stage,
)
from storage.counts import FAMILIES, Counts
from storage.facts import UNCLASSIFIED
from storage.profiles import (
    FACTS,
    NOT_VALID,
    OPERATOR_BANDS,
    OPERATOR_REST,
    VALIDITY_DAYS,
    VALIDITY_LONGER,
    VALIDITY_UNKNOWN,
    Profile,
)

OTHER = "other"
KEY_TYPES = ("rsa", "ec", "dsa", "ed25519", "ed448", "unknown")
KEY_BITS = ("1024", "2048", "3072", "4096", "8192", "224", "256", "384", "456", "521", "unknown")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "unknown")
EXPOSURE_MONTHS = tuple(f"{year}-{month:02}" for year in range(2025, 2035) for month in range(1, 13))

Vocabulary = Mapping[str, frozenset[str]]
"""A fact of `storage.profiles.FACTS` -> the values that may be named."""


def vocabulary(software: frozenset[str], owners: frozenset[str]) -> Vocabulary:
    """The closed lists; the names of software and CA owners come from the program's own tables.

    Facts that no released figure is made from have none, and stay as they are.
    """
    hierarchies = frozenset({*Hierarchy, UNCLASSIFIED})
    return MappingProxyType(
        {
            "reason": frozenset({"", *Reason}),
            "stage": frozenset({"", *Stage}),
            "failure": frozenset({"", "none", *Failure}),
            "client_auth": frozenset({"", *ClientAuth}),
            "tls_version": frozenset({"", *TLS_VERSIONS}),
            "software": frozenset({"", "unknown", *software}),
            "eku": frozenset({"", UNCLASSIFIED, *EkuClass}),
            "hierarchy": frozenset({"", *hierarchies}),
            "programs": frozenset({"", "none", UNCLASSIFIED, *_sets([str(program) for program in Program])}),
            "ca_owner": frozenset({"", "unknown", *hierarchies, *owners}),
            "key_type": frozenset({"", *KEY_TYPES}),
            "key_bits": frozenset({"", *KEY_BITS}),
            "validity": frozenset({"", VALIDITY_LONGER, VALIDITY_UNKNOWN, *(name for _, name in VALIDITY_DAYS)}),
            "exposure": frozenset({"", NOT_AFFECTED, NOT_VALID, UNKNOWN_SUNSET, UNCLASSIFIED, *EXPOSURE_MONTHS}),
            "operators": frozenset({"", OPERATOR_REST, *(name for _, name in OPERATOR_BANDS)}),
        }
    )


def recode_counts(counts: Counts, words: Vocabulary) -> Counts:
    """The same counts with every fact outside its list as `other`."""
    facts = {
        family: {number: _recoded(FAMILIES[family], values, words) for number, values in numbered.items()}
        for family, numbered in counts.facts.items()
    }
    return replace(counts, facts=MappingProxyType(facts))


def recode_profiles(profiles: Mapping[int, Profile], words: Vocabulary) -> Mapping[int, Profile]:
    """The same for whole profiles."""
    return MappingProxyType({number: _recoded(FACTS, values, words) for number, values in profiles.items()})


def _recoded(names: tuple[str, ...], values: tuple[str, ...], words: Vocabulary) -> tuple[str, ...]:
    return tuple(
        value if name not in words or value in words[name] else OTHER
        for name, value in zip(names, values, strict=True)
    )


def _sets(programs: list[str]) -> list[str]:
    """Every set of programs, as it is stored: sorted, joined by `+`."""
    found = [""]
    for program in sorted(programs):
        found += [f"{some}+{program}" if some else program for some in found]
    return found[1:]
