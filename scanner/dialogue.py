"""The SMTP dialogue over one connection: aiosmtplib's protocol, made strict and made to remember.

aiosmtplib is a delivery library: it drops what a server says out of turn, takes any three characters that `int`
reads for a reply code, and does not tell a FIN from a RST. Here every byte passes `replies.ReplyReader` first, and
the protocol is handed one whole reply at a time, when it waits for one. Replies that come early wait for the next
command, as they would on any stream.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiosmtplib.errors import SMTPException
from aiosmtplib.protocol import SMTPProtocol

from scanner.records import Failure
from scanner.replies import MalformedReplyError, Reply, ReplyReader

Transcript = Callable[[str, str], None]
"""Gets "C" or "S" and one line; for `--verbose`."""

LOST = {ConnectionResetError: Failure.RESET, BrokenPipeError: Failure.RESET, TimeoutError: Failure.TIMEOUT}


@dataclass(frozen=True, slots=True)
class SessionEnd(Exception):  # noqa: N818  not an error: how a dialogue ended
    """Why the dialogue cannot go on."""

    failure: Failure
    detail: str


class Dialogue(SMTPProtocol):
    """One connection's protocol. `end` is set once it is over, and says how it ended from the other side."""

    def __init__(self, transcript: Transcript | None = None) -> None:
        super().__init__()
        self.end: SessionEnd | None = None
        self._transcript = transcript
        self._reader = ReplyReader()
        self._early: deque[Reply] = deque()
        self._last: Reply | None = None
        self._waiting = True  # for the greeting

    # -------------------------------------------------------------------------------- what the connection does

    def data_received(self, data: bytes) -> None:
        if self.end is not None:
            return
        try:
            self._early.extend(self._reader.feed(data))
        except MalformedReplyError as error:
            self._over(SessionEnd(Failure.MALFORMED, str(error)))
            return
        self._deliver()

    def eof_received(self) -> bool:
        self._over(SessionEnd(Failure.CLOSED, "the connection was closed"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.end is None:
            failure = next((f for kind, f in LOST.items() if isinstance(exc, kind)), Failure.CLOSED)
            self.end = SessionEnd(failure, str(exc) if exc else "the connection was closed")
        super().connection_lost(exc)

    def fail(self, end: SessionEnd) -> None:
        """The layer below ended the dialogue: a TLS alert, say."""
        self._over(end)

    # ------------------------------------------------------------------------------------------ what we do

    async def greeting(self, seconds: float) -> Reply:
        """The server's greeting. Raises `SessionEnd`."""
        return await self._reply(lambda: self.read_response(seconds), seconds)

    async def command(self, line: str, seconds: float) -> Reply:
        """Send a command and wait for its reply. Raises `SessionEnd`."""
        if self.end is not None and self._early:  # said before it closed: a 421, mostly
            return self._early.popleft()
        self._say("C", line)
        return await self._reply(lambda: self.execute_command(line.encode(), timeout=seconds), seconds)

    def write(self, data: bytes) -> None:
        super().write(data)
        self._waiting = True
        self._deliver()

    def take_unread(self) -> bytes:
        """What the server sent that answers nothing; forgotten here."""
        unread = b"".join(reply.raw for reply in self._early) + self._reader.take_rest()
        self._early.clear()
        return unread

    async def _reply(self, wait: Callable[[], Awaitable[object]], seconds: float) -> Reply:
        self._last = None
        if self.end is not None and not self._early:
            raise self.end
        try:
            await wait()
        except SMTPException as error:
            raise self.end or SessionEnd(Failure.TIMEOUT, f"no reply in {seconds:g} s") from error
        return self._taken()

    def _taken(self) -> Reply:
        """The reply that the protocol was just handed; none means that the connection ended while it waited."""
        if self._last is None:
            raise self.end or SessionEnd(Failure.CLOSED, "the connection was closed")
        return self._last

    def _deliver(self) -> None:
        """Give the protocol the reply that it waits for, if there is one."""
        if self._waiting and self._early:
            self._waiting = False
            self._last = self._early.popleft()
            for text in self._last.raw.splitlines():
                self._say("S", text.decode("utf-8", "backslashreplace"))
            super().data_received(self._last.raw)

    def _over(self, end: SessionEnd) -> None:
        """Remember how it ended and wake whoever waits; replies that came before are still delivered."""
        if self.end is None:
            self.end = end
            super().eof_received()

    def _say(self, who: str, text: str) -> None:
        if self._transcript is not None:
            self._transcript(who, text)
