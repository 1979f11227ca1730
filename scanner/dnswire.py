"""DNS messages for the few questions that a census asks (RFC 1035 section 4), built and read without waste.

`question` checks a name and prepares it; `make_query` gives the message; `matches` says whether a message answers
it; `read` reads that answer, or says that it is malformed. Three promises:

- Strict: every record of every section must be well formed as far as it is looked at, and nothing may follow the
  last. What dnspython, the judge in the tests, refuses is refused here, and what it reads comes out the same.
- Bounded: a compression pointer points backwards, at most `MAX_POINTERS` in a row, and what it points at ends
  before the name that points (so no loop can be written); a name has at most 255 octets; an alias chain at most
  `MAX_ALIASES` names. A chain that is longer, or a loop, is an answer without records.
- Lean: a name stays in wire form, lower case, while it is only compared. Most owner names are a pointer to the
  question, which is never followed.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from scanner.addresses import ipv4_text, ipv6_text
from scanner.records import Answer, AnswerStatus

TYPES = MappingProxyType({"A": 1, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52})
"""What can be asked."""

RCODES = MappingProxyType(
    {
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
        11: "DSOTYPENI",
        16: "BADVERS",
        17: "BADKEY",
        18: "BADTIME",
        19: "BADMODE",
        20: "BADNAME",
        21: "BADALG",
        22: "BADTRUNC",
        23: "BADCOOKIE",
    }
)
PAYLOAD = 1232
"""The UDP size offered by EDNS0 (RFC 6891): what crosses the Internet without fragments."""

MAX_ALIASES = 16
MAX_POINTERS = 16
MAX_NAME = 255

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_IN, _CNAME, _DNAME, _OPT, _TSIG = 1, 5, 39, 41, 250
_QR, _TC, _RD, _AD = 0x8000, 0x0200, 0x0100, 0x0020
_QR_AND_OPCODE = 0xF800
_QUERY_TAIL = b"\0" + _RECORD.pack(_OPT, PAYLOAD, 0, 0)  # the root, OPT: version 0, no flags, no options
_WITHOUT_QUESTION = frozenset({1, 2, 4, 5})
"""The rcodes of a server that may have understood so little that it echoes no question."""

_TO_QUESTION = b"\xc0\x0c"
"""A pointer to offset 12. `matches` saw the name there, and with the question left out there are no answers."""

_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"().;\\@$')


class Malformed(ValueError):  # the message is malformed, and that is all there is to say
    """A message that claims to answer and cannot be read; the text says where it broke."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question ready to be sent: `wire` is QNAME in lower case, QTYPE and QCLASS; `query` all but the ID."""

    name: str
    rdtype: str
    wire: bytes
    query: bytes


def question(name: str, rdtype: str) -> Question:
    """Prepare a question; `name` without a final dot, the root is "", `rdtype` one of `TYPES`.

    Raises ValueError where the name cannot be one (bad label length, more than 255 octets, not ASCII) or the type
    is not known here.
    """
    if rdtype not in TYPES:
        raise ValueError(f"{rdtype!r} is no type that is asked here")
    lower = name.lower()
    labels = lower.encode("ascii").split(b".") if name else []
    qname = b"".join([bytes((len(label),)) + label for label in labels if len(label) < 64]) + b"\0"
    if len(qname) != len(name) + 2 - (not name) or b"" in labels or len(qname) > MAX_NAME:
        raise ValueError(f"{name!r} is no domain name")
    wire = qname + struct.pack("!HH", TYPES[rdtype], _IN)
    # AD in a query asks for the AD bit of the answer (RFC 6840 section 5.7).
    head = _HEADER.pack(0, _RD | _AD, 1, 0, 0, 1)[2:]
    return Question(lower, rdtype, wire, head + wire + _QUERY_TAIL)


def make_query(ident: int, asked: Question) -> bytes:
    """The message that asks, with EDNS0 and recursion desired."""
    return ident.to_bytes(2, "big") + asked.query


def ident_of(message: bytes) -> int:
    """The ID of a message; -1 where there is no room for a header."""
    return message[0] << 8 | message[1] if len(message) >= _HEADER.size else -1


def matches(asked: Question, message: bytes) -> bool:
    """Whether a message (with a header) is a response that echoes the question; its ID is the caller's to compare.

    A server that reports an error may leave the question out (as old servers do with FORMERR).
    """
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if flags & _QR_AND_OPCODE != _QR:
        return False
    if questions == 1:
        return message[12 : 12 + len(asked.wire)].lower() == asked.wire
    return questions == 0 and answers == 0 and flags & 15 in _WITHOUT_QUESTION


def is_truncated(message: bytes) -> bool:
    """Whether the TC bit is set: ask again over TCP (RFC 7766)."""
    return bool(message[2] & (_TC >> 8))


def read(asked: Question, message: bytes) -> Answer:
    """The answer in a message that `matches` the question. Raises `Malformed`, and nothing else."""
    try:
        return _read(asked, message)
    except (struct.error, IndexError) as error:
        raise Malformed("it ends in the middle") from error


def _read(asked: Question, message: bytes) -> Answer:
    _, flags, questions, count, authorities, additionals = _HEADER.unpack_from(message)
    at = _HEADER.size + (len(asked.wire) if questions else 0)
    at, found, aliases, subtrees = _answers(asked, message, at, count)
    rcode = flags & 15
    if authorities or additionals:
        at, extended = _rest(message, at, authorities, additionals)
        rcode |= extended
    if at != len(message):
        raise Malformed("something follows the last record")
    qname = asked.wire[:-4]
    name = _end_of_aliases(qname, found, aliases, subtrees) if aliases or subtrees else qname
    canonical = asked.name if name is qname else _text(name)
    authenticated = bool(flags & _AD)
    mnemonic = RCODES.get(rcode) or f"RCODE{rcode}"
    if rcode == 0:
        data = tuple(dict.fromkeys(found.get(name, ())))  # a set holds a record once (RFC 2181 section 5)
        status = AnswerStatus.OK if data else AnswerStatus.NODATA
        return Answer(status, mnemonic, authenticated, canonical, data)
    status = AnswerStatus.NXDOMAIN if rcode == 3 else AnswerStatus.FAILED
    return Answer(status, mnemonic, authenticated, canonical)


# ------------------------------------------------------------------------------------------------------- sections

_Found = dict[bytes, list[object]]
_Aliases = dict[bytes, bytes]


def _answers(asked: Question, message: bytes, at: int, count: int) -> tuple[int, _Found, _Aliases, _Aliases]:
    """The answer section: (where it ends, records of the type by owner, CNAME targets, DNAME targets)."""
    qname, wanted, parse = asked.wire[:-4], TYPES[asked.rdtype], _PARSERS[asked.rdtype]
    found: _Found = {}
    aliases: _Aliases = {}
    subtrees: _Aliases = {}
    size = len(message)
    for _ in range(count):
        if message[at : at + 2] == _TO_QUESTION:
            owner = qname
            at += 2
        else:
            owner, at = _name(message, at, size)
        rdtype, rdclass, _, length = _RECORD.unpack_from(message, at)
        at += 10
        end = at + length
        if end > size:
            raise Malformed("a record ends beyond the message")
        if rdclass == _IN:
            if rdtype == wanted:
                found.setdefault(owner, []).append(parse(message, at, end))
            elif rdtype == _CNAME:
                aliases[owner] = _name_only(message, at, end)
            elif rdtype == _DNAME:
                subtrees[owner] = _name_only(message, at, end, pointers=0)  # RFC 6672 section 2.5
        if rdtype in (_OPT, _TSIG):
            raise Malformed("OPT or TSIG in the answer section")
        at = end
    return at, found, aliases, subtrees


def _rest(message: bytes, at: int, authorities: int, additionals: int) -> tuple[int, int]:
    """Walk the authority and additional sections: (where they end, upper bits of the rcode from OPT)."""
    extended = None
    size = len(message)
    for position in range(authorities + additionals):
        owner, at = _name(message, at, size)
        rdtype, _, ttl, length = _RECORD.unpack_from(message, at)
        at += 10 + length
        if at > size:
            raise Malformed("a record ends beyond the message")
        if rdtype == _OPT:
            if position < authorities or extended is not None or owner != b"\0":
                raise Malformed("OPT where it must not be")  # RFC 6891 section 6.1.1
            extended = ttl >> 20 & 0xFF0
        elif rdtype == _TSIG:
            raise Malformed("signed, and nobody asked for that")
    return at, extended or 0


def _end_of_aliases(name: bytes, found: _Found, aliases: _Aliases, subtrees: _Aliases) -> bytes:
    """Follow CNAME (RFC 1034 section 3.6.2) and DNAME (RFC 6672) within the answer section."""
    for _ in range(MAX_ALIASES):
        if name in found:
            return name
        target = aliases.get(name) or _substituted(name, subtrees)
        if target is None:
            return name
        name = target
    found.pop(name, None)  # the chain is too long to believe what stands at its end
    return name


def _substituted(name: bytes, subtrees: _Aliases) -> bytes | None:
    """The name with the closest DNAME's owner replaced by its target; None without one, or if it gets too long."""
    at = 0
    while subtrees and name[at]:
        at += name[at] + 1
        target = subtrees.get(name[at:])
        if target is not None:
            return name[:at] + target if at + len(target) <= MAX_NAME else None
    return None


# --------------------------------------------------------------------------------------------------- record data


def _a(message: bytes, at: int, end: int) -> str:
    if end - at != 4:
        raise Malformed("an A record that is not 4 octets long")
    return ipv4_text(message[at:end])


def _aaaa(message: bytes, at: int, end: int) -> str:
    if end - at != 16:
        raise Malformed("an AAAA record that is not 16 octets long")
    return ipv6_text(message[at:end])


def _mx(message: bytes, at: int, end: int) -> tuple[int, str]:
    if end - at < 3:
        raise Malformed("an MX record without an exchange")
    return message[at] << 8 | message[at + 1], _text(_name_only(message, at + 2, end))


def _tlsa(message: bytes, at: int, end: int) -> tuple[int, int, int, bytes]:
    if end - at < 3:
        raise Malformed("a TLSA record of less than 3 octets")
    return message[at], message[at + 1], message[at + 2], message[at + 3 : end]


def _txt(message: bytes, at: int, end: int) -> bytes:
    """The strings of one record are one text (RFC 7208 section 3.3, RFC 8461 section 3.1)."""
    if at == end:
        raise Malformed("a TXT record without a string")
    strings = []
    while at < end:
        begin = at + 1
        at = begin + message[at]
        strings.append(message[begin:at])
    if at != end:
        raise Malformed("a string ends beyond its TXT record")
    return b"".join(strings)


_PARSERS: dict[str, Callable[[bytes, int, int], object]] = {
    "A": _a,
    "AAAA": _aaaa,
    "MX": _mx,
    "TLSA": _tlsa,
    "TXT": _txt,
}

# --------------------------------------------------------------------------------------------------------- names


def _name_only(message: bytes, at: int, end: int, pointers: int = MAX_POINTERS) -> bytes:
    """The name that fills a record's data up to `end`."""
    name, after = _name(message, at, end, pointers)
    if after != end:
        raise Malformed("a name that does not fill its record")
    return name


def _name(message: bytes, at: int, end: int, pointers: int = MAX_POINTERS) -> tuple[bytes, int]:
    """(name in wire form, lower case, without pointers; where it ends). It may not reach `end` or beyond."""
    labels: list[bytes] = []
    length, start, after = 1, at, 0
    while True:
        if at >= end:
            raise Malformed("a name that does not end")
        size = message[at]
        if size == 0:
            # Length octets are below 64, so lower() cannot touch them.
            return b"".join(labels).lower() + b"\0", after or at + 1
        if size < 64:
            begin, at = at, at + size + 1
            length += size + 1
            if at > end or length > MAX_NAME:
                raise Malformed("a name that is too long")
            labels.append(message[begin:at])
        elif size < 192:
            raise Malformed("a label of an unknown kind")
        else:
            target = (size & 63) << 8 | message[at + 1]
            if at + 2 > end or target >= start or not pointers:
                raise Malformed("a compression pointer that is not allowed")
            pointers -= 1
            after = after or at + 2
            # What a pointer leads to ends before the name that points, so that no part is read twice.
            end, at, start = start, target, target


def _text(name: bytes) -> str:
    """A name in text, no final dot; octets that need it are escaped as in a master file, as dnspython does."""
    labels = []
    at = 0
    while name[at]:
        begin, at = at + 1, at + name[at] + 1
        label = name[begin:at]
        # Deleting all plain octets leaves those that need escaping.
        plain = not label.translate(None, _PLAIN)
        labels.append(label.decode("ascii") if plain else "".join(map(_escaped, label)))
    return ".".join(labels)


def _escaped(byte: int) -> str:
    if byte in _PLAIN:
        return chr(byte)
    return f"\\{byte:c}" if 0x20 < byte < 0x7F else f"\\{byte:03d}"
