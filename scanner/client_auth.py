"""What a stranger without a client certificate met, decided by the contract's table and nothing else."""

import re
from dataclasses import dataclass

from scanner.records import ClientAuth

REQUIRING_ALERTS = frozenset({40, 42, 43, 46, 116})
"""handshake_failure, bad_certificate, unsupported_certificate, certificate_unknown, certificate_required."""

GNUTLS_DECODE_ERROR = 50
"""What GnuTLS (Exim on Debian, up to TLS 1.2) answers to an empty certificate list where it wants a certificate:
decode_error, between our Finished and its own. See docs/decisions/0073."""

REQUIRING_REPLIES = frozenset({(421, "4.7.1"), (503, "5.7.0")})
"""Replies that name the certificate by their enhanced code (RFC 3463): Postfix's and Sendmail's."""

_ENHANCED = re.compile(r"\A([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|\Z)")
_NAMES_CERTIFICATE = re.compile(r"\bcert(s|ificates?)?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HandshakeEnd:
    """How a session went from the handshake on.

    `alert` is the number of a TLS alert that the server sent; `closed_cleanly` a FIN or close_notify; `code` and
    `text` a negative reply to the second EHLO; `greeted_again` whether that EHLO got its 250.
    """

    completed: bool
    requested: bool
    finished_sent: bool = False
    alert: int | None = None
    closed_cleanly: bool = False
    code: int | None = None
    text: str = ""
    greeted_again: bool = False


def decide(end: HandshakeEnd) -> ClientAuth:
    """The state of the contract; first that holds."""
    if not end.requested:
        return ClientAuth.NOT_REQUESTED if end.completed else ClientAuth.UNTESTED
    if end.greeted_again:
        return ClientAuth.REQUESTED
    if end.alert in REQUIRING_ALERTS or (end.closed_cleanly and end.finished_sent):
        return ClientAuth.REQUIRED
    if end.alert == GNUTLS_DECODE_ERROR and end.finished_sent and not end.completed:
        return ClientAuth.REQUIRED
    if end.code is not None and names_certificate(end.code, end.text):
        return ClientAuth.REQUIRED
    return ClientAuth.REQUESTED_UNKNOWN


def names_certificate(code: int, text: str) -> bool:
    """Whether a negative reply says that the certificate is what is missing."""
    enhanced = _ENHANCED.match(text)
    if enhanced is not None and (code, enhanced[1]) in REQUIRING_REPLIES:
        return True
    return _NAMES_CERTIFICATE.search(text) is not None
