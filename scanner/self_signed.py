"""Certificates that software makes for itself, told by a table (`data/self_signed.toml`).

Some carry serverAuth and clientAuth only because a tool's default says so, without any client use; counted apart,
they do not inflate the number of certificates that somebody made for both roles. The table says for each row
whether the subject names the software or only the form agrees, and where that was read.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from scanner.records import Certificate, Hierarchy

_COMMON_NAME = re.compile(r"(?:^|,)CN=([^,+]+)")


@dataclass(frozen=True, slots=True)
class SoftwareDefault:
    """One row: every condition that is given has to hold. The table's own comments explain the fields."""

    id: str
    software: str
    certainty: str
    issued: str
    source: str
    subject: str | None = None
    issuer: str | None = None
    eku: tuple[str, ...] | None = None
    days: tuple[int, ...] | None = None
    ca: bool | None = None
    names: str | None = None

    def matches(self, certificate: Certificate) -> bool:
        """Whether the certificate has the form of this row; who signed it is the caller's to know."""
        if self.subject is not None and not re.search(self.subject, certificate.subject or ""):
            return False
        if self.issuer is not None and not re.search(self.issuer, certificate.issuer or ""):
            return False
        if self.eku is not None and self.eku != (certificate.eku_oids or ()):
            return False
        if self.days is not None and _days(certificate) not in self.days:
            return False
        if self.ca is not None and self.ca != certificate.is_ca:
            return False
        return self.names is None or _NAMES[self.names](certificate)


def _days(certificate: Certificate) -> int | None:
    if certificate.not_before is None or certificate.not_after is None:
        return None
    return (certificate.not_after - certificate.not_before).days


def _common_name(certificate: Certificate) -> str:
    found = _COMMON_NAME.search(certificate.subject or "")
    return found[1].lower() if found else ""


def _lower(certificate: Certificate) -> list[str]:
    return [name.lower() for name in certificate.dns_names]


def _host_and_fqdn(certificate: Certificate) -> bool:
    host, names = _common_name(certificate), _lower(certificate)
    return host in names and any(name.startswith(host + ".") for name in names)


_NAMES: dict[str, Callable[[Certificate], bool]] = {
    "common-name": lambda certificate: _lower(certificate) == [_common_name(certificate)],
    "includes-common-name": lambda certificate: _common_name(certificate) in _lower(certificate),
    "host-and-fqdn": _host_and_fqdn,
}

_ISSUED = {
    "by-itself": {Hierarchy.SELF_SIGNED},
    "by-its-own-ca": {Hierarchy.SELF_SIGNED, Hierarchy.PRIVATE, Hierarchy.UNDETERMINED},
}


def load_defaults() -> tuple[SoftwareDefault, ...]:
    """The table that comes with the program."""
    text = (resources.files("scanner") / "data" / "self_signed.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["software"]
    return tuple(SoftwareDefault(**{key: _frozen(value) for key, value in row.items()}) for row in rows)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def recognise(certificate: Certificate, hierarchy: Hierarchy, defaults: Sequence[SoftwareDefault]) -> str | None:
    """The id of the software whose own certificate this looks like, the first that matches, or None."""
    for default in defaults:
        if hierarchy in _ISSUED[default.issued] and default.matches(certificate):
            return default.id
    return None
