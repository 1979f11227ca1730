"""Domain names in: a line becomes a `Target`, or a `BadLine` that says why it is none.

A line is a domain, or CSV of two columns. Without a header the number says what it is by its place: a number
first is a rank (`1,example.org`), a number last is a weight (`example.org,1500`). A header, the first line that is
neither blank nor a comment, names the columns with the words domain, rank and weight in any order, and then holds.
Blank lines are skipped, and comments: a `#` at the beginning of a line or after white space, up to the line's end.

Names come out as lower-case A-labels without a final dot. ASCII is taken as it is, since the DNS holds A-labels
that no version of IDNA allows; other text is mapped by UTS 46 and encoded by IDNA 2008 (RFC 5891).
"""

import ipaddress
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import idna

from scanner.records import Target

MAX_NAME = 253
"""Characters of a name in text form (RFC 1035 section 2.3.4: 255 octets on the wire)."""

MAX_LINE = 4096
MAX_RANK = 2**31 - 1
MAX_WEIGHT = 1e15
"""Up to here the sum of a hundred weights is exact in a double."""

SHOWN = 60

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(rf"(?:{_LABEL.pattern}\.)*(?![0-9]+\Z){_LABEL.pattern}")
"""A host name (RFC 1123 section 2.1); the last label is no number, or it would look like an address."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COMMENT = re.compile(r"(^|\s)#.*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,4})?|nan|inf(inity)?)", re.IGNORECASE)
_PORT = re.compile(r".+:[0-9]{1,5}")
_COLUMN_WORDS = frozenset({"domain", "rank", "weight"})


class BadTarget(ValueError):  # the message is what a person reads
    """A word that is no domain name; the message says why."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was skipped: where it stands (from 1), its beginning with odd octets escaped, and why."""

    source: str
    number: int
    text_excerpt: str
    why: str


def read_targets(lines: Iterable[bytes], source: str) -> Iterator[Target | BadLine]:
    """Every target or bad line of an input; `source` is its name for people.

    A line longer than `MAX_LINE` octets may come in pieces, of which only the last has a line end, so that a reader
    need not hold it whole: it is one bad line.
    """
    number = 0
    columns: tuple[str, ...] | None = None
    begun = continued = False
    for raw in lines:
        if continued:
            continued = not raw.endswith(b"\n")
            continue
        number += 1
        continued = len(raw) > MAX_LINE and not raw.endswith(b"\n")
        try:
            fields = _fields(raw, first=number == 1)
            if fields is None:
                continue
            if not begun:
                begun, columns = True, _header(fields)
                if columns is not None:
                    continue
            yield _target(fields, columns)
        except BadTarget as error:
            begun = True
            yield BadLine(source, number, repr(raw[:SHOWN].rstrip(b"\r\n"))[2:-1], str(error))


def parse_domain(text: str, *, underscores: bool = False) -> str:
    """A domain name as lower-case A-labels without a final dot.

    Underscores are no part of a host name (RFC 1123 section 2.1); opt-outs of MX hosts allow them all the same.
    Raises `BadTarget`.
    """
    name = text.strip(" \t\r\n").lower()
    if len(name) <= MAX_NAME and _NAME.fullmatch(name):
        return name
    if _CONTROL.search(name):
        raise BadTarget("control characters")
    if not name or name == ".":
        raise BadTarget("no name")
    _refuse_other_things(name)
    if not name.isascii():
        name = _a_labels(name)
    name = name.removesuffix(".").lower()
    if len(name) > MAX_NAME:
        raise BadTarget(f"longer than {MAX_NAME} characters")
    for label in name.split("."):
        if not _LABEL.fullmatch(label.replace("_", "a") if underscores else label):
            raise BadTarget(_label_fault(label))
    if name.rpartition(".")[2].isdecimal():
        raise BadTarget("the last label is a number, so this cannot be a host name")  # RFC 1123 section 2.1
    return name


def looks_binary(first: bytes) -> bool:
    """Whether the beginning of a file is no text: NUL, or more than one control character in ten."""
    if b"\0" in first:
        return True
    odd = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in first)
    return odd * 10 > len(first)


# --------------------------------------------------------------------------------------------- lines and columns


def _fields(raw: bytes, *, first: bool) -> list[str] | None:
    """The columns of a line, None where it has nothing to say."""
    if len(raw) > MAX_LINE:
        raise BadTarget(f"a line of more than {MAX_LINE} octets")
    try:
        line = raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError:
        raise BadTarget("not UTF-8") from None
    line = _COMMENT.sub("", line).strip(" \t\r\n")
    return [_unquoted(field.strip()) for field in line.split(",")] if line else None


def _unquoted(field: str) -> str:
    return field[1:-1].strip() if len(field) > 1 and field[0] == field[-1] == '"' else field


def _header(fields: list[str]) -> tuple[str, ...] | None:
    """The names of the columns, None where the first line is no header."""
    words = tuple(field.lower() for field in fields)
    if "domain" in words and set(words) <= _COLUMN_WORDS and len(set(words)) == len(words):
        return words
    return None


def _target(fields: list[str], columns: tuple[str, ...] | None) -> Target:
    columns = columns or _by_place(fields)
    if len(columns) != len(fields):
        raise BadTarget(f"not the columns of the header, {','.join(columns)}")
    named = dict(zip(columns, fields, strict=True))
    domain = parse_domain(named.pop("domain"))
    rank, weight = named.get("rank"), named.get("weight")
    return Target(
        domain,
        weight=None if weight is None else _weight(weight),
        rank=None if rank is None else _rank(rank),
    )


def _by_place(fields: list[str]) -> tuple[str, ...]:
    if len(fields) == 1:
        return ("domain",)
    if len(fields) > 2:
        raise BadTarget("more than two columns, and no header that names them")
    if _NUMBER.fullmatch(fields[0]):
        return ("rank", "domain")
    return ("domain", "weight")


def _rank(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > MAX_RANK:
        raise BadTarget(f"{text[:SHOWN]!r} is no rank: a whole number from 0 to {MAX_RANK}")
    return int(text)


def _weight(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 <= value <= MAX_WEIGHT:  # NaN compares false
        raise BadTarget(f"{text[:SHOWN]!r} is no weight: a number from 0 to {MAX_WEIGHT:.0e}")
    return int(value) if value.is_integer() else value


# --------------------------------------------------------------------------------------------------------- names


def _refuse_other_things(name: str) -> None:
    """Say it in the user's terms where a name is something else that is often found in such lists."""
    try:
        ipaddress.ip_network(name.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        raise BadTarget("an IP address, not a domain name")
    if "/" in name:
        raise BadTarget("a URL, not a domain name")
    if "@" in name:
        raise BadTarget("an e-mail address, not a domain name")
    if _PORT.fullmatch(name):
        raise BadTarget("a name with a port, not a domain name")
    if any(character.isspace() for character in name):
        raise BadTarget("white space inside the name")


def _label_fault(label: str) -> str:
    if not label:
        return "an empty label: two dots in a row, or a dot at the beginning"
    if len(label) > 63:
        return f"a label longer than 63 characters: {label[:SHOWN]!r}..."
    if label[0] == "-" or label[-1] == "-":
        return f"a label that begins or ends with a hyphen: {label!r}"
    odd = next(character for character in label if not _LABEL.fullmatch(character))
    return f"{odd!r} cannot be part of a host name: {label!r}"


def _a_labels(name: str) -> str:
    if len(name) > MAX_NAME:  # before any work that grows with the length; A-labels are never shorter
        raise BadTarget(f"longer than {MAX_NAME} characters")
    try:
        return idna.encode(name, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        why = " ".join(str(error).split())[:100]
        raise BadTarget(f"no internationalised domain name: {why}") from None
