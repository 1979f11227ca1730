"""Opt-outs: which names and addresses are never asked or contacted.

One entry a line; `#` at the beginning of a line or after white space begins a comment:

    192.0.2.7, 2001:db8::/32    an address or a network, and the IPv6 addresses that embed an excluded IPv4 one
    example.com                 that domain, and the MX host of that name
    *.example.com               every domain and MX host of that name or below it
    mx:mail.example.com         that MX host only, whosever domain it serves; mx:*.example.com, at or below it

(One entry a line: the comma above separates examples.) An entry that cannot be read stops the program, since an
opt-out must never be ignored. A network with host bits set is read as the whole network, for the same reason.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from scanner.addresses import Address, embedded_ipv4, parse
from scanner.targets import BadTarget, parse_domain

_COMMENT = re.compile(r"(^|\s)#.*", re.DOTALL)
_NUMERIC = re.compile(r"[0-9a-fA-F:.]*[:.][0-9a-fA-F:.]*(/.*)?|.*/.*")
"""What may be an address or a network; a few short names look like it too."""


class BadExclusion(ValueError):  # the message is what a person reads
    """An opt-out that cannot be read, and so must not be ignored; the message names the line."""


@dataclass(frozen=True, slots=True)
class _Names:
    """Exact names, and names that stand for themselves and all below."""

    exact: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        if name in self.exact:
            return True
        while name and self.below:
            if name in self.below:
                return True
            name = name.partition(".")[2]
        return False

    def __or__(self, other: "_Names") -> "_Names":
        return _Names(self.exact | other.exact, self.below | other.below)


@dataclass(frozen=True, slots=True)
class _Networks:
    """Networks as numbers: {(version, prefix length): {network address shifted right}}."""

    prefixes: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def add(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        shift = network.max_prefixlen - network.prefixlen
        key = (network.version, network.prefixlen)
        self.prefixes.setdefault(key, set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: Address) -> bool:
        number, bits, family = int(address), address.max_prefixlen, address.version
        for (version, length), numbers in self.prefixes.items():
            if version == family and number >> (bits - length) in numbers:
                return True
        return False

    def __or__(self, other: "_Networks") -> "_Networks":
        merged = {key: set(numbers) for key, numbers in self.prefixes.items()}
        for key, numbers in other.prefixes.items():
            merged.setdefault(key, set()).update(numbers)
        return _Networks(merged)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """A list of opt-outs; every question costs a few look-ups, however long the list is. `a | b` is both."""

    _names: _Names = field(default_factory=_Names)
    _mx_names: _Names = field(default_factory=_Names)
    _networks: _Networks = field(default_factory=_Networks)

    @classmethod
    def parse(cls, lines: Iterable[str], source: str) -> "Exclusions":
        """Read a list; raises `BadExclusion` for the first line that cannot be read."""
        exclusions = cls()
        for number, line in enumerate(lines, 1):
            text = line.removeprefix("\ufeff") if number == 1 else line
            entry = _COMMENT.sub("", text).strip(" \t\r\n")
            if not entry:
                continue
            try:
                exclusions._add(entry)
            except ValueError as error:
                raise BadExclusion(f"{source}:{number}: {error}") from None
        return exclusions

    def domain(self, name: str) -> bool:
        """Whether a domain opted out."""
        return _folded(name) in self._names

    def host(self, name: str) -> bool:
        """Whether an MX host opted out."""
        name = _folded(name)
        return name in self._names or name in self._mx_names

    def address(self, text: str) -> bool:
        """Whether an address, or the IPv4 address that it embeds, opted out. Raises ValueError for other text."""
        address = parse(text)
        inner = embedded_ipv4(address)
        return address in self._networks or (inner is not None and inner in self._networks)

    def __or__(self, other: "Exclusions") -> "Exclusions":
        return Exclusions(
            self._names | other._names, self._mx_names | other._mx_names, self._networks | other._networks
        )

    def _add(self, text: str) -> None:
        entry = read_entry(text)
        if entry.network is not None:
            self._networks.add(entry.network)
            return
        names = self._mx_names if entry.only_mx else self._names
        (names.below if entry.below else names.exact).add(entry.name)


@dataclass(frozen=True, slots=True)
class Entry:
    """One opt-out: a network, or else a name; `below` takes in all below it, `only_mx` leaves domains alone."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    name: str = ""
    below: bool = False
    only_mx: bool = False


def read_entry(text: str) -> Entry:
    """Read one entry, without comment. Raises ValueError with one line where that cannot be done."""
    network = _network(text)
    if network is not None:
        return Entry(network)
    prefix, separator, rest = text.partition(":")
    only_mx = bool(separator) and prefix.lower() == "mx"
    name = rest.strip() if only_mx else text
    try:
        parsed = parse_domain(name.removeprefix("*."), underscores=True)
    except BadTarget as error:
        raise ValueError(f"{text[:100]!r}: {error}") from None
    return Entry(None, parsed, name.startswith("*."), only_mx)


def _folded(name: str) -> str:
    """Names come as lower-case A-labels; one that does not must still be found."""
    return name.lower().removesuffix(".")


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network of an entry, None where it is to be read as a name; mapped networks come as their IPv4."""
    if not _NUMERIC.fullmatch(entry):
        return None
    if "%" in entry:
        raise ValueError(f"{entry[:100]!r}: an address with a zone names no host on the Internet")
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        if "/" in entry:
            raise ValueError(f"{entry[:100]!r} is no network") from None
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network
