"""What a certificate means: its hierarchy, the programs behind it, and the usages that are left to it.

Pure: certificates, a trust snapshot and the CA certificates that a scan saw go in; nothing is looked up and no
clock is read, so the same facts give the same classification for ever.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scanner.certificates import ANY_EKU, CLIENT_AUTH, SERVER_AUTH, eku_class
from scanner.paths import Paths, Pool, Route
from scanner.policy import first_forced_renewal, load_policy, since, timeline
from scanner.records import Certificate, Classification, EkuClass, Hierarchy, Program
from scanner.self_signed import load_defaults, recognise
from scanner.trust import Purpose, Root, TrustSnapshot

BR_POLICIES = "2.23.140.1.2."
"""CA/Browser Forum reserved policy identifiers for TLS (Baseline Requirements section 7.1.6.1)."""

_ORDER = list(Hierarchy)
_LEAST_LIMITING = [
    EkuClass.ABSENT,
    EkuClass.ANY,
    EkuClass.SERVER_AND_CLIENT,
    EkuClass.SERVER_ONLY,
    EkuClass.CLIENT_ONLY,
    EkuClass.NEITHER,
    EkuClass.UNPARSABLE,
]


@dataclass(frozen=True, slots=True)
class _Trust:
    """What one anchor is worth for one certificate, once dates are judged."""

    server: frozenset[Program]
    unknown: frozenset[Program]
    other: bool  # a program trusts it, for something else than servers
    chrome_constrained: bool = False

    @property
    def hierarchy(self) -> Hierarchy:
        if Program.CHROME in self.server:
            return Hierarchy.PUBLIC_CHROME
        if self.server:
            return Hierarchy.PUBLIC_NOT_CHROME
        if self.unknown:
            return Hierarchy.PUBLIC_PURPOSE_UNKNOWN
        return Hierarchy.PUBLIC_OTHER_PURPOSE if self.other else Hierarchy.DISTRUSTED


class Classifier:
    """Classifies certificates under one snapshot and one pool of issuers.

    `certificates` are what the scan saw, of which CA certificates join the pool; all of them before the first
    `classify`, so that no result depends on order.
    """

    def __init__(self, snapshot: TrustSnapshot, certificates: Iterable[Certificate] = ()) -> None:
        self._snapshot = snapshot
        self._defaults = load_defaults()
        self._policy = load_policy()
        self._dates = timeline(self._policy)
        self._rows = frozenset(snapshot.roots)
        self._public = self._rows | {certificate.sha256 for certificate in snapshot.intermediates}
        roots = [root.certificate for root in snapshot.roots.values()]
        anchored = [item for item in snapshot.intermediates if item.sha256 in snapshot.chrome_anchors]
        self._pool = Pool([*roots, *anchored], snapshot.intermediates)
        for certificate in certificates:
            self._pool.add(certificate)

    def classify(self, certificate: Certificate) -> Classification:
        """The classification of one certificate; never raises."""
        if not certificate.readable:
            return Classification(
                certificate.sha256, EkuClass.UNPARSABLE, EkuClass.UNPARSABLE, Hierarchy.UNPARSABLE
            )
        paths = self._pool.find(certificate)
        trusts = {route.anchor: self._trust(route.anchor, certificate) for route in paths.routes if route.anchor}
        hierarchy = self._hierarchy(certificate, paths, trusts)
        best, effective = _best_route(certificate, paths.routes, trusts)
        programs = frozenset().union(*(trust.server for trust in trusts.values()))
        found = Classification(
            sha256=certificate.sha256,
            eku_class=certificate.eku_class,
            effective_eku_class=effective,
            hierarchy=hierarchy,
            programs=tuple(sorted(programs)),
            programs_unknown=tuple(sorted(frozenset().union(*(trust.unknown for trust in trusts.values())))),
            chrome_estimated=not certificate.sct_timestamps
            and any(self._limit(anchor) is not None for anchor in trusts),
            chrome_absence=None if Program.CHROME in programs else self._absence(trusts),
            self_signed=paths.self_signed,
            subclass=recognise(certificate, hierarchy, self._defaults),
            ca_owner=self._owner(best),
            issued_since=since(certificate.not_before, self._dates),
            expires_since=since(certificate.not_after, self._dates),
            issuer_key=paths.issuer_key,
        )
        return replace(found, exposure=first_forced_renewal(certificate, found, self._policy))

    def chain_complete(self, certificate_list: Sequence[Certificate]) -> bool:
        """Whether the list as presented, with the snapshot's roots, reaches a row of roots.csv."""
        return self._pool.reaches(certificate_list, self._rows)

    def _trust(self, anchor: str, certificate: Certificate) -> _Trust:
        root = self._snapshot.roots.get(anchor)
        server = {Program.CHROME} if anchor in self._snapshot.chrome_anchors else set()
        if root is None:
            return _Trust(frozenset(server), frozenset(), other=False)
        for program, purposes in root.purposes.items():
            if Purpose.SERVER in purposes:
                server.add(program)
        unknown = {program for program, purposes in root.purposes.items() if Purpose.UNKNOWN in purposes}
        constrained = Program.CHROME in root.purposes and _after_sct_limit(root, certificate)
        if constrained:
            server.discard(Program.CHROME)
            unknown.discard(Program.CHROME)
        limit = root.mozilla_server_distrust_after
        if limit is not None and certificate.not_before is not None and certificate.not_before > limit:
            server.discard(Program.MOZILLA)
        other = any(purposes - {Purpose.SERVER, Purpose.UNKNOWN} for purposes in root.purposes.values())
        return _Trust(frozenset(server), frozenset(unknown), other, constrained)

    def _limit(self, anchor: str) -> datetime | None:
        root = self._snapshot.roots.get(anchor)
        return root.chrome_sct_not_after if root and root.purposes[Program.CHROME] else None

    def _absence(self, trusts: dict[str, _Trust]) -> str | None:
        """Why Chrome is missing, for certificates that reach a row: the reason nearest to trust."""
        roots = [self._snapshot.roots[anchor] for anchor in trusts if anchor in self._rows]
        if not roots:
            return None
        if any(trust.chrome_constrained for trust in trusts.values()):
            return "constrained"
        gone = (
            root.chrome_removed or (root.chrome_sct_not_after and not root.purposes[Program.CHROME])
            for root in roots
        )
        return "removed" if any(gone) else "never"

    def _hierarchy(self, certificate: Certificate, paths: Paths, trusts: dict[str, _Trust]) -> Hierarchy:
        if trusts:
            return min((trust.hierarchy for trust in trusts.values()), key=_ORDER.index)
        if paths.self_signed:
            return Hierarchy.SELF_SIGNED
        if paths.routes:
            return Hierarchy.PRIVATE
        return Hierarchy.UNRESOLVED if self._says_public(certificate) else Hierarchy.UNDETERMINED

    def _says_public(self, certificate: Certificate) -> bool:
        """Whether the certificate, or a CA certificate above it, says that it comes from a public CA."""
        for subject in (certificate, *self._pool.ancestors(certificate)):
            if subject.sct_timestamps or any(oid.startswith(BR_POLICIES) for oid in subject.policy_oids):
                return True
            if any(issuer.sha256 in self._public for issuer in self._pool.claimed_issuers(subject)):
                return True
        return False

    def _owner(self, route: Route | None) -> str | None:
        root = self._snapshot.roots.get(route.anchor) if route and route.anchor else None
        return root.owner if root else None


def _after_sct_limit(root: Root, certificate: Certificate) -> bool:
    """Whether Chrome's SCTNotAfter shuts the certificate out: no SCT is old enough, or notBefore without any."""
    limit = root.chrome_sct_not_after
    if limit is None or not root.purposes[Program.CHROME]:
        return False
    times = certificate.sct_timestamps or ((certificate.not_before,) if certificate.not_before else ())
    return not any(time <= limit for time in times)


def _best_route(
    certificate: Certificate, routes: Sequence[Route], trusts: dict[str, _Trust]
) -> tuple[Route | None, EkuClass]:
    """The route to the highest class of the hierarchy, of those the least limiting, and the usages it leaves.

    More programs and then the digest of the anchor decide among equals, so that the order of input does not.
    """
    if certificate.eku_class is EkuClass.UNPARSABLE or not routes:
        return None, certificate.eku_class

    def rank(route: Route) -> tuple[int, int, int, str]:
        trust = trusts[route.anchor] if route.anchor else None
        place = _ORDER.index(trust.hierarchy if trust else Hierarchy.PRIVATE)
        limiting = _LEAST_LIMITING.index(effective_class(certificate, route.usage))
        return place, limiting, -len(trust.server | trust.unknown) if trust else 0, route.anchor or ""

    best = min(routes, key=rank)
    return best, effective_class(certificate, best.usage)


def effective_class(certificate: Certificate, usage: frozenset[str] | None) -> EkuClass:
    """The class after the limits of intermediates; `usage` None for no limit.

    An absent extension or anyExtendedKeyUsage asks for all that is left.
    """
    asked = certificate.eku_oids
    if usage is None:
        return certificate.eku_class
    if asked is None or ANY_EKU in asked:
        return eku_class(usage)
    return eku_class(usage.intersection(asked) & {SERVER_AUTH, CLIENT_AUTH})
