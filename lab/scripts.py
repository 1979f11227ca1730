"""What each behaviour of the table says and does, from top to bottom."""

import time
from collections.abc import Callable
from functools import partial

from OpenSSL import SSL

from lab.talk import Talk

GO_AHEAD = "220 2.0.0 ready to start TLS"
DELAY = 0.3
"""Seconds before a delayed greeting; real ones take 15 to 20."""

Script = Callable[[Talk, SSL.Context], None]


def good(talk: Talk, context: SSL.Context) -> None:
    talk.offer()
    talk.say(GO_AHEAD)
    talk.start_tls(context)
    talk.to_the_end()


def injected(talk: Talk, context: SSL.Context) -> None:
    talk.offer()
    talk.say(GO_AHEAD, "250 injected")
    talk.start_tls(context)
    talk.to_the_end()


def delayed(talk: Talk, context: SSL.Context) -> None:
    time.sleep(DELAY)
    good(talk, context)


def multi_line(talk: Talk, context: SSL.Context) -> None:
    talk.say(f"220-{talk.host.name} ESMTP", "220-no spam here")
    good(talk, context)


def after_tls(
    talk: Talk, context: SSL.Context, *, line: str | None = None, unasked: bool = False, resets: bool = False
) -> None:
    """Ends after the handshake, with a reply or without; `unasked` before the client's EHLO."""
    talk.offer()
    talk.say(GO_AHEAD)
    talk.start_tls(context)
    if not unasked:
        talk.hear()
    if line is not None:
        talk.say(line)
        talk.hear()
    if resets:
        talk.reset()


def says(talk: Talk, _: SSL.Context, *, lines: tuple[str, ...], greets: bool = True) -> None:
    """Greets, then answers each command with the next of its lines."""
    if greets:
        talk.greet()
        talk.hear()
    for line in lines:
        talk.say(*line.split("|"))
        talk.hear()


def closes(_: Talk, __: SSL.Context) -> None:
    return


def resets(talk: Talk, _: SSL.Context) -> None:
    talk.reset()


def garbage(talk: Talk, _: SSL.Context) -> None:
    talk.offer()
    talk.say(GO_AHEAD, "this is not TLS " * 8)


SCRIPTS: dict[str, Script] = {
    "delayed-greeting": delayed,
    "multi-line-greeting": multi_line,
    "injected": injected,
    "requires-421": partial(after_tls, line="421 4.7.1 Error: no client certificate"),
    "requires-421-unasked": partial(after_tls, line="421 4.7.1 Client certificate not trusted", unasked=True),
    "requires-503": partial(after_tls, line="503 5.7.0 authentication required"),
    "requires-close": after_tls,
    "asks-then-busy": partial(after_tls, line="421 4.7.0 too many connections, try later"),
    "asks-then-resets": partial(after_tls, resets=True),
    "no-starttls": partial(says, lines=("250-mx|250 8BITMIME", "221 bye")),
    "starttls-substring": partial(says, lines=("250-mx STARTTLS|250-X-NOSTARTTLS|250 XSTARTTLS", "221 bye")),
    "starttls-454": partial(says, lines=("250-mx|250 STARTTLS", "454 4.7.0 TLS not available", "221 bye")),
    "ehlo-refused": partial(says, lines=("502 5.5.2 command not recognized", "221 bye")),
    "greeting-421": partial(says, lines=("421 4.7.0 too many connections", "221 bye"), greets=False),
    "greeting-554": partial(says, lines=("554 5.7.1 no service here", "221 bye"), greets=False),
    "not-smtp": partial(says, lines=("SSH-2.0-OpenSSH_9.9",), greets=False),
    "garbage-after-220": garbage,
    "closes": closes,
    "resets": resets,
}
"""Behaviours that are not here are `good` as far as SMTP goes; `lab.smtp` gives them another TLS."""
