"""The SMTP dialogue over one connection: aiosmtplib's protocol, made strict and made to remember.

aiosmtplib is a delivery library: it drops what a server says out of turn, takes any three characters that `int`
reads for a reply code, looks only at the last chunk to see whether a reply is complete, and does not tell a FIN
from a RST. Here every byte passes `replies.ReplyReader` first, and the protocol is told of one whole reply at a
time, when it waits for one.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiosmtplib.errors import SMTPException
from aiosmtplib.protocol import SMTPProtocol

from scanner.records import Failure
from scanner.replies import MalformedReplyError, Reply, ReplyReader

Transcript = Callable[[str, str], None]
"""Gets "C" or "S" and one line of theirs, or "*" and a remark of ours; for `--verbose`."""

SHUTTING_DOWN = 421
"""The one reply that a server may send unasked (RFC 5321 section 3.8)."""

OS_FAILURES = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,
    errno.EPIPE: Failure.RESET,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.ENETUNREACH: Failure.UNREACHABLE,
    errno.EHOSTDOWN: Failure.UNREACHABLE,
    errno.ENONET: Failure.UNREACHABLE,
    errno.ENOPROTOOPT: Failure.UNREACHABLE,  # ICMP protocol unreachable
    errno.EPROTO: Failure.UNREACHABLE,  # ICMPv6 parameter problem
    errno.EACCES: Failure.UNREACHABLE,  # ICMPv6 administratively prohibited
}
"""What the operating system says of the other side; the rest is ours: no sockets, no ports, a firewall here."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session cannot go on: the failure, and a few words for people."""

    failure: Failure
    detail: str


class SessionEnd(Exception):
    """Carries the ending out of whatever was waiting."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def lost(error: Exception | None) -> Ending:
    """How a session ends when its connection fails with `error`; None is a FIN."""
    if error is None:
        return Ending(Failure.CLOSED, "the server closed the connection")
    number = error.errno if isinstance(error, OSError) else None
    if number is None and isinstance(error, ConnectionError):
        number = errno.ECONNRESET
    return Ending(OS_FAILURES.get(number or 0, Failure.LOCAL), str(error) or type(error).__name__)


class Dialogue(SMTPProtocol):
    """One connection's protocol. `end` is set once it is over, and says how it ended from the other side.

    `source` is our own end, "address port". `octets_in` and `octets_out` count what went through this protocol,
    inside TLS once there is TLS.
    """

    def __init__(self, transcript: Transcript | None = None) -> None:
        super().__init__()
        self.end: Ending | None = None
        self.source: str | None = None
        self.octets_in = 0
        self.octets_out = 0
        self._transcript = transcript
        self._reader = ReplyReader()
        self._last: Reply | None = None
        self._waiting = True  # for the greeting

    # -------------------------------------------------------------------------------- what the connection does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.source = " ".join(str(part) for part in (transport.get_extra_info("sockname") or ())[:2])
        self.say("*", f"connected from {self.source}")

    def data_received(self, data: bytes) -> None:
        self.octets_in += len(data)
        self._reader.feed(data)
        if self._waiting and self.end is None:
            self._deliver()

    def eof_received(self) -> bool:
        self.fail(lost(None))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.end is None:
            self.end = lost(exc)
        super().connection_lost(exc)

    def fail(self, end: Ending) -> None:
        """Remember how it ended and wake whoever waits."""
        if self.end is None:
            self.end = end
            super().eof_received()

    # ------------------------------------------------------------------------------------------ what we do

    async def greeting(self, seconds: float) -> Reply:
        """The server's greeting, within `seconds`. Raises `SessionEnd`."""
        return await self._reply(self.read_response(), seconds)

    async def command(self, line: str, seconds: float) -> Reply:
        """Send a command and wait up to `seconds` for its whole reply. Raises `SessionEnd`.

        A reply that was there before the command answers nothing, and whatever came after it would be taken for
        the answer to something else: the dialogue is out of step. Only a 421 is the server's right.
        """
        early = self._next_reply()
        if early is not None:
            if early.code == SHUTTING_DOWN:
                return early
            self.fail(Ending(Failure.MALFORMED, f"out of turn: {early.code} {early.text}"))
        if self.end is not None:
            raise SessionEnd(self.end)
        self.say("C", line)
        return await self._reply(self.execute_command(line.encode()), seconds)

    def write(self, data: bytes) -> None:
        """Called by `execute_command`: from now on a reply is due, and the last one is history."""
        self._last = None
        self._waiting = True
        self.octets_out += len(data)
        super().write(data)

    def take_unread(self) -> bytes:
        """What the server sent beyond its last reply; forgotten here."""
        return self._reader.take_unread()

    async def _reply(self, wait: Awaitable[object], seconds: float) -> Reply:
        # A timer of our own sets `end`, so that every end of a session is told in one way.
        alarm = asyncio.get_running_loop().call_later(seconds, self._overdue, seconds)
        try:
            await wait
        except SMTPException as error:
            raise SessionEnd(self.end or lost(None)) from error
        finally:
            alarm.cancel()
        reply = self._delivered()
        if reply is None:  # after QUIT aiosmtplib takes the loss of the connection for a 221
            raise SessionEnd(self.end or lost(None))
        return reply

    def _overdue(self, seconds: float) -> None:
        self.fail(Ending(Failure.TIMEOUT, f"no reply in {seconds:g} s"))

    def _delivered(self) -> Reply | None:
        return self._last

    def _deliver(self) -> None:
        """Give the protocol the reply that it waits for, if it is complete."""
        reply = self._next_reply()
        if reply is not None:
            self._waiting = False
            self._last = reply
            super().data_received(b"%d \r\n" % reply.code)  # it needs no more to let the command return

    def _next_reply(self) -> Reply | None:
        try:
            reply = self._reader.next_reply()
        except MalformedReplyError as error:
            self.fail(Ending(Failure.MALFORMED, str(error)))
            return None
        if reply is not None and self._transcript is not None:
            for line in reply.lines[:-1]:
                self.say("S", f"{reply.code}-{line.decode('utf-8', 'backslashreplace')}")
            self.say("S", f"{reply.code} {reply.lines[-1].decode('utf-8', 'backslashreplace')}")
        return reply

    def say(self, who: str, text: str) -> None:
        """One line for the transcript, if there is one."""
        if self._transcript is not None:
            self._transcript(who, text)
