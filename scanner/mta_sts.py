"""MTA-STS as RFC 8461 writes it: the TXT record, the policy, and whether an MX host is in it; pure.

Readers say why a policy is none, in one line; nothing that a server wrote raises anything else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from scanner.policy_records import MtaSts, PolicyFailure, StsAnswer, StsMode, StsPolicy, StsRecord
from scanner.records import Answer, AnswerStatus

LONGEST_TEXT = 500
MOST_BYTES = 64 * 1024
"""What is read of a policy (RFC 8461 section 3.3 suggests a limit of 64 kilobytes)."""
MOST_MX = 1000
LONGEST_LIFE = 31_557_600
"""Seconds; the largest max_age (section 3.2)."""

_VERSION = re.compile(rb"v=STSv1[ \t]*;")
_RECORD = re.compile(
    r"v=STSv1(?:[ \t]*;[ \t]*[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[\x21-\x3a\x3c\x3e-\x7e]+)+[ \t]*;?[ \t]*"
)
_ID = re.compile(r";[ \t]*id=([A-Za-z0-9]{1,32})[ \t]*(?:;|\Z)")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(\S(?:.*\S)?)[ \t]*")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PATTERN = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}\.?")
_UNTESTED = frozenset(
    {
        PolicyFailure.EXCLUDED,
        PolicyFailure.SPECIAL_PURPOSE,
        PolicyFailure.PARKED,
        PolicyFailure.OPERATOR_STOPPED,
    }
)


class BadPolicy(ValueError):
    """What was served is no policy; the message is one line."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read: `max_age` in seconds, `mx` patterns as they stand, in order."""

    mode: StsMode
    max_age: int
    mx: tuple[str, ...]


def record_name(domain: str) -> str:
    return f"_mta-sts.{domain}"


def policy_host(domain: str) -> str:
    return f"mta-sts.{domain}"


def read_record(answer: Answer) -> StsAnswer:
    """The record in an answer to TXT; records that do not begin with the version do not count (section 3.1)."""
    if answer.status in (AnswerStatus.FAILED, AnswerStatus.NO_ANSWER):
        return StsAnswer(StsRecord.ERROR, answer.rcode)
    found = sorted(
        text for text in cast(Sequence[bytes], answer.data) if _VERSION.match(text)
    )  # a set has no order
    if not found:
        return StsAnswer(StsRecord.NONE, answer.rcode)
    text = found[0].decode("ascii", "backslashreplace")
    match = _ID.search(text) if len(found) == 1 and _RECORD.fullmatch(text) else None
    shown = text[:LONGEST_TEXT]
    if match is None:
        return StsAnswer(StsRecord.INVALID, answer.rcode, text=shown)
    return StsAnswer(StsRecord.VALID, answer.rcode, match[1], shown)


def read_policy(body: bytes) -> Policy:
    """The policy in what was served (section 3.2); raises `BadPolicy`.

    Lines end with LF or CRLF. Unknown fields are skipped; of a field that stands twice the first counts.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPolicy("not UTF-8 text") from None
    fields: dict[str, str] = {}
    mx: list[str] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        stripped = line.removesuffix("\r")
        if not stripped.strip(" \t"):
            continue
        match = _FIELD.fullmatch(stripped)
        if match is None:
            raise BadPolicy(f"line {number} is no field")
        if match[1] == "mx":
            mx.append(match[2])
        else:
            fields.setdefault(match[1], match[2])
    return _policy(fields, mx)


def _policy(fields: dict[str, str], mx: Sequence[str]) -> Policy:
    if fields.get("version") != "STSv1":
        raise BadPolicy("version is not STSv1")
    mode, max_age = fields.get("mode", ""), fields.get("max_age", "")
    if mode not in set(StsMode):
        raise BadPolicy("mode is not enforce, testing or none")
    if not re.fullmatch(r"[0-9]{1,10}", max_age) or int(max_age) > LONGEST_LIFE:
        raise BadPolicy(f"max_age is not a number of seconds up to {LONGEST_LIFE}")
    if not mx and mode != StsMode.NONE:
        raise BadPolicy("no mx")
    if len(mx) > MOST_MX:
        raise BadPolicy(f"more than {MOST_MX} mx")
    if bad := next((pattern for pattern in mx if len(pattern) > 255 or not _PATTERN.fullmatch(pattern)), None):
        raise BadPolicy(f"mx is no pattern: {bad[:80]}")
    return Policy(StsMode(mode), int(max_age), tuple(mx))


def matches(pattern: str, host: str) -> bool:
    """Whether a pattern names an MX host; a wildcard stands for one whole left-most label (section 4.1)."""
    pattern, host = pattern.lower().removesuffix("."), host.lower().removesuffix(".")
    if pattern.startswith("*."):
        label, _, rest = host.partition(".")
        return bool(label) and rest == pattern[2:]
    return pattern == host


def asks_for_pause(policy: StsPolicy) -> bool:
    """Whether a policy host wants to be left alone for a while."""
    return policy.status in (429, 503)


def judge(answer: StsRecord, policy: StsPolicy | None, hosts: Sequence[str]) -> tuple[MtaSts, tuple[str, ...]]:
    """What record and policy come to for a domain with these MX hosts, and the hosts that the policy leaves out."""
    if answer is not StsRecord.VALID:
        return _BY_RECORD[answer], ()
    if policy is None or policy.failure in _UNTESTED:
        return MtaSts.NOT_FETCHED, ()
    if policy.failure is not None:
        return (MtaSts.POLICY_INVALID if policy.failure is PolicyFailure.SYNTAX else MtaSts.UNAVAILABLE), ()
    unmatched = tuple(host for host in hosts if not any(matches(pattern, host) for pattern in policy.mx))
    return _BY_MODE[policy.mode or StsMode.NONE, bool(unmatched)], () if policy.mode is StsMode.NONE else unmatched


_BY_RECORD = {
    StsRecord.NONE: MtaSts.NONE,
    StsRecord.INVALID: MtaSts.RECORD_INVALID,
    StsRecord.ERROR: MtaSts.RECORD_ERROR,
}
_BY_MODE = {
    (StsMode.ENFORCE, False): MtaSts.ENFORCE,
    (StsMode.ENFORCE, True): MtaSts.ENFORCE_MISMATCH,
    (StsMode.TESTING, False): MtaSts.TESTING,
    (StsMode.TESTING, True): MtaSts.TESTING_MISMATCH,
    (StsMode.NONE, False): MtaSts.OFF,
    (StsMode.NONE, True): MtaSts.OFF,
}
