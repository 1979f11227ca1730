"""The matrix as a document and as data. Pure."""

from collections.abc import Sequence
from datetime import date

from matrix.results import CONTROL, NO, UNSEEN, YES, Seen

LABELS = ("server-only", "client-only", "both", "no-eku", "any", "email-only")
TITLES = {
    "server-only": "serverAuth only",
    "client-only": "clientAuth only",
    "both": "both",
    "no-eku": "no EKU",
    "any": "anyExtendedKeyUsage only",
    "email-only": "emailProtection only",
    CONTROL: "none",
}

HEAD = """\
# Software matrix

What real mail servers do with client certificates, observed on loopback on {date}. `make matrix` makes this
page and `reports/data/software_matrix.toml` from nothing: it starts each software from its package, shows it
each certificate once by `mxcensus experiment`'s code, has it relay a message to `mxcensus listen`'s code, and
writes what it saw. Nothing here is quoted from documentation, and nothing is edited by hand. One build of one
version is one observation: another TLS library under the same software can answer otherwise, and its greeting
does not tell which it is.

The client certificates are issued by a CA that the server was told to verify against, are valid, and differ in
nothing but their extended key usage. `not-seen` means that it was not tried.
"""

SUMMARY = """
## In short

"""
COLUMNS = (
    "software",
    "version",
    "TLS library",
    "asks by default",
    "can ask",
    "can require",
    "refuses serverAuth only where it requires",
    "presents as a client by default",
    "when told",
    "separates the roles",
)
SUMMARY_NOTES = """
*By default*: nothing is configured about client certificates; there is a certificate for the server's role.
*When told*: the software's own setting for a client certificate names another one; `client` is that one,
`server` the server's. *Separates the roles*: it presented one as a server and the other as a client in one run.
"""

MODE = """
## Where it {title}

What a session with each certificate met: on TLS 1.2; and, where it differs, on TLS 1.3. {note}

"""

TAKEN, MORE, LESS = "taken", "more keywords", "fewer keywords"
REQUIRES_NOTE = f"""\
`{TAKEN}`: the second EHLO got its 250. Sendmail lets
everybody say EHLO; `{LESS}` than where it only asks is what those get whom it refuses from MAIL on, a command
that is never sent here."""
ASKS_NOTE = f"""\
`{TAKEN}` does not mean that
the certificate was found good: most software only logs what it thinks. `{MORE}` than without a
certificate says that it was."""
MODES = {"insists": ("requires a certificate", REQUIRES_NOTE), "asks": ("asks without insisting", ASKS_NOTE)}

TAIL = """
Haraka's cells for certificates where it requires one are left out: its maintainers come first.
OpenSMTPD has no mode that asks without insisting.
"""


def document(found: Sequence[Seen], day: date) -> str:
    """The page, in Markdown."""
    text = HEAD.format(date=day.isoformat()) + SUMMARY + _head(*COLUMNS)
    text += "".join(_row(*_summary(one).values()) for one in found) + SUMMARY_NOTES
    labels = (CONTROL, *LABELS)
    for mode, (title, note) in MODES.items():
        text += MODE.format(title=title, note=note) + _head("software", *(TITLES[label] for label in labels))
        tried = [one for one in found if one.control(mode)]
        text += "".join(_row(one.software, *(_met(one, label, mode) for label in labels)) for one in tried)
    return text + TAIL


def _summary(one: Seen) -> dict[str, str]:
    """The facts of one software, by their names in the data."""
    return {
        "name": one.software,
        "version": one.version,
        "library": one.library,
        "asks_by_default": one.asks_by_default,
        "can_ask": one.can_ask,
        "can_require": one.can_require,
        "rejects_server_only": one.rejects_server_only,
        "presents_by_default": one.presents_by_default,
        "presents_when_told": one.presents_when_told,
        "separates_roles": one.separates_roles,
    }


def _head(*cells: str) -> str:
    return _row(*cells) + f"|{'---|' * len(cells)}\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _met(seen: Seen, variant: str, mode: str) -> str:
    """What sessions with a certificate met: one word where both TLS versions agree."""
    good = MORE if mode == "asks" and seen.more_keywords(variant, mode) == YES else TAKEN
    words = [said or (LESS if seen.takes(variant, mode) == NO else good) for said in seen.refusals(variant, mode)]
    return "; ".join(words if len(set(words)) > 1 else words[:1]) or UNSEEN


def data(found: Sequence[Seen], day: date) -> str:
    """The same for programs, in TOML: `report` joins it with the software that servers claim to be."""
    lines = ["# Made by `make matrix`; not edited by hand. docs/software-matrix.md says what the words mean.", ""]
    lines += [f"observed = {day.isoformat()}"]
    for one in found:
        lines += ["", "[[software]]", *(f'{name} = "{value}"' for name, value in _summary(one).items())]
        required = {label: one.takes(label) for label in LABELS if one.refusals(label)}
        pairs = ", ".join(f'{label} = "{word}"' for label, word in required.items())
        lines += [f"taken_where_required = {{ {pairs} }}" if pairs else "taken_where_required = {}"]
    return "\n".join(lines) + "\n"
