"""One attempt at an endpoint: connect, greeting, EHLO, STARTTLS, handshake, EHLO again, QUIT.

    connect -> greeting -> ehlo -> starttls -> handshake -> ehlo-after-tls -> quit

Whatever the server does ends as an `Observation`: the stage that was entered last, a failure or none, and all that
was seen on the way. Nothing is sent but EHLO, STARTTLS and QUIT (RFC 5321, RFC 3207).
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from OpenSSL import SSL

from scanner.client_auth import HandshakeEnd, decide
from scanner.dialogue import Dialogue, SessionEnd, Transcript
from scanner.records import Endpoint, Failure, Observation, Stage, Status
from scanner.replies import Reply
from scanner.tls import TlsLayer, client_context

QUIT_SECONDS = 5.0
VERDICT_SECONDS = 0.5
"""How long a TLS 1.3 server that asked for a certificate may take to say no before we speak: an EHLO that crosses
its alert would make its kernel reset the connection, and the alert would be lost with it.
"""

MAX_TEXT = 1000
MAX_KEYWORDS = 100

CONNECT_FAILURES = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.ENETUNREACH: Failure.UNREACHABLE,
    errno.EHOSTDOWN: Failure.UNREACHABLE,
    errno.ENETDOWN: Failure.UNREACHABLE,
    errno.EACCES: Failure.UNREACHABLE,  # a firewall's "administratively prohibited"
    errno.EPERM: Failure.UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How every session of a scan behaves; `timeout`, in seconds, bounds the connect and each reply."""

    ehlo_name: str
    timeout: float = 60.0
    context: SSL.Context = field(default_factory=client_context)
    transcript: Callable[[Endpoint], Transcript] | None = None


@dataclass(slots=True)
class _Facts:
    """What has been seen so far; becomes the Observation."""

    started_at: datetime
    stage: Stage = Stage.CONNECT
    greeting: str | None = None
    keywords: tuple[str, ...] = ()
    ehlo_greeting: str | None = None
    starttls_offered: bool | None = None
    injected: bool = False
    refusal: Reply | None = None
    greeted_again: bool = False
    tls: TlsLayer | None = None


async def observe(
    endpoint: Endpoint, attempt: int, settings: SessionSettings, now: Callable[[], datetime]
) -> Observation:
    """Contact an endpoint once. Only cancellation is raised; everything else is in the Observation."""
    facts = _Facts(started_at=now())
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await _session(endpoint, settings, facts)
        end = None
    except SessionEnd as error:
        end = error
    except Exception as error:  # noqa: BLE001  a fault of ours must never read as the server's
        end = SessionEnd(Failure.LOCAL, f"{type(error).__name__}: {error}")
    return _observation(endpoint, attempt, facts, end, round((loop.time() - began) * 1000))


async def _session(endpoint: Endpoint, settings: SessionSettings, facts: _Facts) -> None:
    transcript = settings.transcript(endpoint) if settings.transcript else None
    raw, dialogue = await _connect(endpoint, settings.timeout, transcript)
    try:
        try:
            await _until_starttls(dialogue, settings, facts)
        except SessionEnd as end:
            if end.failure in {Failure.NEGATIVE_REPLY, Failure.NOT_OFFERED}:
                await _quit(dialogue)
            raise
        await _over_tls(endpoint, raw, dialogue, settings, facts)
    finally:
        _close(raw, dialogue)


async def _connect(
    endpoint: Endpoint, seconds: float, transcript: Transcript | None
) -> tuple[asyncio.Transport, Dialogue]:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ipaddress.ip_address(endpoint.address).version == 6 else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SessionEnd(Failure.LOCAL, str(error)) from error
    sock.setblocking(False)
    try:
        async with asyncio.timeout(seconds):
            await loop.sock_connect(sock, (endpoint.address, endpoint.port))
        return await loop.create_connection(lambda: Dialogue(transcript), sock=sock)
    except TimeoutError as error:
        sock.close()
        raise SessionEnd(Failure.TIMEOUT, f"no connection in {seconds:g} s") from error
    except OSError as error:
        sock.close()
        raise SessionEnd(
            CONNECT_FAILURES.get(error.errno or 0, Failure.LOCAL), error.strerror or str(error)
        ) from error
    except BaseException:
        sock.close()
        raise


async def _until_starttls(dialogue: Dialogue, settings: SessionSettings, facts: _Facts) -> None:
    facts.stage = Stage.GREETING
    greeting = await dialogue.greeting(settings.timeout)
    facts.greeting = _text(greeting.text)
    _expect(greeting, 220, facts)
    facts.stage = Stage.EHLO
    reply = await dialogue.command(f"EHLO {settings.ehlo_name}", settings.timeout)
    _expect(reply, 250, facts)
    facts.ehlo_greeting, facts.keywords = _ehlo(reply)
    facts.starttls_offered = any(line.split(" ")[0].upper() == "STARTTLS" for line in facts.keywords)
    if not facts.starttls_offered:
        raise SessionEnd(Failure.NOT_OFFERED, "STARTTLS is not among the EHLO keywords")
    facts.stage = Stage.STARTTLS
    _expect(await dialogue.command("STARTTLS", settings.timeout), 220, facts)


async def _over_tls(
    endpoint: Endpoint, raw: asyncio.Transport, dialogue: Dialogue, settings: SessionSettings, facts: _Facts
) -> None:
    facts.stage = Stage.HANDSHAKE
    facts.injected = bool(dialogue.take_unread())
    if dialogue.end is not None:
        raise _not_tls(dialogue.end) if facts.injected else dialogue.end
    tls = facts.tls = TlsLayer(settings.context, _server_name(endpoint), raw)
    try:
        async with asyncio.timeout(settings.timeout):
            await tls.handshake()
    except TimeoutError as error:
        end = SessionEnd(Failure.TIMEOUT, f"no handshake in {settings.timeout:g} s")
        raise (_not_tls(end) if facts.injected and not tls.received else end) from error
    if tls.end is not None:
        raise _not_tls(tls.end) if facts.injected and not tls.received else tls.end
    if tls.requested and tls.version() == "TLSv1.3":
        await _verdict(tls)
    facts.stage = Stage.EHLO_AFTER_TLS
    tls.carry(dialogue)
    reply = await dialogue.command(f"EHLO {settings.ehlo_name}", settings.timeout)
    _expect(reply, 250, facts)
    facts.greeted_again = True
    facts.stage = Stage.QUIT
    await _quit(dialogue)


async def _verdict(tls: TlsLayer) -> None:
    """Give a TLS 1.3 server a moment to accept (it sends session tickets) or refuse our lack of a certificate."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(VERDICT_SECONDS):
            await tls.heard.wait()


async def _quit(dialogue: Dialogue) -> None:
    """QUIT and wait for the 221; how that ends is nobody's failure."""
    with contextlib.suppress(SessionEnd):
        await dialogue.command("QUIT", QUIT_SECONDS)


def _close(raw: asyncio.Transport, dialogue: Dialogue) -> None:
    transport = dialogue.transport
    if isinstance(transport, asyncio.Transport):
        transport.close()
    raw.close()


def _expect(reply: Reply, code: int, facts: _Facts) -> None:
    if reply.code == code:
        return
    if reply.code >= 400:
        facts.refusal = reply
        raise SessionEnd(Failure.NEGATIVE_REPLY, _text(f"{reply.code} {reply.text}"))
    raise SessionEnd(Failure.MALFORMED, _text(f"expected {code}, got {reply.code} {reply.text}"))


def _ehlo(reply: Reply) -> tuple[str, tuple[str, ...]]:
    """The text of the first line, and the keywords with their parameters (RFC 5321 section 4.1.1.1)."""
    first, *rest = reply.text.split("\n")
    return _text(first), tuple(_text(line.strip()) for line in rest[:MAX_KEYWORDS] if line.strip())


def _not_tls(end: SessionEnd) -> SessionEnd:
    """The server spoke after its 220, but not TLS."""
    return SessionEnd(Failure.TLS_PROTOCOL, f"plain text instead of TLS; {end.detail}")


def _server_name(endpoint: Endpoint) -> str | None:
    """server_name is a host name (RFC 6066 section 3), never an address."""
    try:
        ipaddress.ip_address(endpoint.mx_host)
    except ValueError:
        return endpoint.mx_host
    return None


def _text(text: str) -> str:
    return text[:MAX_TEXT]


def _observation(
    endpoint: Endpoint, attempt: int, facts: _Facts, end: SessionEnd | None, duration_ms: int
) -> Observation:
    tls = facts.tls
    presented = tls.certificate_list() if tls is not None else ()
    negotiated = bool(presented) or (tls is not None and tls.completed)
    refusal = facts.refusal
    return Observation(
        endpoint=endpoint,
        attempt=attempt,
        status=Status.MEASURED if presented else Status.FAILED,
        stage=facts.stage,
        failure=end.failure if end else None,
        started_at=facts.started_at,
        duration_ms=duration_ms,
        reply_code=refusal.code if refusal else None,
        detail=_text(end.detail) if end else "",
        greeting=facts.greeting,
        ehlo_greeting=facts.ehlo_greeting,
        ehlo_keywords=facts.keywords,
        starttls_offered=facts.starttls_offered,
        injected_plaintext=facts.injected,
        tls_version=tls.version() if tls is not None and negotiated else None,
        cipher_suite=tls.cipher_suite() if tls is not None and negotiated else None,
        group=tls.group() if tls is not None and negotiated else None,
        certificate_list=presented,
        client_auth=decide(_handshake_end(facts, end)),
        client_ca_names=tls.client_ca_names() if tls is not None else None,
    )


def _handshake_end(facts: _Facts, end: SessionEnd | None) -> HandshakeEnd:
    tls = facts.tls
    if tls is None:
        return HandshakeEnd(completed=False, requested=False)
    refusal = facts.refusal
    return HandshakeEnd(
        completed=tls.completed,
        requested=tls.requested,
        finished_sent=tls.finished_sent or tls.completed,
        alert=tls.alert,
        closed_cleanly=end is not None and end.failure is Failure.CLOSED,
        code=refusal.code if refusal else None,
        text=refusal.text if refusal else "",
        greeted_again=facts.greeted_again,
    )
