"""The lab's one table: host, behaviour, certificate, and what a census must find.

Expectations are declared here, from how the lab is built; no scanner code is asked. The fields are those of the
`endpoints` and `certificates` rows. `population` lays the table out over as many domains as are wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lab.issue import Leaf

Fields = dict[str, object]
ALL = ["apple", "chrome", "microsoft", "mozilla"]

# What each issuer means. `chain_complete` is for a list that has the intermediate.
ISSUERS: dict[str, Fields] = {
    "everywhere": {"hierarchy": "public-chrome", "programs": ALL, "chain_complete": True},
    "server-limited": {
        "hierarchy": "public-chrome",
        "programs": ALL,
        "chain_complete": True,
        "effective_eku_class": "server-only",  # whatever the end entity certificate says
    },
    "crossed": {"hierarchy": "public-chrome", "programs": ALL, "chain_complete": True},
    "anchored": {
        "hierarchy": "public-chrome",
        "programs": ["apple", "chrome", "mozilla"],
        "chain_complete": True,
    },
    "not-chrome": {"hierarchy": "public-not-chrome", "programs": ["apple", "mozilla"], "chain_complete": True},
    "sct-limited": {"hierarchy": "public-not-chrome", "programs": ["mozilla"], "chain_complete": True},
    "purpose-unknown": {"hierarchy": "public-purpose-unknown", "programs": [], "chain_complete": True},
    "email": {"hierarchy": "public-other-purpose", "programs": [], "chain_complete": True},
    "removed": {"hierarchy": "distrusted", "programs": [], "chain_complete": True},
    "private": {"hierarchy": "private", "programs": [], "chain_complete": False},
    "self": {"hierarchy": "self-signed", "programs": [], "chain_complete": False},
    "never-shown": {"hierarchy": "undetermined", "programs": [], "chain_complete": False},
}
UNREADABLE: Fields = {"eku_class": "unparsable", "hierarchy": "unparsable", "programs": []}
EKU_CLASSES = {"any-and-server": "any", "all-and-email": "server+client"}
"""The class of each set of usages that is not named after its class."""

OK: Fields = {"status": "measured", "stage": "quit", "failure": None, "client_auth": "not-requested"}


def failed(stage: str, failure: str, **more: object) -> Fields:
    return {"status": "failed", "stage": stage, "failure": failure, "client_auth": "untested", **more}


def after_tls(failure: str, client_auth: str, **more: object) -> Fields:
    return {"status": "measured", "stage": "ehlo-after-tls", "failure": failure, "client_auth": client_auth, **more}


# behaviour, a name of `lab.scripts` or `lab.smtp` -> what the session comes to
BEHAVIOURS: dict[str, Fields] = {
    "good": OK,
    "tls10": OK | {"tls_version": "TLSv1"},
    "tls11": OK | {"tls_version": "TLSv1.1"},
    "tls12": OK | {"tls_version": "TLSv1.2"},
    "tls13": OK | {"tls_version": "TLSv1.3"},
    "delayed-greeting": OK,
    "multi-line-greeting": OK,
    "injected": OK | {"injected_plaintext": True},
    "asks": OK | {"client_auth": "requested", "tls_version": "TLSv1.3", "client_ca_names": []},
    "asks-tls12": OK | {"client_auth": "requested", "tls_version": "TLSv1.2", "client_ca_names": []},
    "asks-with-names": OK | {"client_auth": "requested", "client_ca_names": ["CN=Lab private CA"]},
    "requires-alert": after_tls("tls-alert", "required", tls_version="TLSv1.3"),
    "requires-alert-tls12": {
        "status": "measured",
        "stage": "handshake",
        "failure": "tls-alert",
        "client_auth": "required",
        "tls_version": "TLSv1.2",
    },
    "requires-421": after_tls("negative-reply", "required", reply_code=421),
    "requires-421-unasked": after_tls("negative-reply", "required", reply_code=421),
    "requires-503": after_tls("negative-reply", "required", reply_code=503),
    "requires-close": after_tls("closed", "required"),
    "asks-then-busy": after_tls("negative-reply", "requested-unknown", reply_code=421),
    "asks-then-resets": after_tls("reset", "requested-unknown"),
    "no-starttls": failed("ehlo", "not-offered", starttls_offered=False),
    "starttls-substring": failed("ehlo", "not-offered", starttls_offered=False),
    "starttls-454": failed("starttls", "negative-reply", reply_code=454, starttls_offered=True),
    "ehlo-refused": failed("ehlo", "negative-reply", reply_code=502),
    "greeting-421": failed("greeting", "negative-reply", reply_code=421),
    "greeting-554": failed("greeting", "negative-reply", reply_code=554),
    "garbage-after-220": failed("handshake", "tls-protocol"),
    "not-smtp": failed("greeting", "malformed"),
    "closes": failed("greeting", "closed"),
    "resets": failed("greeting", "reset"),
    "refused": failed("connect", "refused"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: how such a host behaves, what it presents, and what its kind alone explains.

    `expected` has fields of the `endpoints` and `certificates` rows that issuer and behaviour do not give.
    """

    behaviour: str = "good"
    leaf: Leaf = field(default_factory=Leaf)
    software: str = "postfix"
    expected: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabHost:
    """One server: its name, its address, its kind. Hosts of one address are told apart by server_name.

    `presents` is the name in its certificate where that is not its own: many hosts may then share one.
    """

    name: str
    address: str
    kind: Kind
    presents: str = ""


def _ekus() -> Iterator[tuple[str, Kind]]:
    for eku in ("server+client", "server-only", "client-only", "any", "neither", "absent", "unparsable"):
        yield f"eku-{eku.replace('+', '-')}", Kind(leaf=Leaf(eku=eku))
    for eku in EKU_CLASSES:
        yield f"eku-{eku}", Kind(leaf=Leaf(eku=eku))


def _issuers() -> Iterator[tuple[str, Kind]]:
    for issuer in ISSUERS:
        form = "with-root" if issuer == "private" else "leaf-only" if issuer == "never-shown" else "complete"
        yield f"from-{issuer}", Kind(leaf=Leaf("server+client", issuer, form))


def _behaviours() -> Iterator[tuple[str, Kind]]:
    for number, behaviour in enumerate(BEHAVIOURS):
        yield behaviour, Kind(behaviour, software=("postfix", "exim", "sendmail", "exchange")[number % 4])


# Rows that need the pool (a list without its issuer, say) stand after those that fill it.
KINDS: dict[str, Kind] = {
    **dict(_ekus()),
    **dict(_issuers()),
    **dict(_behaviours()),
    "limited-any": Kind(leaf=Leaf("any", "server-limited")),
    "limited-absent": Kind(leaf=Leaf("absent", "server-limited")),
    "says-public": Kind(
        leaf=Leaf("server+client", "never-shown", "leaf-only", claims_public=True),
        expected={"hierarchy": "unresolved"},
    ),
    "logged-public": Kind(
        leaf=Leaf("server+client", "never-shown", "leaf-only", sct_age=20), expected={"hierarchy": "unresolved"}
    ),
    "sct-in-time": Kind(
        leaf=Leaf("server+client", "sct-limited", age=40, sct_age=40),
        expected={"hierarchy": "public-chrome", "programs": ["chrome", "mozilla"], "chrome_estimated": False},
    ),
    "sct-late": Kind(
        leaf=Leaf("server+client", "sct-limited", age=40, sct_age=10), expected={"chrome_estimated": False}
    ),
    "sct-none": Kind(
        leaf=Leaf("server+client", "sct-limited", age=40),
        expected={"hierarchy": "public-chrome", "programs": ["chrome", "mozilla"], "chrome_estimated": True},
    ),
    "crossed-half": Kind(leaf=Leaf(issuer="crossed", listed="half")),
    "private-alone": Kind(leaf=Leaf("server+client", "private", "leaf-only")),
    "leaf-only": Kind(leaf=Leaf(listed="leaf-only"), expected={"chain_complete": False}),
    "untidy-list": Kind(leaf=Leaf(listed="untidy")),
    "expired": Kind(leaf=Leaf(expired=True)),
    "wrong-name": Kind(leaf=Leaf(named="other")),
    "wildcard": Kind(leaf=Leaf(named="wildcard")),
    "common-name": Kind(leaf=Leaf(named="common-name")),
    "rsa": Kind(leaf=Leaf(rsa=True), expected={"key_type": "rsa", "key_bits": 2048}),
    "unreadable": Kind(leaf=Leaf(unreadable=True)),
}
"""A leaf that OpenSSL itself cannot read is missing: no TLS library would present it. `unreadable` passes OpenSSL,
which does not read dates in a handshake."""

CERTIFICATE_FIELDS = frozenset(
    {"eku_class", "effective_eku_class", "hierarchy", "programs", "chrome_estimated", "key_type", "key_bits"}
)
ENDPOINT_FIELDS = frozenset({"eku_class", "hierarchy", "programs", "chain_complete"})


def measured(kind: Kind) -> bool:
    """Whether a session with such a host yields a certificate."""
    return BEHAVIOURS[kind.behaviour]["status"] == "measured"


def expected_endpoint(kind: Kind) -> Fields:
    """The fields of the endpoint's row that the table determines."""
    session = BEHAVIOURS[kind.behaviour]
    if not measured(kind):
        return {**session, "certificate": None, "eku_class": None, "hierarchy": None}
    leaf = kind.leaf
    if leaf.unreadable:
        return session | UNREADABLE
    return {
        **_chosen(ISSUERS[leaf.issuer], ENDPOINT_FIELDS),
        **session,
        "eku_class": EKU_CLASSES.get(leaf.eku, leaf.eku),
        "expired": leaf.expired,
        "name_match": leaf.named in ("host", "wildcard"),
        **_chosen(kind.expected, ENDPOINT_FIELDS),
    }


def expected_certificate(kind: Kind) -> Fields:
    """The fields of the end entity certificate's row that the table determines."""
    leaf = kind.leaf
    if leaf.unreadable:
        return {"role": "server", **UNREADABLE}
    eku = EKU_CLASSES.get(leaf.eku, leaf.eku)
    fields: Fields = {
        "role": "server",
        "eku_class": eku,
        "effective_eku_class": eku,
        "email": leaf.eku in ("neither", "all-and-email"),
        "self_signed": leaf.issuer == "self",
        "programs_unknown": ["apple", "microsoft"] if leaf.issuer == "purpose-unknown" else [],
        **_chosen(ISSUERS[leaf.issuer], CERTIFICATE_FIELDS),
        **_chosen(kind.expected, CERTIFICATE_FIELDS),
    }
    return fields if eku == "unparsable" else fields | {"parse_error": None}


def _chosen(fields: Fields, names: frozenset[str]) -> Fields:
    return {name: value for name, value in fields.items() if name in names}
