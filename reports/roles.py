"""What a figure says in the role of servers and in that of clients, and which facts a certificate has in either."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reports.definitions import Definition, Source
from scanner.records import EkuClass, Role

CARRIES: Mapping[EkuClass, str] = MappingProxyType(
    {
        EkuClass.SERVER_AND_CLIENT: "yes",
        EkuClass.CLIENT_ONLY: "yes",
        EkuClass.ANY: "any",
        EkuClass.ABSENT: "absent",
        EkuClass.SERVER_ONLY: "no",
        EkuClass.NEITHER: "no",
        EkuClass.UNPARSABLE: "unparsable",
    }
)
"""Whether a certificate of this class carries clientAuth; no extension and any purpose are answers of their own."""

CERTIFICATE_KEYS = frozenset(
    {
        "eku",
        "hierarchy",
        "programs",
        "ca_owner",
        "key_type",
        "key_bits",
        "validity",
        "operators",
        "exposure",
        "issued_since",
        "expires_since",
    }
)
"""Key fields that a certificate answers whoever saw it; the others need a session of ours."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What a figure is called and says in one role."""

    title: str
    numerator: str
    denominator: str
    caveat: str


CLIENT_CAVEAT = (
    "Seen by one listener or in the logs of whoever brought them: what the same peers present elsewhere, and peers "
    "that never came, are not seen."
)


def wording(definition: Definition, role: Role) -> Wording:
    """The words of a figure in a role; the definition's own are those of role server."""
    own = Wording(definition.title, definition.numerator, definition.denominator, definition.caveat)
    if role is not Role.CLIENT or definition.source is Source.CLIENT_NEED:
        return own
    if definition.source is Source.PRIVATE_SPREAD:
        return Wording(
            f"As clients: {own.title}",
            own.numerator,
            "issuers of self-signed and private certificates presented as a client",
            CLIENT_CAVEAT,
        )
    return Wording(
        f"As clients: {own.title}",
        "units that presented as a client certificates which all have this key; `mixed` where they do not agree",
        "units that presented at least one certificate as a client",
        CLIENT_CAVEAT,
    )
