"""Every software as a client: it is given a message to relay, and what it presents to `mxcensus listen` is seen."""

import asyncio
import contextlib
import smtplib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from lab.mta.listener import Credential, Relay, ServerError
from lab.mta.listener import Listener as LabListener
from lab.mta.process import free_port, loopback_prefix
from matrix.results import CLIENT, NOTHING, OTHER, SERVER
from matrix.servers import EHLO_NAME, MODULES, started
from mxcensus.listening import context_for
from mxcensus.steps import now
from scanner.listener import ClientSession, Listener, ListenSettings
from scanner.records import Endpoint
from scanner.session import SessionSettings, observe

SECONDS = 15.0
MESSAGE = "From: <one@example.org>\r\nTo: <two@example.com>\r\nSubject: a test\r\n\r\nText\r\n"


@dataclass(frozen=True, slots=True)
class Presented:
    """What a software presented as a client, and whether it presented its server's certificate as a server."""

    as_client: str
    server_kept: bool


async def presented(name: str, server: Credential, client: Credential | None) -> Presented:
    """Start a software with a certificate for the server's role, and for the client's if `client` is given."""
    address = f"{loopback_prefix()}.1"
    own = LabListener("relay.example.org", address, free_port(address), (server,))
    session = None
    async with _listening() as (port, sessions):
        relay = Relay("127.0.0.1", port, client)
        async with started(MODULES[name].running([own], relay=relay)) as running:
            seen = await observe(Endpoint(own.name, address, own.port), 1, SessionSettings(EHLO_NAME), now)
            await asyncio.to_thread(_submit, running, own)
            with contextlib.suppress(TimeoutError):
                session = await _first_with_tls(sessions)
        if session is None:  # some keep a session open for the next message, until they are stopped
            session = await _first_with_tls(sessions)
    listed = session.certificate_list
    known = {server.certificate_list[0]: SERVER, **({client.certificate_list[0]: CLIENT} if client else {})}
    as_client = known.get(listed[0], OTHER) if listed else NOTHING
    return Presented(as_client, seen.certificate_list[:1] == server.certificate_list[:1])


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[tuple[int, "asyncio.Queue[ClientSession]"]]:
    """`listen` at a free port; every session that ends comes out of the queue."""
    sessions: asyncio.Queue[ClientSession] = asyncio.Queue()
    settings = ListenSettings("count.example.net", "the software matrix")
    listener = Listener(settings, context_for(None, "count.example.net"), sessions.put, now)
    port = await listener.start("127.0.0.1", 0)
    await listener.serve()
    try:
        yield port, sessions
    finally:
        await listener.stop()


async def _first_with_tls(sessions: "asyncio.Queue[ClientSession]") -> ClientSession:
    async with asyncio.timeout(SECONDS):
        while (session := await sessions.get()).tls_version is None:
            pass
        return session


def _submit(running: Any, listener: LabListener) -> None:
    """Hand in a message: by the software's own command where it has one here, else by SMTP."""
    if hasattr(running, "submit"):
        running.submit(MESSAGE)
        return
    try:
        with smtplib.SMTP(listener.address, listener.port, "localhost", timeout=SECONDS) as client:
            client.sendmail("one@example.org", ["two@example.com"], MESSAGE)
    except smtplib.SMTPException as error:
        raise ServerError(f"{listener.name} took no message: {error}") from error
