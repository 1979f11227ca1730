"""Deletes what an opted-out name or network left, from every table.

What goes: domains that match; MX hosts and addresses that match, with their endpoints and observations in every
scan, and their trials in every experiment; sightings whose EHLO name, operator, prefix or certificate's dNSName
matches; then whatever nothing refers to any more: sets of MX records, the hosts that only those named, certificate
lists, CA name sets, certificates with their classifications. Facts that others share stay: a certificate that
another host presented too is that host's. On SQLite what was deleted is overwritten, in the file's log once the
last connection is closed.

Exports, reports and backups that somebody made are out of reach.
"""

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, not_, or_, select, union_all

from storage import dialects
from storage.database import Database
from storage.schema import (
    ca_name_set,
    ca_names_verdict,
    certificate,
    certificate_list,
    classification,
    dane_verdict,
    domain,
    endpoint,
    list_classification,
    mta_sts,
    mx_address,
    mx_host,
    mx_set_host,
    observation,
    sample_address,
    scan_certificate,
    second_look,
    sighting,
    sts_policy,
    sts_verdict,
    tlsa,
    trial,
)

BATCH = 500

Condition = ColumnElement[bool]


def purge(
    database: Database, *, domain: str | None = None, host: str | None = None, network: str | None = None
) -> dict[str, int]:
    """Delete what was stored about a domain, an MX host or a network, and count rows deleted by table.

    `domain` and `host` are names in lower-case A-labels: `example.com` is that name, `*.example.com` that name and
    every one below it, as in a list of opt-outs. `network` is an address or a CIDR prefix; ValueError when it is
    not. One transaction.
    """
    parsed = None if network is None else ipaddress.ip_network(network)

    def work(connection: Connection) -> dict[str, int]:
        dialects.overwrite_deleted(connection)
        purging = _Purge(connection)
        if domain is not None:
            purging.domains(domain)
        if host is not None:
            purging.hosts(host)
        for name in {domain, host} - {None}:
            purging.sightings_of_name(str(name))
        if parsed is not None:
            purging.network(parsed)
            purging.sightings_of_network(parsed)
        purging.orphans()
        return dict(purging.deleted)

    return database.write(work)


class _Purge:
    """One purge on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lists: set[str] = set()
        self._ca_names: set[str] = set()
        self._certificates: set[str] = set()
        self.deleted: Counter[str] = Counter()

    def domains(self, pattern: str) -> None:
        matching = _matches(domain.c.domain, pattern)
        sets: dict[int, set[str]] = defaultdict(set)
        query = select(domain.c.scan_id, domain.c.mx_set).where(matching, domain.c.mx_set.is_not(None)).distinct()
        for scan_id, mx_set in self._connection.execute(query):
            sets[scan_id].add(mx_set)
        self._delete(domain, matching)
        for table in (mta_sts, sts_policy, sts_verdict):
            self._delete(table, _matches(table.c.domain, pattern))
        for scan_id, named in sets.items():
            for some in _batches(named):
                here = and_(domain.c.scan_id == scan_id, domain.c.mx_set.in_(some))
                kept = set(self._connection.execute(select(domain.c.mx_set).where(here).distinct()).scalars())
                gone = mx_set_host.c.mx_set.in_(sorted(set(some) - kept))
                self._delete(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, gone))
        self._unnamed_hosts()

    def hosts(self, pattern: str) -> None:
        self._sessions(lambda table: _matches(table.c.mx_host, pattern))
        for table in (mx_address, mx_host, mx_set_host, tlsa, dane_verdict, trial):
            self._delete(table, _matches(table.c.mx_host, pattern))

    def network(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        found: set[str] = set()
        for table in (mx_address, endpoint, trial, sts_policy):
            addresses = self._connection.execute(select(table.c.address).distinct()).scalars()
            found.update(address for address in addresses if address and _inside(address, network))
        for some in _batches(found):
            self._sessions(partial(_is_at, some))
            told = exists().where(
                sts_policy.c.scan_id == sts_verdict.c.scan_id,
                sts_policy.c.domain == sts_verdict.c.domain,
                sts_policy.c.address.in_(some),
            )
            self._delete(sts_verdict, told)
            for table in (mx_address, trial, sts_policy):
                self._delete(table, table.c.address.in_(some))

    def sightings_of_name(self, pattern: str) -> None:
        """A peer is known by its EHLO name, by its operator, and by the names in its certificate."""
        said = (
            func.lower(sighting.c.ehlo_name),
            func.lower(sighting.c.operator),
        )  # as its peer or its log wrote it
        self._sightings(or_(*(_matches(column, pattern) for column in said)))
        named = select(certificate.c.sha256, certificate.c.dns_names).where(
            certificate.c.sha256.in_(select(sighting.c.sha256).distinct())
        )
        rows = self._connection.execute(named.execution_options(yield_per=1000))
        found = [sha256 for sha256, names in rows if any(_is_match(name, pattern) for name in names)]
        for some in _batches(found):
            self._sightings(sighting.c.sha256.in_(some))

    def sightings_of_network(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        """Only the prefix of a peer is kept, so whatever may have come from the network goes."""
        query = select(sighting.c.prefix).where(sighting.c.prefix.is_not(None)).distinct()
        prefixes = [ipaddress.ip_network(prefix) for prefix in self._connection.execute(query).scalars()]
        for some in _batches(str(p) for p in prefixes if p.version == network.version and p.overlaps(network)):
            self._sightings(sighting.c.prefix.in_(some))

    def orphans(self) -> None:
        """Facts of the sessions deleted that no session refers to any more, and sampled addresses of no host."""
        named = exists().where(
            mx_address.c.scan_id == sample_address.c.scan_id, mx_address.c.address == sample_address.c.address
        )
        self._delete(sample_address, not_(named))
        certificates = self._orphaned_lists() | self._certificates
        names = _unused(self._connection, self._ca_names, observation.c.ca_names_sha256)
        for some in _batches(names):
            self._delete(ca_name_set, ca_name_set.c.ca_names_sha256.in_(some))
        presented = self._still_presented(certificates)
        for some in _batches(certificates):
            pairs = self._connection.execute(
                select(scan_certificate.c.scan_id, scan_certificate.c.sha256).where(
                    scan_certificate.c.sha256.in_(some)
                )
            ).all()
            for scan_id, sha256 in pairs:
                if (scan_id, sha256) not in presented:
                    for table in (scan_certificate, classification):
                        self._delete(table, and_(table.c.scan_id == scan_id, table.c.sha256 == sha256))
            captured = exists().where(scan_certificate.c.sha256 == certificate.c.sha256)
            self._delete(certificate, and_(certificate.c.sha256.in_(some), not_(captured)))

    def _delete(self, table: Table, condition: Condition) -> None:
        self.deleted[table.name] += self._connection.execute(delete(table).where(condition)).rowcount

    def _sessions(self, condition: Callable[[Table], Condition]) -> None:
        """Delete endpoints, observations and second looks, and remember what they referred to."""
        gone = condition(observation)
        referred = select(observation.c.list_sha256, observation.c.ca_names_sha256).where(gone).distinct()
        for list_sha256, ca_names in self._connection.execute(referred):
            self._lists.update({list_sha256} - {None})
            self._ca_names.update({ca_names} - {None})
        again = select(second_look.c.list_sha256).where(condition(second_look)).distinct()
        self._lists.update(digest for digest in self._connection.execute(again).scalars() if digest)
        for table in (observation, second_look, endpoint):
            self._delete(table, condition(table))

    def _sightings(self, condition: Condition) -> None:
        """Delete sightings, and remember what they referred to."""
        referred = select(sighting.c.sha256, sighting.c.list_sha256).where(condition).distinct()
        for sha256, list_sha256 in self._connection.execute(referred):
            self._certificates.update({sha256} - {None})
            self._lists.update({list_sha256} - {None})
        self._delete(sighting, condition)

    def _unnamed_hosts(self) -> None:
        """Delete MX hosts that no set of MX records names any more."""
        unnamed = select(mx_host.c.scan_id, mx_host.c.mx_host).where(
            not_(
                exists().where(
                    mx_set_host.c.scan_id == mx_host.c.scan_id, mx_set_host.c.mx_host == mx_host.c.mx_host
                )
            )
        )
        for scan_id, host in self._connection.execute(unnamed).all():
            self._sessions(partial(_is_of, scan_id, host))
            for table in (mx_address, mx_host, tlsa, dane_verdict):
                self._delete(table, and_(table.c.scan_id == scan_id, table.c.mx_host == host))
            known = exists().where(mx_host.c.mx_host == trial.c.mx_host)
            self._delete(trial, and_(trial.c.mx_host == host, not_(known)))

    def _orphaned_lists(self) -> set[str]:
        """Delete certificate lists that nobody presents any more; returns the certificates that were in any."""
        certificates: set[str] = set()
        for some in _batches(self._lists):
            query = select(certificate_list.c.certificates).where(certificate_list.c.list_sha256.in_(some))
            for listed in self._connection.execute(query).scalars():
                certificates.update(listed)
        for some in _batches(self._lists):
            used = or_(
                *(
                    exists().where(
                        table.c.scan_id == list_classification.c.scan_id,
                        table.c.list_sha256 == list_classification.c.list_sha256,
                    )
                    for table in (observation, second_look, sighting)
                )
            )
            self._delete(list_classification, and_(list_classification.c.list_sha256.in_(some), not_(used)))
            unseen = exists().where(
                observation.c.scan_id == dane_verdict.c.scan_id,
                observation.c.mx_host == dane_verdict.c.mx_host,
                observation.c.list_sha256 == dane_verdict.c.list_sha256,
            )
            self._delete(dane_verdict, and_(dane_verdict.c.list_sha256.in_(some), not_(unseen)))
            unasked = exists().where(
                observation.c.scan_id == ca_names_verdict.c.scan_id,
                observation.c.ca_names_sha256 == ca_names_verdict.c.ca_names_sha256,
                observation.c.list_sha256 == ca_names_verdict.c.list_sha256,
            )
            self._delete(ca_names_verdict, and_(ca_names_verdict.c.list_sha256.in_(some), not_(unasked)))
        unused = self._lists
        for table in (observation, second_look, sighting):
            unused = _unused(self._connection, unused, table.c.list_sha256)
        for some in _batches(unused):
            self._delete(certificate_list, certificate_list.c.list_sha256.in_(some))
        return certificates

    def _still_presented(self, certificates: set[str]) -> set[tuple[int, str]]:
        """Of these certificates, the (scan, digest) that some session of that scan still presents."""
        if not certificates:
            return set()
        query = union_all(
            *(
                select(table.c.scan_id, certificate_list.c.certificates).join(
                    certificate_list, certificate_list.c.list_sha256 == table.c.list_sha256
                )
                for table in (observation, second_look, sighting)
            )
        ).execution_options(yield_per=1000)
        found = {
            (scan_id, sha256)
            for scan_id, listed in self._connection.execute(query)
            for sha256 in listed
            if sha256 in certificates
        }
        for some in _batches(certificates):
            alone = select(sighting.c.scan_id, sighting.c.sha256).where(sighting.c.sha256.in_(some)).distinct()
            found.update((scan_id, sha256) for scan_id, sha256 in self._connection.execute(alone))
        return found


def _unused(connection: Connection, digests: set[str], column: ColumnElement[str | None]) -> set[str]:
    """Digests that no row has in `column` any more."""
    used: set[str] = set()
    for some in _batches(digests):
        found = connection.execute(select(column).where(column.in_(some)).distinct()).scalars()
        used.update(digest for digest in found if digest)
    return digests - used


def _is_match(name: str, pattern: str) -> bool:
    """What `_matches` asks, of the name in a certificate, which may begin with a wildcard."""
    own, below = name.lower().removeprefix("*."), pattern.removeprefix("*.")
    return own == below or (below != pattern and own.endswith(f".{below}"))


def _matches(column: ColumnElement[str], pattern: str) -> Condition:
    below = pattern.removeprefix("*.")
    if below == pattern:
        return column == pattern
    return or_(column == below, column.endswith(f".{below}", autoescape=True))


def _is_at(addresses: Sequence[str], table: Table) -> Condition:
    return table.c.address.in_(addresses)


def _is_of(scan_id: int, host: str, table: Table) -> Condition:
    return and_(table.c.scan_id == scan_id, table.c.mx_host == host)


def _inside(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.version == network.version and parsed in network


def _batches(items: Iterable[str]) -> Iterable[Sequence[str]]:
    iterator = iter(sorted(items))
    return iter(lambda: list(islice(iterator, BATCH)), [])
