"""Distinguished names: DER in, RFC 4514 text or a comparison key out. Never an exception for odd strings.

cryptography refuses names with undecodable strings as a whole and warns about others; servers send both, so the
text is made here. A value that is not text is written as `#` and hex (RFC 4514 section 2.4).
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from scanner import der

SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""The short names of RFC 4514 section 3; every other type is written as dotted decimals."""

_CODECS = {
    0x0C: "utf-8",
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody reads it
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_ESCAPED = re.compile(r'([",+;<>\\])')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _text(value: der.Element) -> str | None:
    codec = _CODECS.get(value.tag)
    if codec is None:
        return None
    try:
        return value.content.decode(codec)
    except UnicodeDecodeError:
        return None


def rdns(name: bytes) -> Iterator[list[tuple[str, der.Element]]]:
    """The relative distinguished names in encoded order, each a list of (dotted type, value)."""
    for rdn in der.children(der.only(name, der.SEQUENCE)):
        attributes = []
        for attribute in der.children(rdn):
            parts = der.children(attribute)
            if len(parts) != 2 or parts[0].tag != der.OID:
                raise der.DerError("not an AttributeTypeAndValue")
            attributes.append((der.oid_text(parts[0].content), parts[1]))
        yield attributes


def _escape(text: str) -> str:
    text = _ESCAPED.sub(r"\\\1", text)
    text = _CONTROL.sub(lambda match: f"\\{ord(match.group()):02X}", text)
    if text.startswith((" ", "#")):
        text = "\\" + text
    if text.endswith(" ") and len(text) > 1:
        text = text[:-1] + "\\ "
    return text


@lru_cache(maxsize=4096)
def name_text(name: bytes) -> str:
    """RFC 4514 text of a Name's DER, most specific first; raises DerError when it is no Name.

    Control characters are written as hex pairs, so that the text is safe to print.
    """
    parts = []
    for attributes in rdns(name):
        values = []
        for oid, value in attributes:
            text = _text(value)
            shown = "#" + value.whole.hex() if text is None else _escape(text)
            values.append(f"{SHORT_NAMES.get(oid, oid)}={shown}")
        parts.append("+".join(values))
    return ",".join(reversed(parts))


def shown(name: bytes) -> str:
    """What `name_text` says, and `#` and hex of what is no Name at all: whatever a server sent can be shown."""
    try:
        return name_text(name)
    except der.DerError:
        return "#" + name.hex()


def attribute(name: bytes, oid: str) -> str | None:
    """The first value of one attribute type that is text, or None."""
    found = (_text(value) for attributes in rdns(name) for kind, value in attributes if kind == oid)
    return next((text for text in found if text), None)


NameKey = tuple[tuple[tuple[str, str], ...], ...]


@lru_cache(maxsize=4096)
def name_key(name: bytes) -> NameKey:
    """What two names that are equal by RFC 5280 section 7.1 have in common; raises DerError.

    String types do not matter, nor case, nor the amount of white space (RFC 4518: NFKC, case folding, insignificant
    spaces); the order of RDNs does, the order inside one does not.
    """
    keys = []
    for attributes in rdns(name):
        rdn = []
        for oid, value in attributes:
            text = _text(value)
            rdn.append((oid, "#" + value.whole.hex() if text is None else fold(text)))
        keys.append(tuple(sorted(rdn)))
    return tuple(keys)


def fold(text: str) -> str:
    """Text prepared for comparison."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())
