"""SMTP replies out of a stream of bytes (RFC 5321 section 4.2), without I/O.

A reply is one or more lines of `code SP text` or `code - text`; the code is the same on every line. Lines end with
CRLF; a bare LF is taken too, since real servers send it, and a bare CR is text. Anything else is malformed, and so
is a line or a reply beyond the bounds: a server that never ends its reply must not fill our memory.
"""

import re
from dataclasses import dataclass, field

MAX_LINE = 4096
MAX_REPLY = 32 * 1024

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\r?\n", re.DOTALL)


class MalformedReplyError(ValueError):
    """What came is no SMTP reply, or too long for one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply; `raw` is what was sent, `lines` the text of each line."""

    code: int
    lines: tuple[bytes, ...]
    raw: bytes

    @property
    def text(self) -> str:
        """The lines as text; bytes that are no UTF-8 become surrogates."""
        return b"\n".join(self.lines).decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class ReplyReader:
    """Feed it bytes as they come; it gives whole replies, in order, and keeps what is left."""

    _rest: bytearray = field(default_factory=bytearray)
    _code: bytes | None = None
    _lines: list[bytes] = field(default_factory=list)
    _raw: bytearray = field(default_factory=bytearray)
    _searched: int = 0

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes. Raises `MalformedReplyError`; the reader is of no use afterwards."""
        self._rest += data
        replies = []
        while (end := self._rest.find(b"\n", self._searched)) >= 0:
            line = bytes(self._rest[: end + 1])
            del self._rest[: end + 1]
            self._searched = 0
            reply = self._line(line)
            if reply is not None:
                replies.append(reply)
        self._searched = len(self._rest)
        if self._searched > MAX_LINE:
            raise MalformedReplyError("a reply line of more than 4096 octets")
        return replies

    def take_rest(self) -> bytes:
        """Everything that belongs to no reply yet; forgotten here."""
        rest = bytes(self._raw + self._rest)
        self._rest.clear()
        self._raw.clear()
        self._lines.clear()
        self._code, self._searched = None, 0
        return rest

    def _line(self, line: bytes) -> Reply | None:
        match = _LINE.fullmatch(line)
        if match is None or len(line) > MAX_LINE:
            raise MalformedReplyError(f"not an SMTP reply: {line[:80]!r}")
        code, separator, text = match.groups()
        if self._code not in {None, code}:
            raise MalformedReplyError("the code changes within a reply")
        self._code = code
        self._lines.append(text or b"")
        self._raw += line
        if len(self._raw) > MAX_REPLY:
            raise MalformedReplyError("a reply of more than 32 KB")
        if separator == b"-":
            return None
        reply = Reply(int(code), tuple(self._lines), bytes(self._raw))
        self._code = None
        self._lines.clear()
        self._raw.clear()
        return reply
