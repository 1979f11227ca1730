"""Certification paths: from a certificate to every anchor that a pool of CA certificates leads to.

A path is verified by signature, issuer name, CA:TRUE (or a version 1 anchor), keyCertSign where key usage is
present, pathLen and name constraints (RFC 5280 section 6.1); never by time, revocation or policies. Names and key
identifiers only say where to look first.

All paths count, and there may be very many of them. So what is kept per authority is not paths but `Route`s: the
anchor reached, and what the path leaves to those below (pathLen, name constraints, extended key usages). Of two
routes to one anchor the one that allows no more than the other is dropped. That also ends loops, as going round
one never allows more.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scanner.authorities import (
    UNLIMITED,
    Authority,
    CaCertificate,
    Child,
    issuer_key,
    new_authority,
    read_child,
    signing_limits,
    subject_key_id,
    usage_limit,
)
from scanner.names import NameKey
from scanner.records import Certificate
from scanner.signatures import load_key, verifies

MOST_SIGNATURE_CHECKS = 32
"""Keys of the right name that are tried for one certificate, those with its key identifier first. Real issuers are
found by identifier or are few; a server that sends hundreds of one name must not cost more than milliseconds."""

MOST_ROUTES = 8
"""Routes kept per authority and anchor when none allows all that another does; real ones have one or two."""

MOST_MEMORIES = 200_000
"""Entries of each memory of results; it starts anew when full, since what it holds can be found again."""


@dataclass(frozen=True, slots=True)
class Route:
    """What every verified path of one kind comes to.

    `anchor` is the sha256 of a snapshot's anchor, None for a self-signed CA that is none. `allow` is how many
    more intermediates may follow. `constraints` are the sha256 of certificates on the path that constrain names.
    `usage` are the extended key usages that all intermediates leave, None for all.
    """

    anchor: str | None
    allow: int = UNLIMITED
    constraints: frozenset[str] = frozenset()
    usage: frozenset[str] | None = None

    def covers(self, other: "Route") -> bool:
        """Whether this route allows all that the other one does."""
        if self.allow < other.allow or not self.constraints <= other.constraints:
            return False
        return self.usage is None or (other.usage is not None and self.usage >= other.usage)

    def rank(self) -> tuple[int, int, int, list[str], list[str]]:
        """A total order, the most allowing first, so that a bound cuts the same whatever the order of input."""
        usage = sorted(self.usage or ())
        return -self.allow, len(self.constraints), 0 if self.usage is None else 1, sorted(self.constraints), usage


@dataclass(frozen=True, slots=True)
class Paths:
    """What was found above one certificate.

    `routes` are those that hold for the certificate itself. `self_signed`: its own key verifies it. `issuer_key` is
    as in a `Classification`.
    """

    routes: tuple[Route, ...] = ()
    self_signed: bool = False
    issuer_key: str | None = None


_Routes = dict[Authority, dict[str | None, list[Route]]]
"""Routes by authority and anchor; complete for every authority that is a key."""


class Pool:
    """The CA certificates of a snapshot and a scan, and what they lead to.

    `anchors` and `others` are the snapshot's. Results do not depend on the order of `add`. Signatures are checked
    once per certificate and key; routes once per authority, and again after an `add`.
    """

    def __init__(self, anchors: Iterable[Certificate] = (), others: Iterable[Certificate] = ()) -> None:
        self._anchors: set[str] = set()
        self._known: dict[str, CaCertificate] = {}
        self._authorities: dict[tuple[NameKey, bytes], Authority] = {}
        self._by_name: dict[NameKey, list[Authority]] = {}
        self._routes: _Routes = {}
        self._sorted: dict[NameKey, list[Authority]] = {}
        self._issuers: dict[str, tuple[Authority, ...]] = {}
        self._verified: dict[tuple[str, bytes], bool] = {}
        self._allowed: dict[tuple[str, str], bool] = {}
        for certificate in anchors:
            self._anchors.add(certificate.sha256)
            self.add(certificate)
        for certificate in others:
            self.add(certificate)
        for authority in self._authorities.values():
            authority.known = True

    def __len__(self) -> int:
        return len(self._known)

    def add(self, certificate: Certificate) -> bool:
        """Enter a certificate; False when it is no CA certificate, or was known."""
        if certificate.sha256 in self._known or not certificate.readable:
            return False
        child = read_child(certificate)
        limits = signing_limits(child) if child else None
        if child is None or limits is None:
            return False
        authority = self._authorities.get((child.subject, child.parts.spki))
        if authority is None:
            authority = self._authorities[child.subject, child.parts.spki] = new_authority(child)
            self._by_name.setdefault(child.subject, []).append(authority)
        if key_id := subject_key_id(child.parts):
            authority.key_ids.add(key_id)
        found = CaCertificate(child, authority, limits.path_length, limits.constraints, usage_limit(certificate))
        authority.certificates.append(found)
        self._known[certificate.sha256] = found
        self._routes.clear()
        self._issuers.clear()
        self._sorted.clear()
        return True

    def find(self, certificate: Certificate) -> Paths:
        """Every anchor that verified paths from this certificate reach, and by which routes."""
        child = self._child(certificate)
        if child is None:
            return Paths()
        routes = [Route(certificate.sha256)] if certificate.sha256 in self._anchors else []
        routes += (
            route
            for issuer in self._issuers_of(child)
            for route in _flat(self._settle(issuer, self._routes, lambda _ca: True))
            if self._names_allowed(route.constraints, child)
        )
        if self._self_signed(child):
            return Paths(tuple(routes), self_signed=True, issuer_key=certificate.spki_sha256)
        return Paths(tuple(routes), issuer_key=issuer_key(child, self._issuers_of(child)))

    def reaches(self, certificate_list: Sequence[Certificate], anchors: Collection[str]) -> bool:
        """Whether the first certificate has a path to one of `anchors` by the list and `anchors` alone.

        The list may be in any order after its first, with strangers and duplicates. Its CA certificates join
        the pool where they are not in it.
        """
        if not certificate_list or (child := self._child(certificate_list[0])) is None:
            return False
        if certificate_list[0].sha256 in anchors:
            return True
        for certificate in certificate_list[1:]:
            self.add(certificate)
        usable = {certificate.sha256 for certificate in certificate_list}
        routes: _Routes = {}
        return any(
            route.anchor in anchors and self._names_allowed(route.constraints, child)
            for issuer in self._issuers_of(child)
            for route in _flat(self._settle(issuer, routes, lambda ca: ca.sha256 in usable or ca.sha256 in anchors))
        )

    def issuers(self, certificate: Certificate) -> Iterator[Certificate]:
        """The CA certificates whose name and key are the issuer's, by verified signature."""
        child = self._child(certificate)
        if child is not None:
            yield from (ca.child.certificate for issuer in self._issuers_of(child) for ca in issuer.certificates)

    def ancestors(self, certificate: Certificate) -> Iterator[Certificate]:
        """The CA certificates above this one by verified signatures, whether or not they end at an anchor."""
        child = self._child(certificate)
        if child is None:
            return
        waiting, seen = list(self._issuers_of(child)), set()
        while waiting:
            authority = waiting.pop()
            if authority not in seen:
                seen.add(authority)
                for ca in authority.certificates:
                    yield ca.child.certificate
                    waiting += self._issuers_of(ca.child)

    def claimed_issuers(self, certificate: Certificate) -> Iterator[Certificate]:
        """CA certificates that the issuer name and the key identifier point at; a hint, not a proof."""
        child = self._child(certificate)
        if child is not None and child.authority_key_id is not None:
            for authority in self._by_name.get(child.issuer, ()):
                if child.authority_key_id in authority.key_ids:
                    yield from (ca.child.certificate for ca in authority.certificates)

    def _child(self, certificate: Certificate) -> Child | None:
        if (known := self._known.get(certificate.sha256)) is not None:
            return known.child
        return read_child(certificate) if certificate.readable else None

    def _settle(
        self, start: Authority, routes: _Routes, usable: Callable[[CaCertificate], bool]
    ) -> dict[str | None, list[Route]]:
        """The routes of an authority, by way of `routes`, which grows by all authorities above it."""
        if start in routes:
            return routes[start]
        below: dict[Authority, list[CaCertificate]] = {}  # issuer -> certificates that it signed
        fresh: list[Authority] = []
        ready: list[tuple[Authority, Route]] = []
        waiting, seen = [start], {start}
        while waiting:
            authority = waiting.pop()
            if authority in routes:
                ready += ((authority, route) for route in _flat(routes[authority]))
                continue
            fresh.append(authority)
            for ca in authority.certificates:
                if not usable(ca):
                    continue
                issuers = self._issuers_of(ca.child)
                if (route := self._first(ca, authority in issuers)) is not None:
                    ready.append((authority, route))
                if ca.child.parts.version == 1:
                    continue  # an anchor or nothing
                for issuer in issuers:
                    if issuer is not authority:
                        below.setdefault(issuer, []).append(ca)
                        if issuer not in seen:
                            seen.add(issuer)
                            waiting.append(issuer)
        found: _Routes = {authority: {} for authority in fresh}
        while ready:
            authority, route = ready.pop()
            if authority in found and not _keep(found[authority].setdefault(route.anchor, []), route):
                continue
            for ca in below.get(authority, ()):
                if (longer := self._extend(route, ca)) is not None:
                    ready.append((ca.authority, longer))
        routes.update(found)
        return found[start]

    def _first(self, ca: CaCertificate, self_signed: bool) -> Route | None:
        """The route that begins at a certificate which is an anchor: of the snapshot, or self-signed."""
        if ca.sha256 not in self._anchors and not self_signed:
            return None
        return Route(
            ca.sha256 if ca.sha256 in self._anchors else None,
            ca.path_length,
            frozenset({ca.sha256}) if ca.constraints else frozenset(),
            None if self_signed else ca.usage,  # an intermediate that is anchored on still limits; a root does not
        )

    def _extend(self, route: Route, ca: CaCertificate) -> Route | None:
        """The route one certificate further down, or None when it does not allow that certificate."""
        allow = route.allow if ca.child.self_issued else route.allow - 1
        if allow < 0 or not (ca.child.self_issued or self._names_allowed(route.constraints, ca.child)):
            return None
        usage = route.usage
        if ca.usage is not None:
            usage = ca.usage if usage is None else usage & ca.usage
        constraints = route.constraints | {ca.sha256} if ca.constraints else route.constraints
        return Route(route.anchor, min(allow, ca.path_length), constraints, usage)

    def _names_allowed(self, constraints: frozenset[str], child: Child) -> bool:
        return all(self._allows(constraining, child) for constraining in constraints)

    def _allows(self, constraining: str, child: Child) -> bool:
        key = (constraining, child.certificate.sha256)
        if (known := self._allowed.get(key)) is not None:
            return known
        constraints, names = self._known[constraining].constraints, child.names()
        allowed = constraints is None or (names is not None and constraints.allow(names))
        _bound(self._allowed)
        self._allowed[key] = allowed
        return allowed

    def _issuers_of(self, child: Child) -> tuple[Authority, ...]:
        """The authorities whose name is the issuer's and whose key verifies the certificate."""
        sha256 = child.certificate.sha256
        if (known := self._issuers.get(sha256)) is not None:
            return known
        found: list[Authority] = []
        for authority in self._candidates(child):
            # Only keys with the same bits can verify one signature; they differ in how the key is described.
            if found and authority.key_bits != found[0].key_bits:
                continue
            if self._verifies(child, authority):
                found.append(authority)
        _bound(self._issuers)
        self._issuers[sha256] = tuple(found)
        return self._issuers[sha256]

    def _candidates(self, child: Child) -> Iterable[Authority]:
        """Authorities of the issuer's name, likely ones first: its own key, its key identifier, the snapshot."""
        named = self._by_name.get(child.issuer, ())
        if len(named) < 2:
            return named
        if child.issuer not in self._sorted:
            self._sorted[child.issuer] = sorted(named, key=lambda authority: (not authority.known, authority.spki))
        named = self._sorted[child.issuer]
        own = self._authorities.get((child.issuer, child.parts.spki))
        claimed = [authority for authority in named if child.authority_key_id in authority.key_ids]
        likely = dict.fromkeys((*([own] if own else ()), *claimed, *named[:MOST_SIGNATURE_CHECKS]))
        return list(likely)[:MOST_SIGNATURE_CHECKS]

    def _verifies(self, child: Child, authority: Authority) -> bool:
        key = (child.certificate.sha256, authority.spki)
        if (known := self._verified.get(key)) is None:
            parts = child.parts
            known = bool(verifies(load_key(authority.spki), child.certificate.der, parts.tbs, parts.signature))
            _bound(self._verified)
            self._verified[key] = known
        return known

    def _self_signed(self, child: Child) -> bool:
        if not child.self_issued and self._issuers_of(child):
            return False
        parts = child.parts
        own = self._authorities.get((child.subject, parts.spki))
        if own is not None:
            return self._verifies(child, own)
        return bool(verifies(load_key(parts.spki), child.certificate.der, parts.tbs, parts.signature))


def _flat(by_anchor: dict[str | None, list[Route]]) -> list[Route]:
    return [route for kept in by_anchor.values() for route in kept]


def _keep(kept: list[Route], route: Route) -> bool:
    """Enter a route among those to one anchor, unless others cover it or the bound is full of better ones."""
    if any(other.covers(route) for other in kept):
        return False
    kept[:] = sorted([route, *(other for other in kept if not route.covers(other))], key=Route.rank)[:MOST_ROUTES]
    return route in kept


def _bound(memory: dict[Any, Any]) -> None:
    if len(memory) >= MOST_MEMORIES:
        memory.clear()
