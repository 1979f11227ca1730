"""The records of an experiment, beside those of a census in `scanner.records`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from scanner.records import ClientAuth, Endpoint, Failure, Stage


class Outcome(StrEnum):
    """What became of one trial of an experiment."""

    ACCEPTED = "accepted"  # the second EHLO got its 250
    ALERT = "alert"  # a TLS alert ended the session
    CLOSED = "closed"  # FIN or close_notify, from the handshake on
    REPLY = "reply"  # a negative reply after the handshake
    FAILED = "failed"  # any other end; stage and failure say which
    NOT_TESTED = "not-tested"


@dataclass(frozen=True, slots=True)
class Trial:
    """One variant of a client certificate at one endpoint: what the server made of it.

    `variant` is the label of the certificate, `none` for a session without one. `reason` says why it was not
    tested; then all that follows is empty. `presented` tells whether the server asked, so that the certificate was
    sent. `ehlo_keywords` are those of the second EHLO.
    """

    endpoint: Endpoint
    variant: str
    outcome: Outcome
    reason: str | None = None
    started_at: datetime | None = None
    duration_ms: int | None = None
    stage: Stage | None = None
    failure: Failure | None = None
    client_auth: ClientAuth | None = None
    presented: bool = False
    tls_version: str | None = None
    tls_alert: int | None = None
    reply_code: int | None = None
    detail: str = ""
    ehlo_keywords: tuple[str, ...] = ()
