"""The figures as data: what each one counts, in which units, with which caveat, for which question.

A figure's key fields are facts of an endpoint (`storage.profiles.FACTS`) or, where `source` is not `PROFILE`,
counts that are read ready-made. Ids and key fields are part of the contract: scripts rely on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from reports import software_matrix
from scanner.policy_records import MtaSts
from scanner.records import Hierarchy

MIXED = "mixed"
"""Every key field of the row for units whose endpoints do not agree."""


class Unit(StrEnum):
    """What is counted."""

    CERTIFICATE = "certificate"
    ENDPOINT = "endpoint"
    ADDRESS = "address"
    MX_HOST = "mx_host"
    DOMAIN = "domain"
    OPERATOR = "operator"
    WEIGHT = "weight"
    ISSUER = "issuer"


UNIT_TITLES: Mapping[Unit, str] = MappingProxyType(
    {
        Unit.CERTIFICATE: "end entity certificates",
        Unit.ENDPOINT: "endpoints",
        Unit.ADDRESS: "addresses",
        Unit.MX_HOST: "MX hosts",
        Unit.DOMAIN: "domains",
        Unit.OPERATOR: "operators",
        Unit.WEIGHT: "weight",
        Unit.ISSUER: "private issuers",
    }
)

UNIT_NOTES: Mapping[Unit, str] = MappingProxyType(
    {
        Unit.CERTIFICATE: "distinct end entity certificates; as servers, of at least one measured endpoint",
        Unit.ENDPOINT: "an endpoint is an MX host name on one address and port; its last attempt counts",
        Unit.ADDRESS: "an address stands for all its measured endpoints",
        Unit.MX_HOST: "an MX host stands for the measured endpoints on all its addresses",
        Unit.DOMAIN: "a domain stands for the measured endpoints of all its MX hosts",
        Unit.OPERATOR: "the registrable domain of the MX host by the public suffix list: an approximation",
        Unit.WEIGHT: "the sum of the weights given with the domains, a domain without one counting nothing; of "
        "what others saw, the sum of their counts: sessions, messages",
        Unit.ISSUER: "an issuer is the key that verifies the signature, whatever name it bears: a self-signed "
        "certificate's own, or that of the private CA; where an old classification lacks it, the issuer's name",
    }
)


class Source(StrEnum):
    """Where a figure's counts come from."""

    PROFILE = "profile"  # the facts of measured endpoints
    TESTED = "tested"  # the facts of tested endpoints, failed ones too
    ROUTING = "routing"
    NAMES_PER_ADDRESS = "names-per-address"
    PRIVATE_SPREAD = "private-spread"
    CLIENT_NEED = "client-need"


CONNECTED = (Unit.ENDPOINT, Unit.ADDRESS, Unit.MX_HOST, Unit.DOMAIN, Unit.OPERATOR, Unit.WEIGHT)
EVERY = (Unit.CERTIFICATE, *CONNECTED)
PRESENTED = (Unit.CERTIFICATE, Unit.OPERATOR, Unit.WEIGHT)
"""Units of what peers present as clients."""

QUESTION_SCALE = "How many mail servers have a certificate for both roles?"
QUESTION_PUBLIC = "How much is public and how much private?"
QUESTION_WHICH = "Which hierarchies and programs are they?"
QUESTION_WHEN = "When can they no longer be renewed as they are?"
QUESTION_CLIENT = "Which servers ask a client for a certificate?"
QUESTION_NEED = "Who presents a certificate as a client, and who needs to?"
QUESTION_SOFTWARE = "What software is it?"
QUESTION_MOVE = "Who needs a public certificate, and who could move to a private hierarchy?"
QUESTION_COVERAGE = "What was asked, and what answered?"


@dataclass(frozen=True, slots=True)
class Definition:
    """One figure. `order` fixes the order of rows by their first key field; others follow by size.

    `units` are those of role server, `client_units` those of role client, for what peers present as clients.
    """

    id: str
    title: str
    units: tuple[Unit, ...]
    keys: tuple[str, ...]
    numerator: str
    denominator: str
    caveat: str
    question: str
    source: Source = Source.PROFILE
    order: tuple[str, ...] = ()
    headline: bool = False  # also counted without the ten largest operators
    by_key: bool = False  # rows that `order` does not name follow by their key, not by size
    client_units: tuple[Unit, ...] = ()


MEASURED = "units with at least one measured endpoint"
AGREE = "units whose measured endpoints all have this key; `mixed` where they do not agree"
EXPOSED = (
    "units whose measured endpoints all have certificates of this month: that of the first renewal that can no "
    "longer carry both roles, since the CA ends them or a program that trusts the root forbids them, whichever is "
    "earlier; `unknown-sunset` where neither date is known; `not-valid` for such certificates when the scan began "
    "outside their validity; `not-affected` for all that are not public with both roles"
)
EXPOSURE_CAVEAT = (
    "An estimate: a certificate is taken to be renewed on the day it expires, for as long as before or as the "
    "Baseline Requirements then allow. Most clients renew earlier, and CAs move their dates."
)

DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "routing",
        "Mail routing of the domains",
        (Unit.DOMAIN, Unit.WEIGHT),
        ("routing",),
        "domains with this mail routing (RFC 5321 section 5.1, RFC 7505)",
        "domains whose mail routing was looked up",
        "`error` is our resolver's failure to learn, not the domain's lack of mail.",
        QUESTION_COVERAGE,
        Source.ROUTING,
    ),
    Definition(
        "outcome",
        "How far the sessions got",
        CONNECTED,
        ("stage", "failure"),
        "units whose tested endpoints all ended in this stage and way; `none` where all went well",
        "units with at least one tested endpoint",
        "The view from one network at one time; a refusal may be meant for the scanner alone.",
        QUESTION_COVERAGE,
        Source.TESTED,
    ),
    Definition(
        "eku",
        "Extended key usage of the certificates",
        EVERY,
        ("eku",),
        AGREE,
        MEASURED,
        "What the certificate says, not what its intermediates leave of it; `absent` is not `server+client`. "
        "Carrying clientAuth is no proof of use as a client.",
        QUESTION_SCALE,
        headline=True,
        client_units=PRESENTED,
    ),
    Definition(
        "hierarchy",
        "Issuing hierarchy of the certificates",
        EVERY,
        ("hierarchy",),
        AGREE,
        MEASURED,
        "Judged against one trust snapshot and the CA certificates that the scan saw. Private is a range: "
        "without the missing issuer `undetermined` may be either.",
        QUESTION_PUBLIC,
        headline=True,
        client_units=PRESENTED,
    ),
    Definition(
        "eku_by_hierarchy",
        "Extended key usage by issuing hierarchy",
        EVERY,
        ("eku", "hierarchy"),
        AGREE,
        MEASURED,
        "Software packages make self-signed certificates for both roles that no client ever uses.",
        QUESTION_PUBLIC,
        client_units=PRESENTED,
    ),
    Definition(
        "programs",
        "Root programs that trust the certificates for servers",
        EVERY,
        ("programs",),
        "units whose measured endpoints are all trusted by exactly these programs; `none` by no program",
        MEASURED,
        "Where the snapshot does not record a root's purpose, the program is missing here.",
        QUESTION_WHICH,
        headline=True,
        client_units=PRESENTED,
    ),
    Definition(
        "client_auth",
        "Requests for a client certificate",
        EVERY,
        ("client_auth",),
        AGREE,
        MEASURED,
        "What a stranger without a certificate met on the TLS version of this session, no more.",
        QUESTION_CLIENT,
        headline=True,
    ),
    Definition(
        "eku_by_client_auth",
        "Extended key usage by request for a client certificate",
        EVERY,
        ("eku", "client_auth"),
        AGREE,
        MEASURED,
        "The certificate is the one presented as a server; what the host presents as a client is not seen.",
        QUESTION_CLIENT,
    ),
    Definition(
        "client_ca_names",
        "CAs named in requests for a client certificate",
        EVERY,
        ("client_ca_names",),
        "units whose measured endpoints all ask with names of this class: `empty`, no name; `public`, all are "
        "names of public CAs; `public-and-other`, some are; `own`, all are of CAs above what the server itself "
        "presents; `private`, none is; `not-requested` and `untested` as in `client_auth`",
        MEASURED,
        "Names are what a server says that it takes, not what it checks.",
        QUESTION_CLIENT,
        order=("not-requested", "empty", "public", "public-and-other", "own", "private", "untested"),
    ),
    Definition(
        "issuers",
        "Owners of the issuing CAs",
        EVERY,
        ("ca_owner",),
        AGREE,
        MEASURED,
        "Owners of public CAs only; every other issuer appears by its class of hierarchy.",
        QUESTION_WHICH,
        client_units=PRESENTED,
    ),
    Definition(
        "eku_by_issuer",
        "Extended key usage by owner of the issuing CA",
        EVERY,
        ("eku", "ca_owner"),
        AGREE,
        MEASURED,
        "Owners of public CAs only; every other issuer appears by its class of hierarchy.",
        QUESTION_WHICH,
    ),
    Definition(
        "exposure",
        "First renewal that can no longer be for both roles",
        EVERY,
        ("exposure",),
        EXPOSED,
        MEASURED,
        EXPOSURE_CAVEAT,
        QUESTION_WHEN,
        headline=True,
        by_key=True,
    ),
    Definition(
        "exposure_by_program",
        "First renewal that can no longer be for both roles, by root programs",
        EVERY,
        ("exposure", "programs"),
        EXPOSED,
        MEASURED,
        EXPOSURE_CAVEAT,
        QUESTION_WHEN,
        by_key=True,
    ),
    Definition(
        "exposure_by_ca",
        "First renewal that can no longer be for both roles, by owner of the CA",
        EVERY,
        ("exposure", "ca_owner"),
        EXPOSED,
        MEASURED,
        EXPOSURE_CAVEAT,
        QUESTION_WHEN,
        by_key=True,
    ),
    Definition(
        "policy_cohorts",
        "Issue and end of the certificates between the dates of policies",
        EVERY,
        ("issued_since", "expires_since", "eku"),
        "units whose measured endpoints all have certificates issued and ending in these periods: each begins at a "
        "policy date and ends before the next; `earlier` is before all dates",
        MEASURED,
        "Whether a certificate was issued, or ends, before or after any one date is a sum of rows. Whether a rule "
        "binds it depends on the programs that trust its root.",
        QUESTION_WHEN,
        order=("earlier",),
        by_key=True,
    ),
    Definition(
        "private_spread",
        "Private issuers by number of operators",
        (Unit.ISSUER,),
        ("operators",),
        "private issuers whose certificates this many operators present",
        "issuers of self-signed and private certificates of measured endpoints",
        "An issuer in many hands is mostly a software package's or an appliance's default.",
        QUESTION_PUBLIC,
        Source.PRIVATE_SPREAD,
        order=("1", "2-9", "10-99", "100 and more", "unknown"),
        client_units=(Unit.ISSUER,),
    ),
    Definition(
        "validity",
        "Validity periods in days",
        EVERY,
        ("validity",),
        AGREE,
        MEASURED,
        "From notBefore to notAfter, whatever remains of it.",
        QUESTION_WHICH,
        order=("0-47", "48-100", "101-200", "201-398", "399-825", "826 or more", "unknown"),
        client_units=PRESENTED,
    ),
    Definition(
        "key_types",
        "Public keys of the certificates",
        EVERY,
        ("key_type", "key_bits"),
        AGREE,
        MEASURED,
        "Servers with several certificates show the one that they chose for this handshake.",
        QUESTION_WHICH,
        client_units=PRESENTED,
    ),
    Definition(
        "second_certificate",
        "Servers with certificates of both key types",
        CONNECTED,
        ("second_certificate",),
        "units whose measured endpoints, asked again for a certificate of the other key type only (RSA or ECDSA, "
        "up to TLS 1.2), all presented one of the same EKU class (`same-eku`) or of another (`other-eku`), refused "
        "(`none`), or ended otherwise (`unknown`); `not-looked-for` without that option of the scan",
        MEASURED,
        "A server that speaks TLS 1.3 only is `unknown`. All other figures are of the first connection alone.",
        QUESTION_WHICH,
        order=("none", "same-eku", "other-eku", "unknown", "not-looked-for"),
    ),
    Definition(
        "tls_versions",
        "TLS versions",
        CONNECTED,
        ("tls_version",),
        AGREE,
        MEASURED,
        "The version that the server chose from all that the scanner offered.",
        QUESTION_SOFTWARE,
        order=("TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1"),
        client_units=(Unit.WEIGHT,),
    ),
    Definition(
        "software",
        "Server software",
        CONNECTED,
        ("software",),
        AGREE,
        MEASURED,
        "Told from the greeting and the reply to EHLO; it does not tell the TLS library.",
        QUESTION_SOFTWARE,
    ),
    Definition(
        "software_by_eku",
        "Server software by extended key usage",
        CONNECTED,
        ("software", "eku"),
        AGREE,
        MEASURED,
        "Told from the greeting and the reply to EHLO; it does not tell the TLS library.",
        QUESTION_SOFTWARE,
    ),
    Definition(
        "dane",
        "DANE of the MX hosts",
        EVERY,
        ("dane", "eku", "hierarchy"),
        AGREE,
        MEASURED,
        "TLSA records count only where MX, address and TLSA answers are authenticated; `insecure` where they are "
        "not. A sender with DANE asks for no public CA where it is `match`; one without it may.",
        QUESTION_MOVE,
        order=("match", "mismatch", "unusable", "error", "none", "insecure"),
    ),
    *(
        Definition(
            f"software_{fact}",
            title,
            CONNECTED,
            (fact,),
            f"units whose measured endpoints all claim software that has been seen to {what} (`yes`) or not (`no`)",
            MEASURED,
            software_matrix.CAVEAT,
            QUESTION_SOFTWARE,
            order=("yes", "no", "differs", "not-seen"),
        )
        for fact, title, what in software_matrix.FIGURES
    ),
    Definition(
        "mta_sts",
        "MTA-STS of the domains",
        (Unit.DOMAIN, Unit.WEIGHT),
        ("mta_sts", "eku", "hierarchy"),
        AGREE,
        MEASURED,
        "Policies are fetched with --mta-sts only; `not-fetched` is a domain with a valid record whose policy "
        "nobody asked for. Under `enforce` senders take only publicly trusted server certificates.",
        QUESTION_MOVE,
        order=tuple(standing.value for standing in MtaSts),
    ),
    Definition(
        "sni_agreement",
        "Several names of one address",
        (Unit.ADDRESS,),
        ("agreement",),
        "measured addresses contacted under one name, or under several that presented one certificate or more",
        "addresses with at least one measured endpoint",
        "At most --names-per-address names of an address are contacted.",
        QUESTION_SCALE,
        Source.NAMES_PER_ADDRESS,
        order=("one-name", "same-certificate", "different-certificates"),
    ),
    Definition(
        "concentration",
        "Concentration on the largest operators",
        (Unit.ENDPOINT, Unit.ADDRESS, Unit.MX_HOST, Unit.DOMAIN, Unit.WEIGHT),
        ("operators",),
        "units whose measured endpoints all belong to operators of this rank by number of domains",
        MEASURED,
        "The share of the top 5 or 10 is the sum of the rows down to there.",
        QUESTION_SCALE,
        order=("1", "2-5", "6-10", "11 or more"),
    ),
    Definition(
        "client_need",
        "Certificates by what is known of their use as a client",
        (),
        ("carries", "presented", "required"),
        "end entity certificates of servers and of clients, one and the same where their SHA-256 is, that carry "
        "clientAuth (`yes`), have been seen presented as a client, and met a peer that required one",
        "distinct end entity certificates of either role",
        "Three rungs, not one: carrying is not presenting, and presenting is not needing. `unknown` says that "
        "nobody looked: an MX census sees no client, and `listen` never requires. `no` is as far as those saw who "
        "looked. A client whose certificate is not its server's counts twice.",
        QUESTION_NEED,
        Source.CLIENT_NEED,
        order=("yes", "any", "absent", "no", "unparsable"),
        client_units=(Unit.CERTIFICATE,),
    ),
)

MISSING: Mapping[str, str] = MappingProxyType({})
"""Figures of the contract that nothing stored can answer yet, and why."""

PRIVATE_LOW = (Hierarchy.PRIVATE, Hierarchy.SELF_SIGNED)
PRIVATE_HIGH = (*PRIVATE_LOW, Hierarchy.UNDETERMINED)

BIAS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("not tested by policy", ("excluded", "special-purpose", "address-cap", "operator-stopped")),
    ("outside the sample", ("not-sampled",)),
    ("rate-limited", ("parked",)),
    ("unreachable", ("connect/",)),
    ("refused by the server", ("/negative-reply",)),
    ("no STARTTLS", ("/not-offered",)),
    ("no mail server", ("null-mx", "none", "no-address")),
    ("interrupted", ("interrupted", "unresolved")),
    ("no certificate presented", ("no-certificate", "no-tls")),
    ("seen by others only", ("no-session", "unknown-certificate")),
)
"""Coarse classes of not measured, first that holds: a reason, the start of one (`x/`) or its end (`/x`)."""


def bias_of(reason: str) -> str:
    """The coarse class of a reason in `coverage.not_measured`; `other` where none holds."""
    for name, patterns in BIAS:
        for pattern in patterns:
            if pattern == reason:
                return name
            if pattern.endswith("/") and reason.startswith(pattern):
                return name
            if pattern.startswith("/") and reason.endswith(pattern):
                return name
    return "other"
