"""The lab's one table: host, behaviour, certificate, and what a census must find.

Expectations are declared here, from how the lab is built; no scanner code is asked. The fields are those of the
`endpoints` and `domains` rows. `population` lays the table out over as many domains as are wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lab.authority import Leaf

Fields = dict[str, object]
ALL = ["apple", "chrome", "microsoft", "mozilla"]

# What each issuer means. `chain_complete` is for a list that has the intermediate.
ISSUERS: dict[str, Fields] = {
    "everywhere": {"hierarchy": "public-chrome", "programs": ALL, "chain_complete": True},
    "server-limited": {"hierarchy": "public-chrome", "programs": ALL, "chain_complete": True},
    "not-chrome": {"hierarchy": "public-not-chrome", "programs": ["apple", "mozilla"], "chain_complete": True},
    "sct-limited": {"hierarchy": "public-not-chrome", "programs": ["mozilla"], "chain_complete": True},
    "purpose-unknown": {"hierarchy": "public-purpose-unknown", "programs": [], "chain_complete": True},
    "email": {"hierarchy": "public-other-purpose", "programs": [], "chain_complete": True},
    "removed": {"hierarchy": "distrusted", "programs": [], "chain_complete": True},
    "private": {"hierarchy": "private", "programs": [], "chain_complete": False},
    "self": {"hierarchy": "self-signed", "programs": [], "chain_complete": False},
    "never-shown": {"hierarchy": "undetermined", "programs": [], "chain_complete": False},
}

OK: Fields = {"status": "measured", "stage": "quit", "failure": None, "client_auth": "not-requested"}


def failed(stage: str, failure: str, **more: object) -> Fields:
    return {"status": "failed", "stage": stage, "failure": failure, "client_auth": "untested", **more}


def after_tls(failure: str, client_auth: str, **more: object) -> Fields:
    return {"status": "measured", "stage": "ehlo-after-tls", "failure": failure, "client_auth": client_auth, **more}


# behaviour of `lab.smtp` -> what the session comes to
BEHAVIOURS: dict[str, Fields] = {
    "good": OK,
    "tls10": OK | {"tls_version": "TLSv1"},
    "tls11": OK | {"tls_version": "TLSv1.1"},
    "tls12": OK | {"tls_version": "TLSv1.2"},
    "tls13": OK | {"tls_version": "TLSv1.3"},
    "delayed-greeting": OK,
    "multi-line-greeting": OK,
    "injected": OK | {"injected_plaintext": True},
    "asks": OK | {"client_auth": "requested", "tls_version": "TLSv1.3"},
    "asks-tls12": OK | {"client_auth": "requested", "tls_version": "TLSv1.2"},
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
    "requires-503": after_tls("negative-reply", "required", reply_code=503),
    "requires-close": after_tls("closed", "required"),
    "asks-then-busy": after_tls("negative-reply", "requested-unknown", reply_code=421),
    "no-starttls": failed("ehlo", "not-offered", starttls_offered=False),
    "starttls-substring": failed("ehlo", "not-offered", starttls_offered=False),
    "starttls-454": failed("starttls", "negative-reply", reply_code=454),
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
    """One row of the table: how such a host behaves, and what it presents."""

    behaviour: str = "good"
    leaf: Leaf = field(default_factory=Leaf)
    software: str = "postfix"
    expected: Fields = field(default_factory=dict)


def _ekus() -> Iterator[tuple[str, Kind]]:
    for eku in ("server+client", "server-only", "client-only", "any", "neither", "absent", "unparsable"):
        yield f"eku-{eku.replace('+', '-')}", Kind(leaf=Leaf(eku=eku))


def _issuers() -> Iterator[tuple[str, Kind]]:
    for issuer in ISSUERS:
        form = "with-root" if issuer == "private" else "leaf-only" if issuer == "never-shown" else "complete"
        yield f"from-{issuer}", Kind(leaf=Leaf("server+client", issuer, form))


def _behaviours() -> Iterator[tuple[str, Kind]]:
    for number, behaviour in enumerate(BEHAVIOURS):
        yield behaviour, Kind(behaviour, software=("postfix", "exim", "sendmail", "exchange")[number % 4])


KINDS: dict[str, Kind] = {
    **dict(_ekus()),
    **dict(_issuers()),
    **dict(_behaviours()),
    "limited-both": Kind(
        leaf=Leaf("server+client", "server-limited"), expected={"effective_eku_class": "server-only"}
    ),
    "says-public": Kind(
        leaf=Leaf("server+client", "never-shown", "leaf-only", claims_public=True),
        expected={"hierarchy": "unresolved"},
    ),
    "leaf-only": Kind(leaf=Leaf(listed="leaf-only"), expected={"chain_complete": False}),
    "untidy-list": Kind(leaf=Leaf(listed="untidy")),
    "expired": Kind(leaf=Leaf(expired=True)),
    "wrong-name": Kind(leaf=Leaf(wrong_name=True)),
}


def expected_endpoint(kind: Kind) -> Fields:
    """The fields of the endpoint's row that the table determines."""
    session = BEHAVIOURS[kind.behaviour]
    if session["status"] != "measured":
        return {**session, "eku_class": None, "hierarchy": None}
    leaf = kind.leaf
    fields: Fields = {
        **ISSUERS[leaf.issuer],
        **session,
        "eku_class": leaf.eku,
        "expired": leaf.expired,
        "name_match": not leaf.wrong_name,
    }
    return fields | {name: value for name, value in kind.expected.items() if name != "effective_eku_class"}
