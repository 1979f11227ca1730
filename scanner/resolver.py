"""The DNS edge: questions out over a few shared UDP sockets, answers in, nothing that a server does raises.

Every socket is connected to one recursive resolver, so the kernel drops what others send; a message counts only if
its random ID belongs to a question on its way and it echoes that question. A truncated answer is asked for again
over TCP (RFC 7766). A question without an answer goes to the next resolver; SERVFAIL and its like go there once. A
lookup is a small object moved by callbacks, without a task of its own: a census asks hundreds of millions of them.
"""

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import dns.resolver

from scanner import dnswire
from scanner.records import Answer, AnswerStatus

CACHED = 50_000
"""Addresses remembered: an MX host of a million domains is asked for once."""

TCP_BYTES = 65_535
NO_ANSWER = Answer(AnswerStatus.NO_ANSWER, None)


class NoResolver(ValueError):  # the message is what a person reads
    """There is no resolver to ask; the message is one line."""


def servers_from_system() -> list[tuple[str, int]]:
    """The resolvers of this machine's configuration. Raises `NoResolver`."""
    try:
        found = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        raise NoResolver("the system names no DNS resolver: give one with --resolver") from None
    servers = [(str(server), found.port) for server in found.nameservers]
    if not servers:
        raise NoResolver("the system names no DNS resolver: give one with --resolver")
    return servers


class _Lookup:
    """One question until its future is done."""

    __slots__ = ("channel", "failed", "future", "key", "query", "timer", "tried")

    def __init__(self, key: tuple[str, str], future: asyncio.Future[Answer]) -> None:
        self.key = key
        self.future = future
        self.tried = 0
        self.failed: Answer | None = None
        self.query: dnswire.Query | None = None
        self.channel: _Channel | None = None
        self.timer: asyncio.TimerHandle | None = None


class _Channel(asyncio.DatagramProtocol):
    """One socket to one resolver, and the lookups that wait on it by ID."""

    def __init__(self, resolver: "Resolver", server: tuple[str, int]) -> None:
        self.server = server
        self.waiting: dict[int, _Lookup] = {}
        self.transport: asyncio.DatagramTransport | None = None
        self._resolver = resolver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # what create_datagram_endpoint makes

    def datagram_received(self, data: bytes, _addr: object) -> None:
        number = dnswire.number_of(data)
        lookup = self.waiting.get(number) if number is not None else None
        if lookup is not None and lookup.query is not None and dnswire.answers(lookup.query, data):
            self._resolver.received(lookup, data)

    def error_received(self, _exc: Exception) -> None:
        """Nobody listens there: every question on this socket goes to the next resolver now."""
        for lookup in list(self.waiting.values()):
            self._resolver.unanswered(lookup)


class Resolver:
    """Asks recursive resolvers. An async context manager; `seconds` bounds each try."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        *,
        seconds: float = 5.0,
        tries: int = 3,
        in_flight: int = 500,
        sockets: int = 4,
    ) -> None:
        self._servers = list(servers)
        self._seconds = seconds
        self._tries = tries
        self._free = in_flight
        self._sockets = sockets
        self._channels: list[list[_Channel]] = []
        self._asked: dict[tuple[str, str], asyncio.Future[Answer]] = {}
        self._queue: deque[_Lookup] = deque()
        self._cache: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.SystemRandom()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for server in self._servers:
            channels = []
            for _ in range(self._sockets):
                channel = _Channel(self, server)
                await loop.create_datagram_endpoint(lambda channel=channel: channel, remote_addr=server)  # type: ignore[misc]
                channels.append(channel)
            self._channels.append(channels)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for channels in self._channels:
            for channel in channels:
                for lookup in list(channel.waiting.values()):
                    self._forget(lookup)
                if channel.transport is not None:
                    channel.transport.close()
        for future in self._asked.values():
            future.cancel()

    async def query(self, name: str, kind: str) -> Answer:
        """The answer to one question; `kind` is `MX`, `A`, `AAAA`, `TLSA` or `TXT`."""
        return await self._ask((name, kind))

    async def query_many(self, questions: Sequence[tuple[str, str]]) -> Sequence[Answer]:
        """The answers to questions that are asked at once, in their order."""
        return [await future for future in [self._ask(question) for question in questions]]

    def _ask(self, key: tuple[str, str]) -> asyncio.Future[Answer]:
        """A future of the answer; the same question is on its way only once."""
        future = self._asked.get(key)
        if future is not None:
            return asyncio.shield(future)
        future = asyncio.get_running_loop().create_future()
        cached = self._cache.get(key)
        if cached is not None:
            self._cache.move_to_end(key)
            future.set_result(cached)
            return future
        self._asked[key] = future
        lookup = _Lookup(key, future)
        if self._free:
            self._free -= 1
            self._send(lookup)
        else:
            self._queue.append(lookup)
        return asyncio.shield(future)

    # ------------------------------------------------------------------------------- the life of a lookup

    def received(self, lookup: _Lookup, data: bytes) -> None:
        """A message answers the question; one that cannot be read is ignored, as if it had not come."""
        assert lookup.query is not None
        if dnswire.is_truncated(data):
            channel, query = lookup.channel, lookup.query
            self._forget(lookup)
            assert channel is not None
            task = asyncio.ensure_future(self._over_tcp(lookup, query, channel.server))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        try:
            answer = dnswire.read(lookup.query, data)
        except dnswire.BadMessage:
            return
        self._forget(lookup)
        self._answered(lookup, answer)

    def unanswered(self, lookup: _Lookup) -> None:
        """The try is over: the next resolver, or the end."""
        self._forget(lookup)
        lookup.tried += 1
        if lookup.tried < self._tries:
            self._send(lookup)
        else:
            self._finish(lookup, lookup.failed or NO_ANSWER)

    def _send(self, lookup: _Lookup) -> None:
        """Ask the resolver whose turn it is, from one of its sockets, under an ID that is free there."""
        channels = self._channels[lookup.tried % len(self._channels)]
        channel = self._random.choice(channels)
        number = self._random.getrandbits(16)
        while number in channel.waiting:
            number = self._random.getrandbits(16)
        try:
            lookup.query = dnswire.make_query(number, *lookup.key)
        except ValueError:
            self._finish(lookup, NO_ANSWER)
            return
        lookup.channel = channel
        channel.waiting[number] = lookup
        lookup.timer = asyncio.get_running_loop().call_later(self._seconds, self.unanswered, lookup)
        if channel.transport is not None and not channel.transport.is_closing():
            channel.transport.sendto(dnswire.to_wire(lookup.query))

    def _forget(self, lookup: _Lookup) -> None:
        """The try under way is over."""
        if lookup.timer is not None:
            lookup.timer.cancel()
            lookup.timer = None
        if lookup.channel is not None and lookup.query is not None:
            lookup.channel.waiting.pop(lookup.query.number, None)
            lookup.channel = None

    def _answered(self, lookup: _Lookup, answer: Answer) -> None:
        if answer.status is AnswerStatus.FAILED and lookup.failed is None and len(self._channels) > 1:
            lookup.failed = answer
            lookup.tried += 1
            self._send(lookup)
            return
        self._finish(lookup, answer)

    def _finish(self, lookup: _Lookup, answer: Answer) -> None:
        self._asked.pop(lookup.key, None)
        if lookup.key[1] in {"A", "AAAA"} and answer.status is not AnswerStatus.NO_ANSWER:
            self._cache[lookup.key] = answer
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        if not lookup.future.done():
            lookup.future.set_result(answer)
        if self._queue:
            self._send(self._queue.popleft())
        else:
            self._free += 1

    async def _over_tcp(self, lookup: _Lookup, query: dnswire.Query, server: tuple[str, int]) -> None:
        answer = None
        try:
            async with asyncio.timeout(self._seconds):
                answer = await _tcp_answer(query, server)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, dnswire.BadMessage):
            pass
        if answer is not None:
            self._answered(lookup, answer)
        else:
            self.unanswered(lookup)


async def _tcp_answer(query: dnswire.Query, server: tuple[str, int]) -> Answer | None:
    """One question over a TCP connection of its own (RFC 1035 section 4.2.2)."""
    reader, writer = await asyncio.open_connection(*server, limit=TCP_BYTES)
    try:
        wire = dnswire.to_wire(query)
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        message = await reader.readexactly(length)
    finally:
        writer.close()
    return dnswire.read(query, message) if dnswire.answers(query, message) else None
