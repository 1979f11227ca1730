"""`scan --verbose`: one endpoint's session line by line on standard error, `C:` ours, `S:` theirs, `*:` remarks.

What a server wrote is escaped: it may hold anything.
"""

import sys
from collections.abc import Callable, Iterator

from reports import text
from scanner import certificates
from scanner.records import Endpoint, Observation, Status

LONGEST = 1000


def transcript(endpoint: Endpoint) -> Callable[[str, str], None]:
    """The listener to one session's dialogue."""
    return lambda who, line: _say(endpoint, who, line)


def outcome(observation: Observation) -> None:
    """What the session came to, once it is over."""
    for line in _remarks(observation):
        _say(observation.endpoint, "*", line)


def _remarks(seen: Observation) -> Iterator[str]:
    for number, der in enumerate(seen.certificate_list):
        read = certificates.parse(der)
        what = f"{read.subject}; issuer {read.issuer}; until {read.not_after}; EKU {read.eku_class.value}"
        yield f"certificate {number}: {what if read.readable else read.parse_error}"
    if seen.injected_plaintext:
        yield "plain text came between the 220 and TLS"
    if seen.failure is None:
        yield f"{seen.status.value}, all went well; client certificate {seen.client_auth.value}"
    else:
        kept = ", certificate kept" if seen.status is Status.MEASURED else ""
        yield f"ended at {seen.stage.value} by {seen.failure.value}{kept}: {seen.detail}"
    yield f"{seen.octets_in} octets in, {seen.octets_out} out, {seen.duration_ms} ms, attempt {seen.attempt}"


def _say(endpoint: Endpoint, who: str, line: str) -> None:
    name = f"{endpoint.mx_host} [{endpoint.address}]:{endpoint.port}"
    print(f"{text.show(name, LONGEST)} {who}: {text.show(line, LONGEST)}", file=sys.stderr)
