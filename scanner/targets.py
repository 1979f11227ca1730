"""Domain names in: a line becomes a `Target`, or a `BadLine` that says why it is none.

A line is a domain, or CSV of two columns: a number first is a rank (`1,example.org`), a number last is a weight
(`example.org,1500`). A header line with the words domain, rank or weight is skipped; so are blank lines and what
follows `#`. Names come out as lower-case A-labels without a final dot (RFC 5890, UTS 46).
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import idna

from scanner.records import Target

MAX_NAME = 253
MAX_LINE = 4096
SHOWN = 60

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HEADER_WORDS = frozenset({"domain", "rank", "weight"})
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


class BadTarget(ValueError):  # noqa: N818  # the message is what a person reads
    """A word that is no domain name; the message says why."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was skipped: where it stands, the beginning of it, and why."""

    source: str
    number: int
    text: str
    why: str


def read_targets(lines: Iterable[bytes], source: str) -> Iterator[Target | BadLine]:
    """Every target or bad line of an input; `source` is its name for people."""
    for number, raw in enumerate(lines, 1):
        try:
            target = _target(raw, first=number == 1)
        except BadTarget as error:
            yield BadLine(source, number, repr(raw[:SHOWN])[2:-1], str(error))
        else:
            if target is not None:
                yield target


def parse_domain(text: str) -> str:
    """A domain name as lower-case A-labels without a final dot. Raises `BadTarget`."""
    name = text.strip()
    if _CONTROL.search(name):
        raise BadTarget("control characters")
    name = name.removesuffix(".")
    if not name:
        raise BadTarget("no name")
    _refuse_other_things(name)
    if not name.isascii():
        name = _a_labels(name)
    name = name.lower()
    if len(name) > MAX_NAME:
        raise BadTarget(f"longer than {MAX_NAME} characters")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise BadTarget(f"bad label {label[:SHOWN]!r}")
    if name.rpartition(".")[2].isdecimal():
        raise BadTarget("the last label is a number")  # RFC 3696 section 2
    return name


def looks_binary(first: bytes) -> bool:
    """Whether the beginning of a file is no text: NUL, or many control characters."""
    if b"\0" in first:
        return True
    odd = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in first)
    return odd * 10 > len(first)


def _target(raw: bytes, *, first: bool) -> Target | None:
    if len(raw) > MAX_LINE:
        raise BadTarget(f"a line of more than {MAX_LINE} octets")
    try:
        line = raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError:
        raise BadTarget("not UTF-8") from None
    line = line.partition("#")[0].strip()
    if not line:
        return None
    fields = [field.strip().strip('"') for field in line.split(",")]
    if first and {field.lower() for field in fields} <= _HEADER_WORDS:
        return None
    if len(fields) == 1:
        return Target(parse_domain(fields[0]))
    if len(fields) != 2:
        raise BadTarget("more than two columns")
    left, right = fields
    if _NUMBER.fullmatch(left):
        return Target(parse_domain(right), rank=_rank(left))
    return Target(parse_domain(left), weight=_weight(right))


def _rank(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise BadTarget(f"{text[:SHOWN]!r} is no rank")
    return int(text)


def _weight(text: str) -> float:
    if not _NUMBER.fullmatch(text) or len(text) > 30:
        raise BadTarget(f"{text[:SHOWN]!r} is no weight")
    return int(text) if text.isdecimal() else float(text)


def _refuse_other_things(name: str) -> None:
    """Say it in the user's terms where a name is something else that is often found in such lists."""
    if "://" in name or "/" in name:
        raise BadTarget("a URL, not a domain name")
    if "@" in name:
        raise BadTarget("an e-mail address, not a domain name")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return
    raise BadTarget("an address, not a domain name")


def _a_labels(name: str) -> str:
    try:
        return idna.encode(name, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise BadTarget(f"no internationalised domain name: {error}") from None
