"""Observations out of the JSON lines of zgrab2's SMTP module; pure.

Such a line says of one (domain, address): greeting, EHLO, STARTTLS as replies, and a log of the handshake. What it
cannot say stays unsaid: zgrab2 sends no EHLO after the handshake, so `failure` None means only that nothing failed
as far as it went; whether a certificate was requested of it is not in the log, so `client_auth` is `untested`.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from scanner.addresses import canonical
from scanner.records import ClientAuth, Endpoint, Failure, Observation, Stage, Status
from scanner.replies import MalformedReplyError, Reply, ReplyReader
from scanner.targets import BadTarget, parse_domain

Values = Mapping[str, object]

DEFAULT_PORT = 25
MAX_LIST = 20
MAX_KEYWORDS = 100
MAX_DETAIL = 200

VERSIONS: Mapping[object, str] = MappingProxyType({769: "TLSv1", 770: "TLSv1.1", 771: "TLSv1.2", 772: "TLSv1.3"})
FAILURES: Mapping[object, Failure] = MappingProxyType(
    {
        "connection-refused": Failure.REFUSED,
        "connection-timeout": Failure.TIMEOUT,
        "connection-closed": Failure.CLOSED,
        "io-timeout": Failure.TIMEOUT,
    }
)
"""zgrab2's status of a scan; what is not here is told from its error, by `WORDS`."""
WORDS: tuple[tuple[str, Failure], ...] = (
    ("remote error: tls", Failure.TLS_ALERT),
    ("connection reset", Failure.RESET),
    ("connection refused", Failure.REFUSED),
    ("timeout", Failure.TIMEOUT),
    ("unreachable", Failure.UNREACHABLE),
    ("no route to host", Failure.UNREACHABLE),
    ("eof", Failure.CLOSED),
)
"""Parts of the text of Go's network errors, lower case, first that holds."""


def scans(values: Values) -> list[Values]:
    """The SMTP parts of a line; empty for a line of something else."""
    data = _inside(values, "data")
    return [
        part
        for name, part in data.items()
        if isinstance(part, dict) and "smtp" in (name, part.get("protocol")) and "status" in part
    ]


def observations(values: Values) -> Iterator[Observation]:
    """The observations of one line. Raises ValueError with a few words where it cannot be one."""
    for part in scans(values):
        yield _observation(values, part)


def _observation(values: Values, part: Values) -> Observation:
    result = _inside(part, "result")
    endpoint = Endpoint(*_place(values), _port(part))
    log = _inside(_inside(result, "tls"), "handshake_log")
    listed = _certificates(log)
    greeting, ehlo = _reply(result, "banner"), _reply(result, "ehlo")
    keywords = tuple(_text(line) for line in ehlo.lines[1:]) if ehlo is not None and ehlo.code == 250 else ()
    offered = any(word.split()[:1] in (["STARTTLS"], ["starttls"]) for word in keywords)
    stage, failure, code = _end(part, result, offered=offered, measured=bool(listed))
    hello = _inside(log, "server_hello")
    group = _inside(hello, "key_share").get("name")
    suite = _inside(hello, "cipher_suite").get("name")
    return Observation(
        endpoint=endpoint,
        attempt=1,
        status=Status.MEASURED if listed else Status.FAILED,
        stage=stage,
        failure=failure,
        started_at=_time(part),
        duration_ms=0,
        reply_code=code,
        detail=str(part.get("error") or "")[:MAX_DETAIL],
        greeting=None if greeting is None else greeting.text,
        ehlo_greeting=None if ehlo is None else _text(ehlo.lines[0]),
        ehlo_keywords=keywords[:MAX_KEYWORDS],
        starttls_offered=offered if ehlo is not None and ehlo.code == 250 else None,
        tls_version=_version(hello) if listed else None,
        cipher_suite=suite if isinstance(suite, str) and listed else None,
        group=group if isinstance(group, str) and listed else None,
        certificate_list=listed,
        client_auth=ClientAuth.UNTESTED,
    )


def _end(
    part: Values, result: Values, *, offered: bool, measured: bool
) -> tuple[Stage, Failure | None, int | None]:
    """The stage that was reached, how it ended, and the last code."""
    if not result.get("banner"):
        failure = _failure(part)
        connecting = failure in (Failure.REFUSED, Failure.UNREACHABLE) or part.get("status") == "connection-timeout"
        return Stage.CONNECT if connecting else Stage.GREETING, failure, None
    for stage, name, code in (
        (Stage.GREETING, "banner", 220),
        (Stage.EHLO, "ehlo", 250),
        (Stage.STARTTLS, "starttls", 220),
    ):
        if stage is Stage.STARTTLS and not offered:
            return Stage.EHLO, Failure.NOT_OFFERED, None
        if not result.get(name):
            # HELO without EHLO is zgrab2's own doing: the server was never asked for its keywords.
            return stage, Failure.LOCAL if name == "ehlo" and result.get("helo") else _failure(part), None
        reply = _reply(result, name)
        if reply is None or reply.code != code:
            refused = reply is not None and reply.code >= 400
            return (
                stage,
                Failure.NEGATIVE_REPLY if refused else Failure.MALFORMED,
                None if reply is None else reply.code,
            )
    if not measured:
        return Stage.HANDSHAKE, _failure(part, Failure.TLS_PROTOCOL), None
    ended = _reply(result, "quit")
    return (Stage.QUIT if ended else Stage.HANDSHAKE), None, None if ended is None else ended.code


def _failure(part: Values, otherwise: Failure = Failure.CLOSED) -> Failure:
    known = FAILURES.get(part.get("status"))
    said = str(part.get("error") or "").lower()
    return known or next((failure for words, failure in WORDS if words in said), otherwise)


def _place(values: Values) -> tuple[str, str]:
    """MX host and address; the address stands for the name where there is none."""
    ip, domain = values.get("ip"), values.get("domain")
    if not isinstance(ip, str):
        raise ValueError("no ip")  # noqa: TRY004  # bad data, not a bad argument
    try:
        address = canonical(ip)
    except ValueError:
        raise ValueError(f"ip is no address: {ip[:50]!r}") from None
    if not domain:
        return address, address
    try:
        return parse_domain(str(domain)), address
    except BadTarget as error:
        raise ValueError(f"domain: {error}") from None


def _port(part: Values) -> int:
    port = part.get("port", DEFAULT_PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise ValueError(f"port is no port: {port!r}")
    return port


def _time(part: Values) -> datetime:
    try:
        time = datetime.fromisoformat(str(part.get("timestamp")))
    except ValueError:
        raise ValueError(f"timestamp is no time: {str(part.get('timestamp'))[:50]!r}") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _certificates(log: Values) -> tuple[bytes, ...]:
    presented = _inside(log, "server_certificates")
    chain = presented.get("chain")
    others = [one for one in chain if isinstance(one, dict)] if isinstance(chain, list) else []
    raw = [one.get("raw") for one in (_inside(presented, "certificate"), *others)]
    try:
        return tuple(base64.b64decode(text, validate=True) for text in raw[:MAX_LIST] if isinstance(text, str))
    except binascii.Error:
        raise ValueError("a certificate is not base64") from None


def _version(hello: Values) -> str | None:
    """The version that was agreed on (RFC 8446 section 4.2.1), else that of the server_hello."""
    chosen = _inside(_inside(hello, "supported_versions"), "selected_version").get("value")
    return VERSIONS.get(chosen or _inside(hello, "version").get("value"))


def _reply(result: Values, name: str) -> Reply | None:
    """A reply that zgrab2 kept; None where there is none, or none that can be read."""
    said = result.get(name)
    if not isinstance(said, str):
        return None
    reader = ReplyReader()
    reader.feed(said.encode("utf-8", "backslashreplace"))
    try:
        return reader.next_reply()
    except MalformedReplyError:
        return None


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _inside(values: Values, name: str) -> Values:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
