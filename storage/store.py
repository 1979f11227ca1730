"""Puts a batch of records into the tables: the statements of `storage.writer`, without threads or queues.

Every statement may be repeated: facts that are there stay, and numbers only grow. So a batch whose commit went
unanswered is simply written again, and the records of two scanners may be merged in any order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, select, update
from sqlalchemy.sql.elements import ColumnElement

from scanner.ledger import Record, order_key
from scanner.policy_records import StsPolicy, StsRecord
from scanner.records import Certificate, Endpoint, MailRouting, MxHost, Observation, Role, Sighting
from storage import rows
from storage.dialects import Columns, add, upsert
from storage.rows import Row
from storage.schema import (
    ca_name_set,
    certificate,
    certificate_list,
    domain,
    endpoint,
    mta_sts,
    mx_address,
    mx_host,
    mx_set_host,
    observation,
    scan_certificate,
    sighting,
    sts_policy,
    tlsa,
)

Stored = Record | MxHost | Sighting
"""What can be stored: what scans yield, and what `listen` and `import` bring."""

KNOWN = 200_000
"""How many facts a store remembers as stored, so that it need not say them again."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The functions that a store needs of the scanner, which it does not know.

    `operator_of` maps an MX host to its operator, `software_of` reads the software from an observation,
    `ca_name_text` turns the DER of a name into RFC 4514 text.
    """

    operator_of: Callable[[str], str]
    software_of: Callable[[Observation], str | None]
    ca_name_text: Callable[[bytes], str]


@dataclass(slots=True)
class Batch:
    """The rows of one transaction by table; a dict where a key may come twice."""

    domains: dict[str, Row] = field(default_factory=dict)
    set_hosts: list[Row] = field(default_factory=list)
    hosts: dict[str, Row] = field(default_factory=dict)
    hosts_found: dict[str, Row] = field(default_factory=dict)
    addresses: list[Row] = field(default_factory=list)
    tlsa: list[Row] = field(default_factory=list)
    mta_sts: list[Row] = field(default_factory=list)
    policies: dict[str, Row] = field(default_factory=dict)
    endpoints: dict[Endpoint, Row] = field(default_factory=dict)
    observations: list[Row] = field(default_factory=list)
    certificates: list[Row] = field(default_factory=list)
    lists: list[Row] = field(default_factory=list)
    ca_names: list[Row] = field(default_factory=list)
    roles: dict[str, Row] = field(default_factory=dict)
    sightings: list[Row] = field(default_factory=list)


class Store:
    """Turns the records of one scan into batches. Used by one thread at a time.

    A store takes it that every batch it made is written, in the order made, or the scan given up.
    """

    def __init__(self, scan_id: int, seed: int, meaning: Meaning) -> None:
        self._scan_id = scan_id
        self._seed = seed
        self._meaning = meaning
        self._known: set[int] = set()

    def prepare(self, records: Iterable[Stored]) -> Batch:
        """The rows of records, less what earlier batches have said already."""
        if len(self._known) > KNOWN:
            self._known.clear()
        batch = Batch()
        for record in records:
            self._add(batch, record)
        return batch

    def _add(self, batch: Batch, record: Stored) -> None:
        if isinstance(record, Observation):
            self._add_observation(batch, record)
        elif isinstance(record, MailRouting):
            self._add_routing(batch, record)
        elif isinstance(record, Sighting):
            self._add_sighting(batch, record)
        elif isinstance(record, MxHost):
            self._add_host(batch, record)
        elif isinstance(record, StsPolicy):
            batch.policies[record.domain] = rows.sts_policy_row(self._scan_id, record)
        else:
            self._add_certificate(batch, record)

    def _is_new(self, kind: str, key: object) -> bool:
        fact = hash((kind, key))  # 64 bits, so that remembering costs little and mistakes never happen
        if fact in self._known:
            return False
        self._known.add(fact)
        return True

    def _add_routing(self, batch: Batch, routing: MailRouting) -> None:
        mx_set = rows.mx_set_digest(routing.mx)
        rank = order_key(self._seed, routing.domain)
        batch.domains[routing.domain] = rows.domain_row(self._scan_id, routing, mx_set, rank)
        if routing.mta_sts is not None and routing.mta_sts.record is not StsRecord.NONE:
            batch.mta_sts.append(rows.mta_sts_row(self._scan_id, routing.domain, routing.mta_sts))
        if mx_set is not None and self._is_new("set", mx_set):
            batch.set_hosts += rows.mx_set_rows(self._scan_id, mx_set, routing.mx)
        for host in routing.mx:
            if self._is_new("host", host):
                self._add_host(batch, host)

    def _add_host(self, batch: Batch, host: MxHost) -> None:
        row = rows.mx_host_row(self._scan_id, host, self._meaning.operator_of(host.host))
        (batch.hosts_found if host.addresses else batch.hosts)[row["mx_host"]] = row
        batch.addresses += rows.mx_address_rows(self._scan_id, host)
        if host.tlsa is not None:
            batch.tlsa.append(rows.tlsa_row(self._scan_id, host.host, host.tlsa))

    def _add_certificate(self, batch: Batch, record: Certificate) -> None:
        if self._is_new("certificate", record.sha256):
            batch.certificates.append(rows.certificate_row(record))

    def _add_role(self, batch: Batch, sha256: str, role: Role) -> None:
        if self._is_new("role", (sha256, role)):
            stored = batch.roles.get(sha256)
            if stored is None or _RANK[role] > _RANK[stored["role"]]:
                batch.roles[sha256] = {"scan_id": self._scan_id, "sha256": sha256, "role": role.value}

    def _add_observation(self, batch: Batch, record: Observation) -> None:
        key = rows.endpoint_key(self._scan_id, self._seed, record.endpoint)
        listed = rows.digests(record.certificate_list)
        ca_names = rows.ca_names_digest(record.client_ca_names)
        row = rows.observation_row(key, record, listed, ca_names, self._meaning.software_of(record))
        batch.observations.append(row)
        earlier = batch.endpoints.get(record.endpoint)
        if earlier is None or earlier["last_attempt"] < record.attempt:
            batch.endpoints[record.endpoint] = endpoint_row(
                key,
                claimed_attempt=record.attempt,
                last_attempt=record.attempt,
                ended_at=rows.ended_at(record),
            )
        self._add_list(batch, listed, row["list_sha256"], Role.SERVER)
        if record.client_ca_names is not None and self._is_new("ca-names", ca_names):
            names = rows.ca_name_set_row(str(ca_names), record.client_ca_names, self._meaning.ca_name_text)
            batch.ca_names.append(names)

    def _add_sighting(self, batch: Batch, record: Sighting) -> None:
        row = rows.sighting_row(self._scan_id, record)
        batch.sightings.append(row)
        self._add_list(batch, record.certificate_list, row["list_sha256"], record.role)

    def _add_list(self, batch: Batch, listed: Sequence[str], digest: str | None, role: Role) -> None:
        """Note a certificate_list and the roles of what is in it; without a digest only the roles."""
        if digest is not None:
            if not self._is_new("list", (digest, role)):
                return
            batch.lists.append({"list_sha256": digest, "certificates": list(listed)})
        for position, sha256 in enumerate(listed):
            self._add_role(batch, sha256, Role.CA if position else role)


def endpoint_row(key: Row, **values: object) -> Row:
    """A row of `endpoint` for one that may not have one yet."""
    return {**key, "reason": None, "due_attempt": 1, "claimed_attempt": 0, "last_attempt": 0, **values}


def greater(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    """The greater of two values that are not NULL; the databases' own functions have different names."""
    return case((one > other, one), else_=other)


_RANK = {Role.SERVER: 2, Role.CLIENT: 1, Role.CA: 0}


def write(connection: Connection, batch: Batch) -> None:
    """Write a batch; writing it again changes nothing."""
    _write_routing(connection, batch)
    _write_certificates(connection, batch)
    _write_observations(connection, batch)


def _write_routing(connection: Connection, batch: Batch) -> None:
    # A resumed scan may ask for a host again: the answer with addresses is the one that its addresses came from.
    upsert(connection, mx_host, list(batch.hosts.values()))
    upsert(connection, mx_host, list(batch.hosts_found.values()), _HOST_FACTS)
    upsert(connection, mx_address, batch.addresses)
    upsert(connection, mx_set_host, batch.set_hosts)
    upsert(connection, tlsa, batch.tlsa)
    upsert(connection, mta_sts, list({row["domain"]: row for row in batch.mta_sts}.values()), _replaced)
    upsert(connection, sts_policy, list(batch.policies.values()), _replaced)
    upsert(connection, domain, list(batch.domains.values()), _ROUTING)


def _same(*names: str) -> Callable[[Columns], Columns]:
    return lambda new: {name: new[name] for name in names}


_HOST_FACTS = _same("rcode_a", "rcode_aaaa", "authenticated")
_ROUTING = _same("routing", "rcode", "authenticated", "mx_set")


def _replaced(new: Columns) -> Columns:
    return {name: column for name, column in new.items() if name not in {"scan_id", "domain", "claimed_at"}}


def _write_certificates(connection: Connection, batch: Batch) -> None:
    upsert(connection, certificate, batch.certificates)
    upsert(connection, certificate_list, batch.lists)
    upsert(connection, ca_name_set, batch.ca_names)
    upsert(connection, scan_certificate, list(batch.roles.values()), better_role)
    upsert(connection, sighting, batch.sightings)


def better_role(new: Columns) -> Columns:
    """What becomes of a certificate's role: server beats client, and client beats CA."""
    stored = scan_certificate.c.role
    wins = and_(stored != Role.SERVER.value, new["role"] != Role.CA.value)
    return {"role": case((wins, new["role"]), else_=stored)}


def _write_observations(connection: Connection, batch: Batch) -> None:
    later = upsert(connection, endpoint, list(batch.endpoints.values()), _attempted, _is_later)
    write_attempts(connection, batch.observations, latest=later == len(batch.endpoints))


def _is_later(new: Columns) -> ColumnElement[bool]:
    return new["last_attempt"] > endpoint.c.last_attempt


def _attempted(new: Columns) -> Columns:
    stored = endpoint.c
    return {
        "claimed_attempt": greater(new["claimed_attempt"], stored.claimed_attempt),
        "last_attempt": new["last_attempt"],
        "ended_at": new["ended_at"],
        "reason": case((new["last_attempt"] >= stored.due_attempt, None), else_=stored.reason),
    }


def write_attempts(connection: Connection, observations: Sequence[Row], *, latest: bool) -> None:
    """Write rows of `observation`, whose endpoints are written already; `latest` if none of them has a later one.

    All say that they are the last attempt; those that are not, or no longer, are found out here.
    """
    add(connection, observation, observations)
    doubtful = [row for row in observations if row["attempt"] > 1 or not latest]
    if doubtful:
        connection.execute(_NOT_LAST, [{f"_{name}": row[name] for name in _ENDPOINT_KEY} for row in doubtful])


_ENDPOINT_KEY: Sequence[str] = ("scan_id", "order_key", "mx_host", "address", "port")
_NOT_LAST = (
    update(observation)
    .where(
        *(observation.c[name] == bindparam(f"_{name}") for name in _ENDPOINT_KEY),
        observation.c.attempt
        < select(endpoint.c.last_attempt)
        .where(*(endpoint.c[name] == bindparam(f"_{name}") for name in _ENDPOINT_KEY))
        .scalar_subquery(),
        observation.c.last,
    )
    .values(last=False)
)
