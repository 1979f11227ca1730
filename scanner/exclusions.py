"""Opt-outs: which names and addresses are never asked or contacted.

One entry a line; `#` begins a comment:

    192.0.2.7, 2001:db8::/32    an address or a network, and IPv6 addresses that embed an excluded IPv4 one
    example.com                 that domain, and the MX host of that name
    *.example.com               every domain and MX host at or below it
    mx:mail.example.com         that MX host only; mx:*.example.com those at or below it
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from scanner.addresses import embedded_ipv4
from scanner.targets import BadTarget, parse_domain


class BadExclusion(ValueError):  # noqa: N818  # the message is what a person reads
    """An opt-out that cannot be read, and so must not be ignored; the message names the line."""


@dataclass(slots=True)
class _Names:
    exact: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)

    def __contains__(self, name: object) -> bool:
        if name in self.exact:
            return True
        rest = str(name)
        while rest:
            if rest in self.below:
                return True
            rest = rest.partition(".")[2]
        return False

    def merged(self, other: "_Names") -> "_Names":
        return _Names(self.exact | other.exact, self.below | other.below)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """A list of opt-outs; every question costs a few dictionary look-ups, however long the list is."""

    _names: _Names = field(default_factory=_Names)
    _mx_names: _Names = field(default_factory=_Names)
    _networks: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    @classmethod
    def parse(cls, lines: Iterable[str], source: str) -> "Exclusions":
        """Read a list; raises `BadExclusion` for the first line that cannot be read."""
        exclusions = cls()
        for number, line in enumerate(lines, 1):
            entry = line.partition("#")[0].strip().removeprefix("\ufeff")
            if not entry:
                continue
            try:
                exclusions._add(entry)
            except ValueError as error:
                raise BadExclusion(f"{source}:{number}: {error}") from None
        return exclusions

    def domain(self, name: str) -> bool:
        """Whether a domain (A-labels, lower case) opted out."""
        return name in self._names

    def host(self, name: str) -> bool:
        """Whether an MX host opted out."""
        return name in self._names or name in self._mx_names

    def address(self, text: str) -> bool:
        """Whether an address, or the IPv4 address that it embeds, opted out."""
        address = ipaddress.ip_address(text)
        inner = embedded_ipv4(address)
        return self._has(address) or (inner is not None and self._has(inner))

    def __or__(self, other: "Exclusions") -> "Exclusions":
        networks = {key: set(values) for key, values in self._networks.items()}
        for key, values in other._networks.items():
            networks.setdefault(key, set()).update(values)
        return Exclusions(self._names.merged(other._names), self._mx_names.merged(other._mx_names), networks)

    def _add(self, entry: str) -> None:
        network = _network(entry)
        if network is not None:
            key = (network.version, network.prefixlen)
            self._networks.setdefault(key, set()).add(int(network.network_address))
            return
        names = self._mx_names if entry.lower().startswith("mx:") else self._names
        name = entry[3:] if names is self._mx_names else entry
        try:
            if name.startswith("*."):
                names.below.add(parse_domain(name[2:]))
            else:
                names.exact.add(parse_domain(name))
        except BadTarget as error:
            raise ValueError(f"{entry!r}: {error}") from None

    def _has(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        number, bits = int(address), address.max_prefixlen
        return any(
            version == address.version and (number >> (bits - length) << (bits - length)) in networks
            for (version, length), networks in self._networks.items()
        )


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        if "/" in entry:
            raise ValueError(f"{entry!r} is no network") from None
        return None
