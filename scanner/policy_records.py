"""The records of what owners say about TLS, DANE and MTA-STS, beside those of `scanner.records`.

Whoever may import those may import these; the values of the enums are words of rows and reports too.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Dane(StrEnum):
    """What DANE comes to for one host and what it presents (RFC 7672); the first three need no certificate."""

    INSECURE = "insecure"  # the MX, address or TLSA answer is not authenticated, so TLSA records would not count
    NONE = "none"  # authenticated: there are no TLSA records
    ERROR = "error"  # the TLSA records could not be looked up; a sender with DANE waits
    UNUSABLE = "unusable"  # there are TLSA records, none of which a sender can use
    MISMATCH = "mismatch"
    MATCH = "match"


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """One TLSA record as it stands (RFC 6698 section 2.1), usable or not."""

    usage: int
    selector: int
    matching_type: int
    data: bytes

    @property
    def parameters(self) -> str:
        """The three numbers as people write them: `3 1 1`."""
        return f"{self.usage} {self.selector} {self.matching_type}"


@dataclass(frozen=True, slots=True)
class TlsaSet:
    """The TLSA RRset of an MX host on the port of the scan, asked for only where it can count.

    `base` is the TLSA base domain (RFC 7672 section 2.2.3): the host's name, or the name that it is an alias of.
    `rcode` is None when there was no answer.
    """

    base: str
    rcode: str | None
    authenticated: bool = False
    records: tuple[TlsaRecord, ...] = ()

    @property
    def standing(self) -> Dane | None:
        """What holds whatever the host presents; None where that has to be compared."""
        if self.rcode not in ("NOERROR", "NXDOMAIN"):
            return Dane.ERROR
        if not self.authenticated:
            return Dane.INSECURE
        return None if self.records else Dane.NONE


class StsRecord(StrEnum):
    """What a domain's _mta-sts TXT records come to (RFC 8461 section 3.1)."""

    NONE = "none"
    VALID = "valid"
    INVALID = "invalid"  # several records of the version, or one that breaks the grammar
    ERROR = "error"  # could not be looked up


@dataclass(frozen=True, slots=True)
class StsAnswer:
    """The answer to _mta-sts TXT: `id` of a valid record, `text` of the first of the version, bounded in length."""

    record: StsRecord
    rcode: str | None
    id: str | None = None
    text: str | None = None


class PolicyFailure(StrEnum):
    """Why there is no MTA-STS policy; the first four: nobody was contacted."""

    EXCLUDED = "excluded"
    SPECIAL_PURPOSE = "special-purpose"
    PARKED = "parked"  # the address asked for a pause
    OPERATOR_STOPPED = "operator-stopped"
    NO_ADDRESS = "no-address"  # the policy host has none
    DNS_ERROR = "dns-error"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"  # at any stage, or altogether
    CLOSED = "closed"  # or reset, anywhere but within HTTP
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_UNTRUSTED = "certificate-untrusted"
    TLS = "tls"  # no TLS, or no handshake
    MALFORMED = "malformed"  # not HTTP, or broken off
    REDIRECT = "redirect"  # never followed (RFC 8461 section 3.3)
    STATUS = "status"  # any other status than 200
    MEDIA_TYPE = "media-type"  # not text/plain
    TOO_LARGE = "too-large"
    SYNTAX = "syntax"  # fetched, and no policy
    LOCAL = "local"


class StsMode(StrEnum):
    """The mode of a policy (RFC 8461 section 5)."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """What became of fetching a domain's MTA-STS policy: a failure, or mode, max_age (seconds) and mx patterns.

    `address` is the one that was dialled, None where nobody was; `status` the HTTP status, where there was one.
    `text` is what was served, where it was read; `detail` says in a few words what failed, for people.
    """

    domain: str
    fetched_at: datetime
    failure: PolicyFailure | None = None
    detail: str = ""
    address: str | None = None
    status: int | None = None
    mode: StsMode | None = None
    max_age: int | None = None
    mx: tuple[str, ...] = ()
    text: str | None = None


class MtaSts(StrEnum):
    """What MTA-STS comes to for a domain (RFC 8461)."""

    ENFORCE = "enforce"
    ENFORCE_MISMATCH = "enforce-mismatch"  # some MX host is not in the policy: senders may not use it
    TESTING = "testing"
    TESTING_MISMATCH = "testing-mismatch"
    OFF = "off"  # a policy with mode none
    POLICY_INVALID = "policy-invalid"
    UNAVAILABLE = "unavailable"
    NOT_FETCHED = "not-fetched"  # a valid record, and nobody asked for the policy
    RECORD_INVALID = "record-invalid"
    RECORD_ERROR = "record-error"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsVerdict:
    """What stored facts say of a domain's MTA-STS; `unmatched` are its MX hosts that its policy leaves out."""

    domain: str
    mta_sts: MtaSts
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DaneVerdict:
    """What the TLSA records of an MX host say of one certificate_list; recomputable from stored facts.

    `record` has the parameters (`3 1 1`) of the record that matched, None without one.
    """

    mx_host: str
    list_sha256: str
    dane: Dane
    record: str | None = None
