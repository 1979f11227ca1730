"""Name constraints of a CA certificate, and whether the names of a certificate below it satisfy them.

RFC 5280 section 4.2.1.10. Names of a form that is constrained but not understood here do not satisfy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from scanner import der
from scanner.names import NameKey, name_key, rdns

EMAIL, DNS, DIRECTORY, URI, ADDRESS = 0x81, 0x82, 0xA4, 0x86, 0x87
"""Identifier octets of the GeneralName forms that are understood (RFC 5280 section 4.2.1.6)."""

_EMAIL_ADDRESS = "1.2.840.113549.1.9.1"

_DEFAULTS: tuple[list[bytes], ...] = ([], [b"\x80\x01\x00"])
"""What may follow the base: nothing, or the minimum of 0 that DER would leave out."""

Name = str | bytes | NameKey
Names = Mapping[int, tuple[Name, ...]]
"""Names by form: text for EMAIL, DNS and URI, a comparison key for DIRECTORY, octets for every other."""


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """Subtrees by form, as `Names`."""

    permitted: Names
    excluded: Names

    def allow(self, names: Names) -> bool:
        """Whether every name is inside what is permitted and outside what is excluded."""
        for form, values in names.items():
            permitted, excluded = self.permitted.get(form), self.excluded.get(form)
            if permitted is None and excluded is None:
                continue
            within = _WITHIN.get(form)
            if within is None:
                return False
            for name in values:
                if any(within(name, base) for base in excluded or ()):
                    return False
                if permitted is not None and not any(within(name, base) for base in permitted):
                    return False
        return True


def read_constraints(value: bytes) -> NameConstraints:
    """The constraints in an extension's value; raises DerError, also for a minimum or maximum out of use."""
    subtrees: dict[int, Names] = {}
    for part in der.children(der.only(value, der.SEQUENCE)):
        bases = []
        for subtree in der.children(part):
            fields = der.children(subtree)
            if subtree.tag != der.SEQUENCE or not fields or [field.whole for field in fields[1:]] not in _DEFAULTS:
                raise der.DerError("a subtree with minimum or maximum")
            bases.append(fields[0])
        subtrees[part.tag] = _by_form(bases)
    if not set(subtrees) <= {0xA0, 0xA1}:
        raise der.DerError("not NameConstraints")
    return NameConstraints(subtrees.get(0xA0, {}), subtrees.get(0xA1, {}))


def read_names(subject: bytes, alternative_name: bytes | None) -> Names:
    """All names that constraints apply to: the subject, its alternative names, or else its e-mail addresses.

    `subject` is the DER of the Name, `alternative_name` the value of the extension. Raises DerError.
    """
    names: dict[int, tuple[Name, ...]] = {}
    if alternative_name is not None:
        names.update(_by_form(der.children(der.only(alternative_name, der.SEQUENCE))))
    else:
        emails = [value for rdn in rdns(subject) for kind, value in rdn if kind == _EMAIL_ADDRESS]
        if emails:
            names[EMAIL] = tuple(_ascii(value) for value in emails)
    if key := name_key(subject):
        names[DIRECTORY] = (*names.get(DIRECTORY, ()), key)
    return names


def _by_form(elements: list[der.Element]) -> Names:
    found: dict[int, list[Name]] = {}
    for item in elements:
        found.setdefault(item.tag, []).append(_READ.get(item.tag, _octets)(item))
    return {form: tuple(values) for form, values in found.items()}


def _ascii(item: der.Element) -> str:
    try:
        return item.content.decode("ascii")
    except UnicodeDecodeError as error:
        raise der.DerError("a name that is not ASCII") from error


def _directory(item: der.Element) -> NameKey:
    return name_key(item.content)


def _octets(item: der.Element) -> bytes:
    return item.content


_READ: dict[int, Callable[[der.Element], Name]] = {EMAIL: _ascii, DNS: _ascii, URI: _ascii, DIRECTORY: _directory}


def _under(host: str, base: str) -> bool:
    """A base with a leading dot stands for the names below it, one without for itself."""
    return host.endswith(base) if base.startswith(".") else host == base


def _within_dns(name: Name, base: Name) -> bool:
    host, domain = str(name).lower().removesuffix("."), str(base).lower().removesuffix(".")
    return not domain or _under(host, domain) or host.endswith("." + domain)


def _within_email(name: Name, base: Name) -> bool:
    local, at, host = str(name).rpartition("@")
    wanted_local, wanted_at, wanted = str(base).rpartition("@")
    if not at or (wanted_at and local != wanted_local):
        return False
    return not wanted or _under(host.lower(), wanted.lower())


def _within_uri(name: Name, base: Name) -> bool:
    _, separator, rest = str(name).partition("://")
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
    host = authority.partition(":")[0].lower()
    if not separator or not host or authority.startswith("["):
        return False
    return not base or _under(host, str(base).lower())


def _within_address(name: Name, base: Name) -> bool:
    if not isinstance(name, bytes) or not isinstance(base, bytes) or len(base) != 2 * len(name):
        return False
    try:
        address, network, mask = (int(ip_address(part)) for part in (name, base[: len(name)], base[len(name) :]))
    except ValueError:
        return False
    return address & mask == network & mask


def _within_directory(name: Name, base: Name) -> bool:
    return name[: len(base)] == base


_WITHIN: dict[int, Callable[[Name, Name], bool]] = {
    EMAIL: _within_email,
    DNS: _within_dns,
    URI: _within_uri,
    ADDRESS: _within_address,
    DIRECTORY: _within_directory,
}
