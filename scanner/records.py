"""Every record and closed enum of a census; the one module that every package may import.

The sentence that the records spell out: a domain (`Target`) has mail routing (`MailRouting`); routing names
MX hosts (`MxHost`); (host, address, port) is an `Endpoint`; one attempt at an endpoint is an `Observation`;
an observation presents certificates (`Certificate`), which with trust and time give a `Classification`.

Records are frozen and slotted. One function turns bytes into a record; everything after it trusts the record.
Enum values are the words of stored rows and reports, so they never change without a new `format_version`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from scanner.policy_records import StsAnswer, TlsaSet

# --------------------------------------------------------------------------------------------------- routing


class Routing(StrEnum):
    """How mail for a domain is routed (RFC 5321 section 5.1, RFC 7505)."""

    MX = "mx"
    IMPLICIT_MX = "implicit-mx"
    NULL_MX = "null-mx"
    NONE = "none"  # NXDOMAIN, or NODATA without an address
    ERROR = "error"  # SERVFAIL or no answer: we do not know


class MxNote(StrEnum):
    """Something unusual about one MX of a domain."""

    CNAME = "cname"  # the exchange is an alias, against RFC 2181 section 10.3; followed all the same
    ADDRESS_LITERAL = "address-literal"  # the exchange is written as an IP address; not looked up
    BAD_NAME = "bad-name"  # the exchange cannot be a host name; not looked up
    NULL_MX_IGNORED = "null-mx-ignored"  # a null MX stood beside this one (RFC 7505 section 3)
    TRUNCATED = "truncated"  # the set had more MX or addresses than the bound; this one was kept


@dataclass(frozen=True, slots=True)
class Target:
    """One domain to survey.

    `domain` is lower case, A-labels, no final dot. `weight` is what its column said, summed over repetitions
    (message volume, say), None where the input has no weights. `rank` is its position where the input ranks.
    """

    domain: str
    weight: float | None = None
    rank: int | None = None


class AnswerStatus(StrEnum):
    """What became of one DNS question. The five are never merged."""

    OK = "ok"  # NOERROR with at least one record of the type asked for
    NODATA = "nodata"  # NOERROR without one
    NXDOMAIN = "nxdomain"
    FAILED = "failed"  # any other rcode: SERVFAIL, REFUSED, FORMERR ...
    NO_ANSWER = "no-answer"  # timeout, unreachable, or nothing that answers the question


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question (name, type).

    `rcode` is IANA's mnemonic (`NOERROR`, `NXDOMAIN`, `SERVFAIL`), None when there was no answer. `data` holds
    the records at the end of the alias chain: MX as (preference, exchange), A and AAAA as canonical address
    text, TLSA as (usage, selector, matching type, data), TXT as bytes joined per record. Names have no final
    dot; the root is "". `canonical_name` is the name at the end of the alias chain, equal to the question where
    there is none. `authenticated` is the resolver's AD bit (RFC 4035 section 3.2.3).
    """

    status: AnswerStatus
    rcode: str | None
    authenticated: bool = False
    canonical_name: str = ""
    data: tuple[object, ...] = ()


class CaNames(StrEnum):
    """Whose CAs a CertificateRequest names (RFC 8446 section 4.2.4, RFC 5246 section 7.4.4), first that holds."""

    EMPTY = "empty"  # no name: any certificate may be sent
    PUBLIC = "public"  # every name is of a root that a program trusts, or of an intermediate of the snapshot
    PUBLIC_AND_OTHER = "public-and-other"  # some are
    OWN = "own"  # none is, and every one is subject or issuer of what the same server presents
    PRIVATE = "private"  # none is


@dataclass(frozen=True, slots=True)
class CaNamesVerdict:
    """The class of the CA names of a request, beside one certificate_list; both by their digests as stored."""

    ca_names_sha256: str
    list_sha256: str
    names_class: CaNames


@dataclass(frozen=True, slots=True)
class MxHost:
    """One MX of a domain with what its host name resolved to; `addresses` in canonical text, IPv4 first.

    `expanded` is the name that the host is an alias of, "" where it is none. `tlsa` is None where it was not asked
    for, since the MX or the addresses are not authenticated.
    """

    preference: int
    host: str
    addresses: tuple[str, ...] = ()
    rcode_a: str | None = None
    rcode_aaaa: str | None = None
    authenticated: bool = False
    notes: tuple[MxNote, ...] = ()
    expanded: str = ""
    tlsa: TlsaSet | None = None


@dataclass(frozen=True, slots=True)
class MailRouting:
    """The mail routing of a domain; `mx` sorted by preference, then host; empty for a null MX.

    `mta_sts` is None where it was not asked for: no mail is routed anywhere.
    """

    domain: str
    routing: Routing
    rcode: str | None
    authenticated: bool = False
    mx: tuple[MxHost, ...] = ()
    mta_sts: StsAnswer | None = None


# -------------------------------------------------------------------------------------- endpoints and attempts


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """The unit of contact: an MX host name on one of its addresses. `address` is canonical text."""

    mx_host: str
    address: str
    port: int


class Status(StrEnum):
    """Theirs was measured, the attempt failed, or it was not tested: three things that are never merged."""

    MEASURED = "measured"  # an end entity certificate was captured, even if the session failed later
    FAILED = "failed"
    NOT_TESTED = "not-tested"


class Reason(StrEnum):
    """Why an endpoint was not tested."""

    EXCLUDED = "excluded"
    SPECIAL_PURPOSE = "special-purpose"
    ADDRESS_CAP = "address-cap"
    PARKED = "parked"
    OPERATOR_STOPPED = "operator-stopped"
    INTERRUPTED = "interrupted"
    NOT_SAMPLED = "not-sampled"  # outside the sample that the scan drew


class Stage(StrEnum):
    """The last stage that a session entered."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    HANDSHAKE = "handshake"
    EHLO_AFTER_TLS = "ehlo-after-tls"
    QUIT = "quit"


class Failure(StrEnum):
    """What ended a session before the 250 of its second EHLO."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RESET = "reset"  # RST
    CLOSED = "closed"  # FIN
    MALFORMED = "malformed"  # not SMTP, or a reply that breaks the grammar or the bounds
    NEGATIVE_REPLY = "negative-reply"  # 4xx or 5xx
    NOT_OFFERED = "not-offered"
    TLS_ALERT = "tls-alert"
    TLS_PROTOCOL = "tls-protocol"  # not TLS, or broken
    LOCAL = "local"  # ours: out of sockets, a fault of this program


class ClientAuth(StrEnum):
    """What a stranger without a client certificate met, on the TLS version of this session."""

    NOT_REQUESTED = "not-requested"
    REQUESTED = "requested"
    REQUIRED = "required"
    REQUESTED_UNKNOWN = "requested-unknown"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Observation:
    """One attempt at an endpoint: facts only.

    `certificate_list` holds the DER of the certificates as presented, in order, duplicates kept; its first is
    the end entity certificate (RFC 5246 section 7.4.2, RFC 8446 section 4.4.2). `client_ca_names` holds the DER
    of each name in the CertificateRequest, None where none was seen. `failure` is None when all went well up
    to the 250 of the second EHLO. `detail` says in a few words what happened, for people; nothing matches on
    it. `greeting` and `ehlo_keywords` are the server's own text, bounded in length, control characters kept.
    `started_at` is aware UTC; `duration_ms` runs from before the connect to after the close.
    """

    endpoint: Endpoint
    attempt: int
    status: Status
    stage: Stage
    failure: Failure | None
    started_at: datetime
    duration_ms: int
    reply_code: int | None = None
    detail: str = ""
    greeting: str | None = None
    ehlo_greeting: str | None = None  # text of the EHLO reply's first line
    ehlo_keywords: tuple[str, ...] = ()
    starttls_offered: bool | None = None
    injected_plaintext: bool = False
    tls_version: str | None = None
    cipher_suite: str | None = None
    group: str | None = None
    certificate_list: tuple[bytes, ...] = ()
    client_auth: ClientAuth = ClientAuth.UNTESTED
    client_ca_names: tuple[bytes, ...] | None = None
    client_certificate_types: tuple[str, ...] | None = None  # of the CertificateRequest, up to TLS 1.2 only
    client_signature_algorithms: tuple[str, ...] | None = None  # likewise, in TLS 1.2 only
    ehlo_keywords_after_tls: tuple[str, ...] = ()  # this and the next serve `experiment`; scans do not store them
    tls_alert: int | None = None  # the alert with which the server ended the session
    source: str | None = None  # our own end, "address port"; this and the next two serve the log of connections
    octets_in: int = 0  # of TCP's payload
    octets_out: int = 0


# ---------------------------------------------------------------------------- certificates and what they mean


class EkuClass(StrEnum):
    """The set of extended key usages, first that holds (RFC 5280 section 4.2.1.12)."""

    UNPARSABLE = "unparsable"
    ABSENT = "absent"
    ANY = "any"
    SERVER_AND_CLIENT = "server+client"
    SERVER_ONLY = "server-only"
    CLIENT_ONLY = "client-only"
    NEITHER = "neither"


class Hierarchy(StrEnum):
    """Where a certificate comes from, first that holds; judged over all verified certification paths."""

    UNPARSABLE = "unparsable"
    PUBLIC_CHROME = "public-chrome"
    PUBLIC_NOT_CHROME = "public-not-chrome"
    PUBLIC_PURPOSE_UNKNOWN = "public-purpose-unknown"
    PUBLIC_OTHER_PURPOSE = "public-other-purpose"
    DISTRUSTED = "distrusted"
    SELF_SIGNED = "self-signed"
    PRIVATE = "private"
    UNRESOLVED = "unresolved"
    UNDETERMINED = "undetermined"


class Program(StrEnum):
    """The four root programs of a trust snapshot."""

    MOZILLA = "mozilla"
    CHROME = "chrome"
    APPLE = "apple"
    MICROSOFT = "microsoft"


class Role(StrEnum):
    """The role in which a certificate was presented; CA for every other certificate of a list."""

    SERVER = "server"
    CLIENT = "client"
    CA = "ca"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A certificate that was presented in a role, though no scan contacted whoever presented it.

    `number` tells the sightings of one census apart, in the order of arrival; one in role CA was brought as an
    issuer and is in no figure. `certificate_list` has lower-case hex SHA-256 digests, the end entity certificate's
    first; empty for a session in which a peer presented none. `count` is how often (sessions, messages);
    `operator` and `day` are the input's words. `required` says whether the peer to which it was presented insisted
    on one, None where nobody said. The rest are the facts of a session with `listen`, None elsewhere: `prefix` is a
    /24 or /48, never an address.
    """

    number: int
    role: Role
    certificate_list: tuple[str, ...]
    count: int = 1
    operator: str | None = None
    day: date | None = None
    required: bool | None = None
    seen_at: datetime | None = None
    prefix: str | None = None
    ehlo_name: str | None = None
    tls_version: str | None = None
    cipher_suite: str | None = None
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """Facts read from one certificate's DER.

    Names are RFC 4514 text. `serial` and digests are lower-case hex. `key_type` is `rsa`, `ec`, `ed25519`,
    `ed448`, `dsa` or the dotted OID of an algorithm that is not known here; `key_bits` is None for those.
    `signature_algorithm` is the usual name (`sha256WithRSAEncryption`, `ecdsa-with-SHA256`), else the dotted
    OID. `eku_oids` are sorted dotted decimals, None where there is no extension. When the certificate cannot be
    read at all, `parse_error` says why and every other field except `sha256` and `der` is None or empty; when
    only an extension is broken, `parse_error` names it, what can be read is there, and `eku_class` is
    `unparsable` only if the extended key usage is the broken one. `readable` tells the two apart.
    """

    sha256: str
    der: bytes
    readable: bool
    parse_error: str | None = None
    subject: str | None = None
    issuer: str | None = None
    serial: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    key_type: str | None = None
    key_bits: int | None = None
    spki_sha256: str | None = None
    signature_algorithm: str | None = None
    dns_names: tuple[str, ...] = ()
    eku_oids: tuple[str, ...] | None = None
    eku_class: EkuClass = EkuClass.UNPARSABLE
    is_ca: bool = False
    policy_oids: tuple[str, ...] = ()
    sct_timestamps: tuple[datetime, ...] = ()

    @property
    def email(self) -> bool:
        """Whether emailProtection is among the extended key usages."""
        return self.eku_oids is not None and "1.3.6.1.5.5.7.3.4" in self.eku_oids


UNKNOWN_SUNSET = "unknown-sunset"
NOT_AFFECTED = "not-affected"
"""What an exposure may be instead of a month."""


@dataclass(frozen=True, slots=True)
class Classification:
    """What a certificate means under one trust snapshot; recomputable from stored facts without traffic.

    `programs` and `programs_unknown` are sorted. `subclass` names known software's self-signed default, where
    recognised. `ca_owner` is the organisation of the anchor's row for public certificates, else None.
    `chrome_absence` says why Chrome is missing from `programs`: `never`, `constrained` or `removed`. `exposure` is
    the month (YYYY-MM) of the first renewal that can no longer be for both roles, `unknown-sunset` or
    `not-affected`. `issued_since` and `expires_since` are the latest dates of the policy table at or before its
    issue and its end, `earlier` where all come later, None where it has no dates; every cohort follows from them.
    `issuer_key` tells issuers apart: the SHA-256 of the SubjectPublicKeyInfo that verifies the signature; where no
    such key was seen what the certificate claims, `claimed:` and a digest of issuer name and key identifier, or
    `named:` and one of the name alone; None where its names cannot be read.
    """

    sha256: str
    eku_class: EkuClass
    effective_eku_class: EkuClass
    hierarchy: Hierarchy
    programs: tuple[Program, ...] = ()
    programs_unknown: tuple[Program, ...] = ()
    chrome_estimated: bool = False
    chrome_absence: str | None = None
    self_signed: bool = False
    subclass: str | None = None
    ca_owner: str | None = None
    exposure: str = NOT_AFFECTED
    issued_since: str | None = None
    expires_since: str | None = None
    issuer_key: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One dated rule about certificates; `program` is None for those of the CA/Browser Forum.

    It binds what is issued on or after `date`: `subscriber`, `subordinate` or `smime` certificates (`applies_to`).
    `forbids_combination`: serverAuth together with clientAuth is no longer allowed. `max_days` is the longest
    validity from then on. `superseded_by` is the id of the rule that took its place.
    """

    id: str
    date: date
    applies_to: str
    forbids_combination: bool
    says: str
    source: str
    program: Program | None = None
    max_days: int | None = None
    superseded_by: str | None = None


@dataclass(frozen=True, slots=True)
class ScanInfo:
    """The manifest of one scan: what a reader needs in order to trust or repeat it.

    `settings` has JSON values and no secrets. `state` is `running`, `interrupted` or `finished`.
    """

    scan: int
    label: str | None
    started_at: datetime
    finished_at: datetime | None
    state: str
    tool_version: str
    rules_version: str
    trust_id: str | None
    seed: int
    settings: Mapping[str, object]
