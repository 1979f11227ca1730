r"""What a server wrote, as text that every database, file format and screen can hold.

Text of a greeting or a certificate may hold NUL, which PostgreSQL refuses, and bytes that are not UTF-8, which
come as lone surrogates (PEP 383) and cannot be encoded. Both are written `\xNN`. A backslash is written as it is,
except before what would read as such an escape (`\x5c`), so that nothing is lost: `unescape` gives the original
back. Other control characters are kept.
"""

import re

_UNSAFE = re.compile(r"\x00|[\ud800-\udfff]|\\(?=x[0-9a-f]{2})")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def escape(text: str) -> str:
    """`text` without NUL and surrogates."""
    if text.isprintable() and "\\" not in text:  # by far the most
        return text
    return _UNSAFE.sub(_escaped, text)


def unescape(text: str) -> str:
    """The text that `escape` was given, as long as its surrogates stood for bytes (`surrogateescape`)."""
    return _ESCAPE.sub(_unescaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def _unescaped(match: re.Match[str]) -> str:
    byte = int(match.group(1), 16)
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
