"""The DNS edge: questions in, an `Answer` each; nothing that a server does raises.

A truncated answer is asked for again over TCP (RFC 7766). A question without an answer goes to the next server, as
often as `tries` allows; one that a server failed to answer (SERVFAIL, REFUSED ...) goes to the next server once. A
message that is malformed ends a try; one that answers something else is ignored. The IDs of earlier tries stay
valid until the question is done, so that a slow server is heard after all.

A census asks hundreds of millions of questions, so one is a small object moved by callbacks, without a task or a
timer of its own: all tries take equally long, and the oldest is the next to expire. The same question is on its way
once, however many ask it, and what addresses a host has is remembered for a while.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import dns.resolver

from scanner import dnswire
from scanner.dnsserver import NoResolver, Pending, Server
from scanner.records import Answer, AnswerStatus

REMEMBERED = frozenset({"A", "AAAA", "TLSA"})
"""Types asked for MX hosts, which serve many domains; MX and TXT, asked once a domain, would fill the cache."""

KEPT_SECONDS = 3600.0
KEPT_FAILED_SECONDS = 60.0
"""How long an answer is remembered; a failure too, or a dead name server would be waited for again and again."""

RETRY_PAUSE = 0.2
"""Seconds before a server that cannot be reached is asked again."""

SILENT_TRIES = 10
"""After so many tries in a row without an answer, other servers are asked first."""

IDENTS = 16_384
"""Questions on one socket at most: IDs must stay hard to guess, and easy to find."""

_NO_ANSWER = Answer(AnswerStatus.NO_ANSWER, None)
_UNNAMED = "the system names no DNS resolver: give one with --resolver"


def servers_from_system() -> list[tuple[str, int]]:
    """(address, port) of the resolvers that the system is configured with. Raises `NoResolver`."""
    try:
        found = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        raise NoResolver(_UNNAMED) from None
    servers = [(server, found.port) for server in found.nameservers if isinstance(server, str)]
    if not servers:
        raise NoResolver(_UNNAMED)
    return servers


class _Batch:
    """The questions of one `query_many`: their answers, and a future for the last of them."""

    __slots__ = ("answers", "done", "left")

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.answers: list[Answer] = [_NO_ANSWER] * size
        self.left = size
        self.done = done

    def put(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class _Lookup(Pending):
    """One question until it is done. `server` was asked last, `failed` is a failure that another may mend."""

    __slots__ = ("done", "failed", "in_tcp", "key", "server", "tries", "waiters")

    def __init__(self, key: tuple[str, str], asked: dnswire.Question) -> None:
        super().__init__(asked)
        self.key = key
        self.waiters: list[tuple[_Batch, int]] = []
        self.server: Server[_Lookup] | None = None
        self.tries = 0
        self.failed: Answer | None = None
        self.in_tcp = self.done = False


class _Memory:
    """Answers about MX hosts, the ones used last, each for its time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[tuple[str, str], tuple[Answer, float]] = OrderedDict()

    def get(self, key: tuple[str, str], now: float) -> Answer | None:
        found = self._answers.get(key)
        if found is None or found[1] <= now:
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: tuple[str, str], answer: Answer, now: float) -> None:
        if key[1] not in REMEMBERED:
            return
        failed = answer.status in (AnswerStatus.FAILED, AnswerStatus.NO_ANSWER)
        self._answers[key] = answer, now + (KEPT_FAILED_SECONDS if failed else KEPT_SECONDS)
        self._answers.move_to_end(key)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)


class Resolver:
    """Asks recursive resolvers; an async context manager, bound to the event loop that enters it.

    `servers` are (address, port), IPv4 or IPv6, the first preferred. `timeout` is the seconds that one try may
    take, `tries` how often a question is sent at most, `in_flight` how many are on their way at once (others wait),
    `sockets` how many there are to each server, each on a port of its own (RFC 5452 section 9.2), and `remembered`
    how many answers about MX hosts are kept. Raises `NoResolver` on entering where a server is no address.
    """

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        *,
        timeout: float = 5.0,
        tries: int = 3,
        in_flight: int = 500,
        sockets: int = 4,
        remembered: int = 50_000,
    ) -> None:
        if not servers:
            raise NoResolver("no DNS resolver to ask")
        self._servers = [
            Server[_Lookup](index, host, port, self._heard, self._broken)
            for index, (host, port) in enumerate(servers)
        ]
        self._timeout, self._tries, self._sockets = timeout, tries, sockets
        self._free = min(in_flight, IDENTS * sockets)
        self._memory = _Memory(remembered)
        self._asked: dict[tuple[str, str], _Lookup] = {}
        self._queue: deque[_Lookup] = deque()
        self._deadlines: OrderedDict[_Lookup, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            for server in self._servers:
                server.open(self._sockets)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all sockets; whoever still waits for an answer is cancelled."""
        self._close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def datagrams(self) -> tuple[int, int]:
        """How many were sent to servers, and how many came that answered nothing on its way."""
        return sum(server.sent for server in self._servers), sum(server.ignored for server in self._servers)

    async def query(self, name: str, rdtype: str) -> Answer:
        """The answer to one question; see `query_many`."""
        (answer,) = await self.query_many([(name, rdtype)])
        return answer

    async def query_many(self, questions: Sequence[tuple[str, str]]) -> Sequence[Answer]:
        """The answers to (name, type) questions, in their order; all are on their way at once.

        Types are those of `dnswire.TYPES`; ValueError for others. A name that cannot be one has no answer.
        """
        if self._loop is None:
            raise RuntimeError("a Resolver is used inside `async with`")
        batch = _Batch(len(questions), self._loop.create_future())
        now = self._loop.time()
        for index, (name, rdtype) in enumerate(questions):
            key = name.lower().removesuffix("."), rdtype
            answer = self._memory.get(key, now)
            if answer is None:
                self._ask(key, batch, index)
            else:
                batch.put(index, answer)
        if batch.left:
            await batch.done
        return batch.answers

    # ------------------------------------------------------------------------------------- the life of a lookup

    def _ask(self, key: tuple[str, str], batch: _Batch, index: int) -> None:
        """Let a batch wait for an answer; the same question is on its way only once."""
        lookup = self._asked.get(key)
        if lookup is not None:
            lookup.waiters.append((batch, index))
            return
        try:
            asked = dnswire.question(*key)
        except ValueError:
            if key[1] not in dnswire.TYPES:
                raise
            batch.put(index, _NO_ANSWER)
            return
        lookup = self._asked[key] = _Lookup(key, asked)
        lookup.waiters.append((batch, index))
        if self._free:
            self._free -= 1
            self._try(lookup)
        else:
            self._queue.append(lookup)

    def _try(self, lookup: _Lookup) -> None:
        """Ask the server whose turn it is."""
        if lookup.done or self._loop is None:
            return
        server = self._next_server(lookup.server)
        lookup.server, lookup.in_tcp = server, False
        self._expire_later(lookup, self._loop)
        server.send(lookup)

    def _heard(self, server: Server[_Lookup], lookup: _Lookup, message: bytes) -> None:
        """A message that answers the question came over UDP from a server that was asked."""
        server.silent = 0
        if not dnswire.is_truncated(message):
            self._read(server, lookup, message)
        elif not lookup.in_tcp and self._loop is not None:
            lookup.in_tcp = True
            self._expire_later(lookup, self._loop)
            task = self._loop.create_task(self._over_tcp(server, lookup))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _over_tcp(self, server: Server[_Lookup], lookup: _Lookup) -> None:
        tries, message = lookup.tries, None
        try:
            async with asyncio.timeout(self._timeout):
                message = await server.ask_over_tcp(lookup.asked)
        except TimeoutError:
            pass
        if message is not None and not lookup.done:
            self._read(server, lookup, message)
        elif lookup.tries == tries:
            self._broken(server, [lookup])

    def _read(self, server: Server[_Lookup], lookup: _Lookup, message: bytes) -> None:
        try:
            answer = dnswire.read(lookup.asked, message)
        except dnswire.Malformed:
            self._broken(server, [lookup])
            return
        if answer.status is AnswerStatus.FAILED and lookup.failed is None and len(self._servers) > 1:
            lookup.failed = answer
            self._try(lookup)
        else:
            self._finish(lookup, answer)

    def _broken(self, server: Server[_Lookup], lookups: Sequence[_Lookup]) -> None:
        """The tries of lookups that went to this server are over before their time."""
        pause = RETRY_PAUSE if len(self._servers) == 1 else 0
        for lookup in lookups:
            if lookup.server is server and lookup in self._deadlines:
                self._try_again(server, lookup, pause)

    def _expire_later(self, lookup: _Lookup, loop: asyncio.AbstractEventLoop) -> None:
        """Give a try its whole time from now on."""
        self._deadlines[lookup] = loop.time() + self._timeout
        self._deadlines.move_to_end(lookup)
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire)

    def _expire(self) -> None:
        """End the tries whose time is up; they stand in the order of their deadlines."""
        self._timer = None
        while self._deadlines and self._loop is not None:
            lookup, deadline = next(iter(self._deadlines.items()))
            if deadline > self._loop.time():
                self._timer = self._loop.call_at(deadline, self._expire)
                return
            if lookup.server is not None:
                self._try_again(lookup.server, lookup, 0)

    def _try_again(self, server: Server[_Lookup], lookup: _Lookup, pause: float) -> None:
        """A try brought nothing: the next one, or the end."""
        server.silent += 1
        lookup.tries += 1
        del self._deadlines[lookup]
        if lookup.failed is not None or lookup.tries >= self._tries:
            self._finish(lookup, lookup.failed or _NO_ANSWER)
        elif self._loop is not None:
            self._loop.call_later(pause, self._try, lookup)

    def _finish(self, lookup: _Lookup, answer: Answer) -> None:
        lookup.done = True
        lookup.forget()
        self._deadlines.pop(lookup, None)
        del self._asked[lookup.key]
        if self._loop is not None:
            self._memory.put(lookup.key, answer, self._loop.time())
        for batch, index in lookup.waiters:
            batch.put(index, answer)
        if self._queue:
            self._try(self._queue.popleft())
        else:
            self._free += 1

    def _next_server(self, last: Server[_Lookup] | None) -> Server[_Lookup]:
        """The server after the one asked last; at first the first that is not known to be silent."""
        if last is not None:
            return self._servers[(last.index + 1) % len(self._servers)]
        return next((server for server in self._servers if server.silent < SILENT_TRIES), self._servers[0])

    def _close(self) -> None:
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        for server in self._servers:
            server.close()
        for lookup in self._asked.values():
            lookup.done = True
            for batch, _ in lookup.waiters:
                batch.done.cancel()
