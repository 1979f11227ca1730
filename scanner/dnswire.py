"""DNS messages for the few questions that a census asks (RFC 1035 section 4.1), built and read without waste.

`build` makes a query; `read` reads the answer to it, or says that the message is not one. It reads the header, the
question and the answer section, follows aliases there, and keeps MX, A, AAAA, TLSA and TXT. Everything is bounded:
a compression pointer must point backwards (so a loop cannot be written), a name has at most 255 octets.
dnspython is the judge of this reader in the tests.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from scanner.records import Answer, AnswerStatus

TYPES = {"A": 1, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
RCODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
}
PAYLOAD = 1232
"""The UDP size offered by EDNS0 (RFC 6891): what crosses the Internet without fragments."""

MAX_ALIASES = 16
MAX_RECORDS = 4096

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_OPT = b"\x00" + struct.pack("!HHIH", 41, PAYLOAD, 0, 0)
_RD, _AD = 0x0100, 0x0020
_CNAME = 5
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/")


class BadMessage(ValueError):  # the message is malformed, and that is all there is to say
    """Bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question on its way: what to compare an answer with."""

    number: int
    name: str
    kind: int
    question: bytes


def make_query(number: int, name: str, kind: str) -> Query:
    """The query for a name in A-labels without a final dot. Raises ValueError where it cannot be a name."""
    labels = name.encode("ascii").split(b".") if name else []
    if any(not 0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError(f"{name!r} is no domain name")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return Query(number, name, TYPES[kind], wire + struct.pack("!HH", TYPES[kind], 1))


def to_wire(query: Query) -> bytes:
    """The message: recursion desired, and AD set, which asks for the AD bit back (RFC 6840 section 5.7)."""
    return _HEADER.pack(query.number, _RD | _AD, 1, 0, 0, 1) + query.question + _OPT


def number_of(message: bytes) -> int | None:
    """The ID of a message that is long enough to be one."""
    return int.from_bytes(message[:2], "big") if len(message) >= 12 else None


def answers(query: Query, message: bytes) -> bool:
    """Whether a message claims to answer the query: same ID, a response, the question echoed."""
    if len(message) < 12 + len(query.question) or not message[2] & 0x80:
        return False
    echoed = message[12 : 12 + len(query.question)]
    return (
        message[:2] == query.number.to_bytes(2, "big")
        and message[4:6] == b"\0\x01"
        and message[2] & 0x78 == 0
        and echoed.lower() == query.question.lower()
    )


def is_truncated(message: bytes) -> bool:
    """Whether the TC bit is set: ask again over TCP."""
    return bool(message[2] & 0x02)


def read(query: Query, message: bytes) -> Answer:
    """The answer in a message that `answers` the query. Raises `BadMessage`."""
    _, flags, _, count, _, _ = _HEADER.unpack_from(message)
    rcode = RCODES.get(flags & 15, f"RCODE{flags & 15}")
    authenticated = bool(flags & _AD)
    if rcode not in {"NOERROR", "NXDOMAIN"}:
        return Answer(AnswerStatus.FAILED, rcode, authenticated, query.name)
    try:
        aliases, found = _records(query, message, min(count, MAX_RECORDS))
    except (IndexError, struct.error) as error:
        raise BadMessage("it ends in the middle") from error
    name = _follow(query.name.lower(), aliases)
    data = tuple(found.get(name, ()))
    if rcode == "NXDOMAIN":
        return Answer(AnswerStatus.NXDOMAIN, rcode, authenticated, name)
    return Answer(AnswerStatus.OK if data else AnswerStatus.NODATA, rcode, authenticated, name, data)


def _records(query: Query, message: bytes, count: int) -> tuple[dict[str, str], dict[str, list[object]]]:
    """Aliases and records of the kind asked for, by owner, from the answer section."""
    aliases: dict[str, str] = {}
    found: dict[str, list[object]] = {}
    at = 12 + len(query.question)
    for _ in range(count):
        owner, at = _name(message, at)
        kind, kind_class, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        end = at + length
        if end > len(message):
            raise BadMessage("a record ends beyond the message")
        if kind_class == 1:
            if kind == query.kind:
                found.setdefault(owner.lower(), []).append(_data(message, kind, at, end))
            elif kind == _CNAME:
                aliases.setdefault(owner.lower(), _name(message, at)[0].lower())
        at = end
    return aliases, found


def _follow(name: str, aliases: dict[str, str]) -> str:
    """The name at the end of the alias chain; a loop or an endless chain ends somewhere, without records."""
    for _ in range(MAX_ALIASES):
        if name not in aliases:
            break
        name = aliases[name]
    return name


def _data(message: bytes, kind: int, at: int, end: int) -> object:
    """One record's data in the form of `records.Answer`."""
    if kind == TYPES["MX"]:
        exchange, after = _name(message, at + 2)
        if after != end:
            raise BadMessage("an MX record of the wrong length")
        return int.from_bytes(message[at : at + 2], "big"), exchange.lower()
    if kind == TYPES["A"]:
        _expect(end - at == 4)
        return str(IPv4Address(message[at:end]))
    if kind == TYPES["AAAA"]:
        _expect(end - at == 16)
        return str(IPv6Address(message[at:end]))
    if kind == TYPES["TLSA"]:
        _expect(end - at > 3)
        return message[at], message[at + 1], message[at + 2], message[at + 3 : end]
    return _strings(message, at, end)


def _strings(message: bytes, at: int, end: int) -> bytes:
    """TXT: its character-strings joined (RFC 7208 section 3.3, RFC 8461 section 3.1)."""
    _expect(at < end)
    parts = []
    while at < end:
        length = message[at]
        _expect(at + 1 + length <= end)
        parts.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    return b"".join(parts)


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name and where it ends. Octets that are no host name's come out escaped, as in a master file."""
    labels: list[str] = []
    length, after, lowest = 0, None, at
    while True:
        size = message[at]
        if size < 64:
            at += 1
            if size == 0:
                return ".".join(labels), at if after is None else after
            label = message[at : at + size]
            length += size + 1
            if len(label) != size or length > 254:
                raise BadMessage("a broken name")
            labels.append(_label(label))
            at += size
        elif size >= 192:
            target = (size & 63) << 8 | message[at + 1]
            if target >= lowest:
                raise BadMessage("a compression pointer that does not point back")
            after = at + 2 if after is None else after
            at = lowest = target
        else:
            raise BadMessage("a label of an unknown kind")


def _label(label: bytes) -> str:
    if _PLAIN.issuperset(label):
        return label.decode("ascii")
    return "".join(_character(byte) for byte in label)


def _character(byte: int) -> str:
    if byte in b'"().;\\@$':
        return f"\\{byte:c}"
    return chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03d}"


def _expect(condition: bool) -> None:  # what it takes is a condition
    if not condition:
        raise BadMessage("record data of the wrong length")
