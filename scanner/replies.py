"""SMTP replies out of a stream of bytes (RFC 5321 section 4.2), without I/O.

A reply is one or more lines of `code SP text` or `code - text`; the code is the same on every line. Lines end with
CRLF; a bare LF is taken too, since real servers send it, and a bare CR is text. Anything else is malformed, and so
is a line or a reply beyond the bounds: a server that never ends its reply must not fill our memory.
"""

import re
from dataclasses import dataclass, field

MAX_LINE = 4096
"""RFC 5321 section 4.5.3.1.5 allows 512; real servers go beyond it, but not this far."""

MAX_REPLY = 32 * 1024
"""The bound of aiosmtplib's own parser, which sees each reply after this one."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*?))?\r?\n", re.DOTALL)


class MalformedReplyError(ValueError):
    """What came is no SMTP reply, or too long for one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply; `lines` is the text of each line."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """The lines as text; bytes that are no UTF-8 become surrogates."""
        return b"\n".join(self.lines).decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class ReplyReader:
    """Feed it bytes as they come; ask it for one reply at a time. What follows a reply is left unread."""

    _unread: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _code: bytes | None = None
    _lines: list[bytes] = field(default_factory=list)
    _size: int = 0

    def feed(self, data: bytes) -> None:
        """Take more of the stream. Beyond the bound of a reply bytes are dropped: reading so far fails anyway."""
        self._unread += data[: max(0, MAX_REPLY + MAX_LINE - len(self._unread))]

    def next_reply(self) -> Reply | None:
        """The next reply, None while it is not complete. After `MalformedReplyError` the stream is of no use."""
        while (end := self._unread.find(b"\n", self._searched)) >= 0:
            line = bytes(self._unread[: end + 1])
            del self._unread[: end + 1]
            self._searched = 0
            if self._is_last(line):
                return self._take()
        self._searched = len(self._unread)
        if self._searched > MAX_LINE:
            raise MalformedReplyError(f"a reply line of more than {MAX_LINE} octets")
        return None

    def take_unread(self) -> bytes:
        """Everything that belongs to no reply yet; forgotten here."""
        unread = bytes(self._unread)
        self._unread.clear()
        self._searched = 0
        return unread

    def _is_last(self, line: bytes) -> bool:
        match = _LINE.fullmatch(line)
        if match is None:
            raise MalformedReplyError(f"not an SMTP reply: {line[:80]!r}")
        code, separator, text = match.groups()
        if self._code not in {None, code}:
            raise MalformedReplyError("the code changes within a reply")
        self._code = code
        self._lines.append(text or b"")
        self._size += len(line)
        if len(line) > MAX_LINE or self._size > MAX_REPLY:
            raise MalformedReplyError(f"a line of more than {MAX_LINE} octets, or a reply of more than {MAX_REPLY}")
        return bool(separator != b"-")

    def _take(self) -> Reply:
        reply = Reply(int(self._code or b"0"), tuple(self._lines))
        self._code, self._size = None, 0
        self._lines.clear()
        return reply
