"""What software has been seen to do, from data that `make matrix` writes: `figures` joins it with server software.

docs/software-matrix.md is the same for people. A fact of several observations of one software that do not agree is
`differs`; software that is not among them is `not-seen`, which says nothing about it.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

NOT_SEEN, DIFFERS = "not-seen", "differs"
FIGURES = (
    (
        "separates_roles",
        "Software that can separate the two roles",
        "present one certificate as a server and another as a client",
    ),
    (
        "asks_by_default",
        "Software that asks for a client certificate by default",
        "ask without being told to",
    ),
    (
        "rejects_server_only",
        "Software that refuses a client certificate for servers only",
        "refuse a client certificate with serverAuth alone where it requires one",
    ),
)
"""Facts of the data that are key fields, each with its figure's title and what it is to have been seen."""
CAVEAT = (
    "Joins what servers claim to be with what one build of that software was seen to do on loopback "
    "(software-matrix.md): what it can do, not how this server is configured; another TLS library can differ."
)
FACTS = tuple(fact for fact, _, _ in FIGURES)


@cache
def answers(fact: str) -> Mapping[str, str]:
    """Software -> `yes`, `no`, `differs` or `not-seen`."""
    text = (resources.files("reports") / "data" / "software_matrix.toml").read_text(encoding="utf-8")
    return joined(tomllib.loads(text)["software"], fact)


def joined(observed: list[dict[str, str]], fact: str) -> Mapping[str, str]:
    """One answer a software, out of all observations of it."""
    found: dict[str, str] = {}
    for one in observed:
        name, answer = one["name"], one[fact]
        found[name] = answer if found.get(name, answer) == answer else DIFFERS
    return MappingProxyType(found)
