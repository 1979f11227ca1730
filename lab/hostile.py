"""Servers that want to stall, flood or confuse a scanner, and what a census must say of them.

One table, as `lab.hosts` has for honest servers: the script, and the fields of the endpoint's row. Every script
ends when the client goes, and every flood and drip has an end of its own. Timeouts are the scanner's: a scan of
these should have a short one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from OpenSSL import SSL

from lab import flights
from lab.hosts import OK, UNREADABLE, Fields, after_tls, failed
from lab.scripts import GO_AHEAD, Script
from lab.streams import ALERT, HANDSHAKE, RECORD, TEXT, Chopped, Memory, Sealed
from lab.talk import Over, Talk

GREETING = b"220 mx.test ESMTP\r\n"
EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
GO = b"220 go ahead\r\n"
WHOLE = (GREETING, EHLO, GO)
STAGES = ("greeting", "ehlo", "starttls", "handshake")
MEGABYTE = 1_000_000
NUMBERED = r"^(alert\S*|close-\S+|reset-\S+)-\d+$"
DRIPS = 60
ALERTS = range(256)
CUTS = 20
BER_NAME = b"\x30\x80\x31\x0c\x30\x0a\x06\x03\x55\x04\x03\x0c\x03who\x00\x00"  # indefinite length: BER, not DER
ALERTS_IN_TLS = (10, 20, 22, 40, 42, 43, 46, 47, 48, 49, 50, 51, 70, 71, 80, 86, 109, 110, 112, 113, 115, 116, 120)
"""Those of RFC 8446 section 6.2, as an answer to the second EHLO."""
TICKET = b"\x04\0\1\x0b\0\0\0\0\0\0\0\0\0\0\xfe" + bytes(254) + b"\0\0"
REPLY = b"250 mx.test\r\n"
REQUEST = b"\x0d\0\0\x0d\2id\0\x08\0\x0d\0\4\0\2\4\3"
"""A NewSessionTicket of 254 octets, and a CertificateRequest, which may come now only if we had asked for it."""
GARBAGE = bytes(range(7, 255, 5))


def _as_it_is(_: SSL.Context) -> None:
    return


@dataclass(frozen=True, slots=True)
class Hostile:
    """One row: what the server does, and what it comes to.

    `by_hand`: it never presents the lab's certificate. `prepare` sets up the context of its TLS.
    """

    script: Script
    expected: Fields
    by_hand: bool = False
    prepare: Callable[[SSL.Context], None] = _as_it_is


def measured(failure: str, client_auth: str) -> Fields:
    """A certificate was captured, and the handshake got no further."""
    return {"status": "measured", "stage": "handshake", "failure": failure, "client_auth": client_auth}


def behave(talk: Talk, turns: int) -> None:
    """The first replies of an honest session; behind the last one the client's first record is heard."""
    for reply in WHOLE[:turns]:
        talk.say_raw(reply)
        if reply is GO:
            talk.hear_any()
        else:
            talk.hear()


def after(talk: Talk, _: SSL.Context, *, turns: int, data: bytes = b"", ends: str = "silence") -> None:
    """Behaves for so many replies, then sends `data` and ends by `silence`, `close` or `reset`."""
    behave(talk, turns)
    talk.say_raw(data)
    if ends == "silence":
        talk.wait()
    elif ends == "reset":
        talk.reset()


def flood(talk: Talk, _: SSL.Context, *, turns: int, head: bytes = b"", unit: bytes) -> None:
    """Behaves for so many replies, then sends `head` and some megabytes of `unit`."""
    behave(talk, turns)
    talk.say_raw(head)
    block = unit * (65536 // len(unit))
    for _number in range(5 * MEGABYTE // len(block)):
        talk.say_raw(block)
    talk.wait()


def drip(talk: Talk, _: SSL.Context, *, turns: int) -> None:
    """Behaves for so many replies, then an octet a second."""
    behave(talk, turns)
    for _number in range(DRIPS):
        talk.say_raw(b"2")
        talk.pause(1)


def inside_tls(talk: Talk, context: SSL.Context, *, ehlo: bytes, quits: bool, chopped: bool = False) -> None:
    """An honest session up to the handshake; then `ehlo` is the reply to EHLO, and silence follows or a 221."""
    talk.offer()
    talk.say(GO_AHEAD)
    if chopped:
        talk.start_tls_by_hand(context, Chopped)
    else:
        talk.start_tls(context)
    talk.hear()
    talk.say_raw(ehlo)
    talk.hear()
    if quits:
        talk.say("221 bye")
    else:
        talk.wait()


def before_tls(talk: Talk, context: SSL.Context, *, replies: tuple[bytes, ...]) -> None:
    """These three replies, then an honest end."""
    for number, reply in enumerate(replies):
        if number:
            talk.hear()
        talk.say_raw(reply)
    talk.start_tls(context)
    talk.to_the_end()


def by_hand(talk: Talk, _: SSL.Context, *, flight: Callable[[], bytes], ends: str = "silence") -> None:
    """A TLS 1.2 handshake of which the server writes its first flight, hears the answer, and goes no further."""
    behave(talk, 3)
    talk.say_raw(flight())
    if ends == "close":
        talk.hear_any()
        talk.hear_any()
    after(talk, _, turns=0, ends=ends)


def cut(talk: Talk, _: SSL.Context, *, part: int, whole: bool, ends: str) -> None:
    """A flight in three records, cut within the first two, or behind the second, which has the certificate."""
    first = flights.record(flights.hello()) + flights.record(flights.certificates([flights.leaf()]))
    rest = flights.record(flights.request([]) + flights.DONE)
    behave(talk, 3)
    talk.say_raw(first + rest[: len(rest) * part // CUTS] if whole else first[: len(first) * part // CUTS])
    if ends == "reset":
        talk.reset()


def flood_in_tls(talk: Talk, context: SSL.Context) -> None:
    talk.offer()
    talk.say(GO_AHEAD)
    talk.start_tls(context)
    for _number in range(5 * MEGABYTE // 60000):
        talk.say_raw(b"250-a\r\n" * 8571)
    talk.wait()


def sealed(
    talk: Talk,
    context: SSL.Context,
    *,
    says: Callable[[Sealed], bytes],
    times: int = 1,
    part: int = CUTS,
    ends: str = "silence",
) -> None:
    """An honest session up to the EHLO inside TLS 1.3; then these records, the last one cut, and an end."""
    talk.offer()
    talk.say(GO_AHEAD)
    stream = talk.start_tls_by_hand(context, Sealed)
    talk.hear()
    for _number in range(times - 1):
        talk.say_past_tls(says(stream))
    last = says(stream)
    talk.say_past_tls(last[: len(last) * part // CUTS])
    after(talk, context, turns=0, ends=ends)


def renegotiating(talk: Talk, context: SSL.Context, *, waits: bool) -> None:
    """A HelloRequest for an answer to EHLO, in TLS 1.2; OpenSSL ends when that is declined, unless it waits."""
    talk.offer()
    talk.say(GO_AHEAD)
    stream = talk.start_tls_by_hand(context, Memory)
    talk.hear()
    try:
        stream.renegotiate()
    except (OSError, SSL.Error) as error:
        raise Over from error
    if waits:
        talk.wait_past_tls()
    talk.to_the_end()


def _silences() -> Iterator[tuple[str, Hostile]]:
    for turns, stage in enumerate(STAGES):
        yield f"silent-at-{stage}", Hostile(partial(after, turns=turns), failed(stage, "timeout"))
        if stage != "handshake":
            yield f"drip-at-{stage}", Hostile(partial(drip, turns=turns), failed(stage, "timeout"))


def _cuts() -> Iterator[tuple[str, Hostile]]:
    """Cut off at octets of every reply, by FIN and by RST; what is half said is an end of its stage."""
    for turns, reply in enumerate(WHOLE):
        for octets in range(len(reply)):
            for ends, failure in (("close", "closed"), ("reset", "reset")):
                script = partial(after, turns=turns, data=reply[:octets], ends=ends)
                yield f"{ends}-at-{STAGES[turns]}-{octets}", Hostile(script, failed(STAGES[turns], failure))


def _alerts() -> Iterator[tuple[str, Hostile]]:
    """Alerts instead of a ServerHello: nothing was asked of the client, so nothing is known of certificates."""
    for number in ALERTS:
        alert = bytes([21, 3, 3, 0, 2, 2, number])
        script = partial(after, turns=3, data=alert, ends="close")
        yield f"alert-{number}", Hostile(script, failed("handshake", "tls-alert"))


def _cuts_in_tls() -> Iterator[tuple[str, Hostile]]:
    """A certificate that came whole is kept, whatever becomes of the handshake."""
    kept = measured("closed", "untested")
    for part in range(CUTS):
        yield (
            f"close-in-tls-flight-{part}",
            Hostile(partial(cut, part=part, whole=False, ends="close"), failed("handshake", "closed")),
        )
        yield (
            f"reset-in-tls-flight-{part}",
            Hostile(partial(cut, part=part, whole=False, ends="reset"), failed("handshake", "reset")),
        )
        yield (
            f"close-behind-certificate-{part}",
            Hostile(partial(cut, part=part, whole=True, ends="close"), kept, by_hand=True),
        )


def _handshakes() -> Iterator[tuple[str, Hostile]]:
    """More than a handshake should hold, or other things."""
    malformed = measured("tls-protocol", "untested") | UNREADABLE
    many = b"\x30\x00"
    for name, flight, ends, expected in (
        ("list-of-10-mb", lambda: _list(10 * MEGABYTE), "silence", failed("handshake", "tls-protocol")),
        ("1000-certificates-of-300-kb", lambda: _list(300_000), "silence", failed("handshake", "tls-protocol")),
        ("malformed-der", lambda: flights.flight([b"not DER at all"]), "silence", malformed),
        ("truncated-der", lambda: flights.flight([b"\x30\x84\xff\xff\xff\xff"]), "silence", malformed),
        (
            "key-of-16384-bits",
            lambda: flights.flight([flights.leaf(16384)]),
            "silence",
            measured("timeout", "untested"),
        ),
        ("10000-ca-names", lambda: _asks([many] * 10_000), "silence", measured("timeout", "requested-unknown")),
        ("ca-name-in-ber", lambda: _asks([BER_NAME]), "silence", measured("timeout", "requested-unknown")),
        ("tls-garbage", lambda: flights.record(GARBAGE), "silence", failed("handshake", "tls-protocol")),
    ):
        yield name, Hostile(partial(by_hand, flight=flight, ends=ends), expected, by_hand=True)


def _after_handshakes() -> Iterator[tuple[str, Hostile]]:
    """Records that may come at any time after the handshake, or must not; floods of them end by themselves."""
    broken, timeout = after_tls("tls-protocol", "not-requested"), after_tls("timeout", "not-requested")
    for name, says, times, expected in (
        ("tickets-in-a-flood", lambda s: s.record(HANDSHAKE, TICKET * 60), 5 * MEGABYTE // RECORD, broken),
        ("key-updates-in-a-flood", Sealed.key_update, 20_000, timeout),
        ("empty-records-in-a-flood", lambda s: s.record(TEXT, b""), 10_000, broken),
        ("warnings-in-a-flood", lambda s: s.record(ALERT, b"\x01\x5a"), 10_000, broken),
        ("request-after-the-handshake", lambda s: s.record(HANDSHAKE, REQUEST), 1, broken),
        ("hello-request-in-tls13", lambda s: s.record(HANDSHAKE, b"\0\0\0\0"), 1, broken),
        ("unknown-record", lambda s: s.record(99, b"what"), 1, broken),
        ("altered-record", lambda s: s.record(TEXT, REPLY)[:-1] + b"\0", 1, broken),
        ("plain-text-in-tls", lambda _: REPLY, 1, broken),
        ("half-a-record", lambda s: s.record(TEXT, REPLY)[:9], 1, timeout),
    ):
        yield name, _sealed(expected, says=says, times=times)
    for number in ALERTS_IN_TLS:
        says = partial(Sealed.record, kind=ALERT, payload=bytes([2, number]))
        yield f"alert-in-tls-{number}", _sealed(after_tls("tls-alert", "not-requested"), says=says, ends="close")
    for part in range(CUTS):
        for ends, failure in (("close", "closed"), ("reset", "reset")):
            expected = after_tls(failure, "not-requested")
            says = partial(Sealed.record, kind=TEXT, payload=REPLY)
            yield f"{ends}-in-sealed-reply-{part}", _sealed(expected, says=says, part=part, ends=ends)
    for name, waits, failure in (
        ("renegotiation", False, "closed"),
        ("renegotiation-then-silence", True, "timeout"),
    ):
        script = partial(renegotiating, waits=waits)
        yield name, Hostile(script, after_tls(failure, "not-requested"), prepare=_tls12)


def _sealed(expected: Fields, **more: Any) -> Hostile:
    return Hostile(partial(sealed, **more), expected, prepare=Sealed.prepare)


def _tls12(context: SSL.Context) -> None:
    context.set_max_proto_version(SSL.TLS1_2_VERSION)


def _list(octets: int) -> bytes:
    return flights.flight(flights.repeated(flights.leaf(), octets))


def _asks(names: list[bytes]) -> bytes:
    return flights.flight([flights.leaf()], names)


def _oddities() -> Iterator[tuple[str, Hostile]]:
    """What is no fault, or is somebody else's, and must not lose the host."""
    lf = tuple(reply.replace(b"\r\n", b"\n") for reply in WHOLE)
    nul = (b"220 mx\0.test ESMTP\r\n", EHLO, GO)
    injected = (GREETING, EHLO, GO + b"250 2.0.0 injected\r\n")
    yield "bare-lf", Hostile(partial(before_tls, replies=lf), OK)
    yield "nul-in-greeting", Hostile(partial(before_tls, replies=nul), OK)
    yield "injected-after-220", Hostile(partial(before_tls, replies=injected), OK | {"injected_plaintext": True})


def _replies() -> Iterator[tuple[str, Hostile]]:
    """Replies that break the grammar of RFC 5321 section 4.2, or seem to."""
    for name, turns, data, expected in (
        ("code-999", 0, b"999 mx.test\r\n", failed("greeting", "malformed")),
        ("code-changes", 0, b"220-mx.test\r\n250 mx.test\r\n", failed("greeting", "malformed")),
        ("no-code", 0, b"hello there\r\n", failed("greeting", "malformed")),
        ("bare-cr", 0, b"220 mx.test\r220 mx.test\r", failed("greeting", "timeout")),
        ("two-in-one-packet", 0, GREETING + b"250 mx.test\r\n", failed("ehlo", "malformed")),
        ("offered-then-454", 2, b"454 4.7.0 not now\r\n", failed("starttls", "negative-reply")),
        ("offered-then-501", 2, b"501 5.5.4 no\r\n", failed("starttls", "negative-reply")),
        ("unfinished", 0, b"220-mx.test\r\n", failed("greeting", "timeout")),
        ("ehlo-354", 1, b"354 go on\r\n", failed("ehlo", "malformed")),
        ("starttls-250", 2, b"250 as you like\r\n", failed("starttls", "malformed")),
    ):
        yield name, Hostile(partial(after, turns=turns, data=data), expected)


def _floods() -> Iterator[tuple[str, Hostile]]:
    for name, turns, head, unit, stage, failure in (
        ("endless-greeting", 0, b"", b"220-a\r\n", "greeting", "malformed"),
        ("endless-line", 0, b"220 ", b"a", "greeting", "malformed"),
        ("endless-keywords", 1, b"", b"250-a\r\n", "ehlo", "malformed"),
        ("endless-text-for-tls", 2, GO, b"a", "handshake", "tls-protocol"),
    ):
        script = partial(flood, turns=turns, head=head, unit=unit)
        yield name, Hostile(script, failed(stage, failure))
    yield "endless-in-tls", Hostile(flood_in_tls, after_tls("malformed", "not-requested"))


HOSTILE: dict[str, Hostile] = {
    **dict(_silences()),
    **dict(_replies()),
    **dict(_floods()),
    "silent-in-tls": Hostile(partial(inside_tls, ehlo=b"", quits=False), after_tls("timeout", "not-requested")),
    "silent-at-quit": Hostile(partial(inside_tls, ehlo=b"250 mx.test\r\n", quits=False), OK),
    "chopped": Hostile(partial(inside_tls, ehlo=b"250 mx.test\r\n", quits=True, chopped=True), OK),
    "half-a-reply-in-tls": Hostile(
        partial(inside_tls, ehlo=b"250-mx.test\r\n250", quits=False), after_tls("timeout", "not-requested")
    ),
    "nonsense-in-tls": Hostile(
        partial(inside_tls, ehlo=b"\0\xff nonsense\r\n", quits=False), after_tls("malformed", "not-requested")
    ),
    **dict(_oddities()),
    **dict(_after_handshakes()),
    **dict(_handshakes()),
    **dict(_cuts_in_tls()),
    **dict(_alerts()),
    **dict(_cuts()),
}


def matrix() -> str:
    """The table as Markdown: behaviours that differ by a number only are one row."""
    rows: dict[str, None] = {}
    for numbered, hostile in HOSTILE.items():
        row = hostile.expected
        said = [str(row[field] or "none") for field in ("status", "stage", "failure", "client_auth")]
        name = re.sub(NUMBERED, r"\1-N", numbered)
        rows[f"| {name} | {' | '.join(said)} |"] = None
    head = ["| behaviour | status | stage | failure | client_auth |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])
