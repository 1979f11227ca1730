"""One attempt at an endpoint: connect, greeting, EHLO, STARTTLS, handshake, EHLO again, QUIT.

    connect -> greeting -> ehlo -> starttls -> handshake -> ehlo-after-tls -> quit

Whatever the server does ends as an `Observation`: the stage that was entered last, a failure or none, and all that
was seen on the way. Nothing is sent but EHLO, STARTTLS and QUIT (RFC 5321, RFC 3207).
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from OpenSSL import SSL

from scanner.client_auth import HandshakeEnd, decide
from scanner.dialogue import Dialogue, Ending, SessionEnd, Transcript, lost
from scanner.records import Endpoint, Failure, Observation, Stage, Status
from scanner.replies import Reply
from scanner.tls import ClientCertificate, TlsLayer, client_context

VERDICT_SECONDS = 0.5
"""How long a server that asked for a certificate may take to say no before we speak: an EHLO that crosses its close
makes its kernel reset the connection, and what it said last may be lost with it (docs/decisions/0022)."""

MOST_TIMEOUTS = 5
"""A session as a whole may take this many timeouts, unless settings say otherwise."""

MAX_TEXT = 1000
"""Characters kept of each text that a server wrote; a reply as a whole is bounded by `scanner.replies`."""

MAX_KEYWORDS = 100


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How every session of a scan behaves; times in seconds.

    `timeout` bounds the connect, the greeting, each reply and the handshake; `quit_timeout` the wait for the 221;
    `total_timeout` the session, by default five timeouts. `source_address` is the local address of its own family.
    `transcript` gives the listener to one endpoint's dialogue. `client_certificate` is presented where a server
    asks; a key that does not belong to it raises `OpenSSL.SSL.Error` here. With a `key_type` (`rsa` or `ec`)
    only certificates of that type are asked for.
    """

    ehlo_name: str
    timeout: float = 60.0
    quit_timeout: float = 5.0
    total_timeout: float | None = None
    source_address: str | None = None
    transcript: Callable[[Endpoint], Transcript] | None = None
    client_certificate: ClientCertificate | None = None
    key_type: str | None = None
    context: SSL.Context = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        context = client_context(self.client_certificate, self.key_type)  # one for all sessions
        object.__setattr__(self, "context", context)


@dataclass(slots=True)
class _Facts:
    """What has been seen so far; becomes the Observation."""

    endpoint: Endpoint
    attempt: int
    started_at: datetime
    stage: Stage = Stage.CONNECT
    greeting: str | None = None
    ehlo_greeting: str | None = None
    keywords: tuple[str, ...] = ()
    keywords_after_tls: tuple[str, ...] = ()
    starttls_offered: bool | None = None
    refusal: Reply | None = None
    greeted_again: bool = False
    tls: TlsLayer | None = None
    dialogue: Dialogue | None = None


async def observe(
    endpoint: Endpoint, attempt: int, settings: SessionSettings, now: Callable[[], datetime]
) -> Observation:
    """Contact an endpoint once. Only cancellation is raised; everything else is in the Observation."""
    facts, end = _Facts(endpoint, attempt, now()), None
    loop = asyncio.get_running_loop()
    began = loop.time()
    total = settings.total_timeout or MOST_TIMEOUTS * settings.timeout
    try:
        async with asyncio.timeout(total):
            await _session(settings, facts)
    except SessionEnd as error:
        end = error.ending
    except TimeoutError:
        end = Ending(Failure.TIMEOUT, f"a session of more than {total:g} s")
    except Exception as error:  # noqa: BLE001  a fault of ours must never read as the server's
        end = Ending(Failure.LOCAL, f"{type(error).__name__}: {error}")
    return _observation(facts, end, round((loop.time() - began) * 1000))


# ------------------------------------------------------------------------------------------------ the stages


async def _session(settings: SessionSettings, facts: _Facts) -> None:
    transport, dialogue = await _connect(facts, settings)
    facts.dialogue = dialogue
    try:
        await _until_starttls(dialogue, settings, facts)
        await _over_tls(transport, dialogue, settings, facts)
    except SessionEnd as end:
        if end.ending.failure in {Failure.NEGATIVE_REPLY, Failure.NOT_OFFERED}:
            await _quit(dialogue, settings)
        raise
    finally:
        if facts.tls is not None:
            facts.tls.close()
        transport.close()


async def _connect(facts: _Facts, settings: SessionSettings) -> tuple[asyncio.Transport, Dialogue]:
    """Dial the address itself, never a name; the greeting is not waited for, so it is a stage of its own."""
    endpoint = facts.endpoint
    transcript = settings.transcript(endpoint) if settings.transcript else None
    source = settings.source_address
    local = (source, 0) if source is not None and _family(source) is _family(endpoint.address) else None
    try:
        async with asyncio.timeout(settings.timeout):
            return await asyncio.get_running_loop().create_connection(
                lambda: Dialogue(transcript), endpoint.address, endpoint.port, local_addr=local
            )
    except TimeoutError as error:
        raise SessionEnd(Ending(Failure.TIMEOUT, f"no connection in {settings.timeout:g} s")) from error
    except ConnectionResetError as error:  # only a connection that was made is reset; one that is not is refused
        facts.stage = Stage.GREETING
        raise SessionEnd(lost(error)) from error
    except OSError as error:
        raise SessionEnd(lost(error)) from error


async def _until_starttls(dialogue: Dialogue, settings: SessionSettings, facts: _Facts) -> None:
    facts.stage = Stage.GREETING
    greeting = await dialogue.greeting(settings.timeout)
    facts.greeting = _text(greeting.text)
    _expect(greeting, 220, facts)
    facts.stage = Stage.EHLO
    reply = await dialogue.command(f"EHLO {settings.ehlo_name}", settings.timeout)
    _expect(reply, 250, facts)
    facts.ehlo_greeting, keywords = _ehlo(reply)
    facts.keywords = keywords[:MAX_KEYWORDS]
    facts.starttls_offered = any(line.split()[0].upper() == "STARTTLS" for line in keywords)
    if not facts.starttls_offered:
        raise SessionEnd(Ending(Failure.NOT_OFFERED, "STARTTLS is not among the EHLO keywords"))
    facts.stage = Stage.STARTTLS
    _expect(await dialogue.command("STARTTLS", settings.timeout), 220, facts)


async def _over_tls(
    transport: asyncio.Transport, dialogue: Dialogue, settings: SessionSettings, facts: _Facts
) -> None:
    facts.stage = Stage.HANDSHAKE
    tls = facts.tls = TlsLayer(settings.context, _server_name(facts.endpoint), transport)
    overdue = Ending(Failure.TIMEOUT, f"no handshake in {settings.timeout:g} s")
    alarm = asyncio.get_running_loop().call_later(settings.timeout, tls.fail, overdue)
    try:
        await tls.handshake(dialogue)
    finally:
        alarm.cancel()
    if tls.end is not None and not tls.completed:
        raise SessionEnd(tls.end)
    if settings.transcript is not None:
        dialogue.say("*", _shaken_hands(tls))
    if tls.requested:
        await tls.linger(VERDICT_SECONDS)
    facts.stage = Stage.EHLO_AFTER_TLS
    tls.carry(dialogue)
    reply = await dialogue.command(f"EHLO {settings.ehlo_name}", settings.timeout)
    _expect(reply, 250, facts)
    facts.keywords_after_tls = _ehlo(reply)[1][:MAX_KEYWORDS]
    facts.greeted_again = True
    facts.stage = Stage.QUIT
    await _quit(dialogue, settings)


async def _quit(dialogue: Dialogue, settings: SessionSettings) -> None:
    """QUIT and wait for the 221; how that ends is nobody's failure."""
    with contextlib.suppress(SessionEnd):
        await dialogue.command("QUIT", settings.quit_timeout)


# ------------------------------------------------------------------------------------------------- the facts


def _expect(reply: Reply, code: int, facts: _Facts) -> None:
    """Every command of ours has one good reply; an unknown 2xx or 3xx is no SMTP (RFC 5321 section 4.3.2)."""
    if reply.code == code:
        return
    facts.refusal = reply
    if reply.code >= 400:
        raise SessionEnd(Ending(Failure.NEGATIVE_REPLY, f"{reply.code} {reply.text}"))
    raise SessionEnd(Ending(Failure.MALFORMED, f"expected {code}, got {reply.code} {reply.text}"))


def _ehlo(reply: Reply) -> tuple[str, tuple[str, ...]]:
    """The text of the first line, and each keyword with its parameters (RFC 5321 section 4.1.1.1)."""
    first, *rest = reply.text.split("\n")
    return _text(first), tuple(_text(line.strip()) for line in rest if line.strip())


def _shaken_hands(tls: TlsLayer) -> str:
    """What a handshake came to, for the transcript."""
    negotiated = " ".join(word for word in (tls.version(), tls.cipher_suite(), tls.group()) if word)
    names = tls.client_ca_names()
    asked = (
        "no client certificate requested"
        if names is None
        else f"a client certificate of {len(names)} CAs requested"
    )
    return f"TLS: {negotiated}, {len(tls.certificate_list())} certificates presented, {asked}"


def _text(text: str) -> str:
    return text[:MAX_TEXT]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _server_name(endpoint: Endpoint) -> str | None:
    """server_name is a host name (RFC 6066 section 3), never an address."""
    try:
        ipaddress.ip_address(endpoint.mx_host.strip("[]"))
    except ValueError:
        return endpoint.mx_host
    return None


def _observation(facts: _Facts, end: Ending | None, duration_ms: int) -> Observation:
    tls, refusal = facts.tls, facts.refusal
    presented = tls.certificate_list() if tls is not None else ()
    carrier = tls or facts.dialogue
    request = tls.request() if tls is not None else None
    negotiated = tls if tls is not None and (presented or tls.completed) else None
    observation = Observation(
        endpoint=facts.endpoint,
        attempt=facts.attempt,
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
        injected_plaintext=tls is not None and tls.injected,
        tls_version=negotiated.version() if negotiated else None,
        cipher_suite=negotiated.cipher_suite() if negotiated else None,
        group=negotiated.group() if negotiated else None,
        certificate_list=presented,
        client_auth=decide(_handshake_end(facts, end)),
        client_ca_names=tls.client_ca_names() if tls is not None else None,
        client_certificate_types=request.certificate_types if request else None,
        client_signature_algorithms=request.signature_algorithms if request else None,
        ehlo_keywords_after_tls=facts.keywords_after_tls,
        tls_alert=tls.alert if tls is not None else None,
        source=facts.dialogue.source if facts.dialogue is not None else None,
        octets_in=carrier.octets_in if carrier is not None else 0,
        octets_out=carrier.octets_out if carrier is not None else 0,
    )
    if tls is not None:
        tls.release()
    return observation


def _handshake_end(facts: _Facts, end: Ending | None) -> HandshakeEnd:
    tls, refusal = facts.tls, facts.refusal
    if tls is None:
        return HandshakeEnd(completed=False, requested=False)
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
