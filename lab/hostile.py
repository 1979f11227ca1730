"""Servers that want to stall, flood or confuse a scanner, and what a census must say of them.

One table, as `lab.hosts` has for honest servers: the script, and the fields of the endpoint's row. Every script
ends when the client goes, and every flood and drip has an end of its own. Timeouts are the scanner's: a scan of
these should have a short one.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from OpenSSL import SSL

from lab.hosts import OK, Fields, after_tls, failed
from lab.scripts import GO_AHEAD, Script
from lab.talk import Talk

GREETING = b"220 mx.test ESMTP\r\n"
EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
GO = b"220 go ahead\r\n"
WHOLE = (GREETING, EHLO, GO)
STAGES = ("greeting", "ehlo", "starttls", "handshake")
MEGABYTE = 1_000_000
NUMBERED = r"^(alert|close-at-\w+|reset-at-\w+)-\d+$"
DRIPS = 60
ALERTS = (
    0,
    10,
    20,
    22,
    40,
    42,
    43,
    44,
    45,
    46,
    47,
    48,
    49,
    50,
    51,
    70,
    71,
    80,
    86,
    109,
    112,
    113,
    115,
    116,
    120,
    255,
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """One row: what the server does, and what it comes to."""

    script: Script
    expected: Fields


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
        time.sleep(1)


def inside_tls(talk: Talk, context: SSL.Context, *, ehlo: bytes, quits: bool, chopped: bool = False) -> None:
    """An honest session up to the handshake; then `ehlo` is the reply to EHLO, and silence follows or a 221."""
    talk.offer()
    talk.say(GO_AHEAD)
    talk.start_tls(context, chopped=chopped)
    talk.hear()
    talk.say_raw(ehlo)
    talk.hear()
    if quits:
        talk.say("221 bye")
    else:
        talk.wait()


def flood_in_tls(talk: Talk, context: SSL.Context) -> None:
    talk.offer()
    talk.say(GO_AHEAD)
    talk.start_tls(context)
    for _number in range(5 * MEGABYTE // 60000):
        talk.say_raw(b"250-a\r\n" * 8571)
    talk.wait()


def _silences() -> Iterator[tuple[str, Hostile]]:
    for turns, stage in enumerate(STAGES):
        yield f"silent-at-{stage}", Hostile(partial(after, turns=turns), failed(stage, "timeout"))
        if stage != "handshake":
            yield f"drip-at-{stage}", Hostile(partial(drip, turns=turns), failed(stage, "timeout"))


def _cuts() -> Iterator[tuple[str, Hostile]]:
    """Cut off at octets of every reply, by FIN and by RST; what is half said is an end of its stage."""
    for turns, reply in enumerate(WHOLE):
        for octets in range(0, len(reply), 4):
            for ends, failure in (("close", "closed"), ("reset", "reset")):
                script = partial(after, turns=turns, data=reply[:octets], ends=ends)
                yield f"{ends}-at-{STAGES[turns]}-{octets}", Hostile(script, failed(STAGES[turns], failure))


def _alerts() -> Iterator[tuple[str, Hostile]]:
    """Alerts instead of a ServerHello: nothing was asked of the client, so nothing is known of certificates."""
    for number in ALERTS:
        alert = bytes([21, 3, 3, 0, 2, 2, number])
        script = partial(after, turns=3, data=alert, ends="close")
        yield f"alert-{number}", Hostile(script, failed("handshake", "tls-alert"))


def _replies() -> Iterator[tuple[str, Hostile]]:
    """Replies that break the grammar of RFC 5321 section 4.2, or seem to."""
    for name, turns, data, expected in (
        ("code-999", 0, b"999 mx.test\r\n", failed("greeting", "malformed")),
        ("code-changes", 0, b"220-mx.test\r\n250 mx.test\r\n", failed("greeting", "malformed")),
        ("no-code", 0, b"hello there\r\n", failed("greeting", "malformed")),
        ("bare-cr", 0, b"220 mx.test\r220 mx.test\r", failed("greeting", "timeout")),
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
    "nonsense-in-tls": Hostile(
        partial(inside_tls, ehlo=b"\0\xff nonsense\r\n", quits=False), after_tls("malformed", "not-requested")
    ),
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
