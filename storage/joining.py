"""Joins the scans of shards into one: rows of one database into a scan of another, as often as one likes.

Every statement may be repeated and nothing that is there gets worse: facts stay, numbers only grow, an answer beats
no answer. So joining the same part again changes nothing, a part that went on since brings what is new, and parts
may come in any order. Classifications are not joined: they depend on every certificate of the scan, so whoever
joins computes them afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, and_, case, exists, func, or_, select, union, update
from sqlalchemy.sql.selectable import Select

from scanner.records import Routing
from storage import store
from storage.database import Database
from storage.dialects import Columns, Update, upsert
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
    scan,
    scan_certificate,
    second_look,
    sts_policy,
    tlsa,
)

PAGE = 1000


def join(source: Database, part: int, target: Database, joined: int) -> None:
    """Bring the rows of scan `part` of `source` into scan `joined` of `target`; both have the same seed.

    One state of the source is read. Each page is a transaction, facts before what refers to them.
    """
    with source.reading() as reading:
        for table, query, write in _steps(part):
            names = [column.name for column in table.c if column.computed is None]
            rows = reading.execution_options(yield_per=PAGE).execute(query.with_only_columns(*_named(table, names)))
            for page in rows.partitions():
                batch = [_moved(dict(zip(names, row, strict=True)), joined) for row in page]
                target.write(_writing(write, batch))


def note_parts(
    database: Database,
    joined: int,
    settings: Mapping[str, object],
    *,
    started_at: datetime,
    state: str,
    finished_at: datetime | None,
) -> None:
    """Write down of a joined scan what it consists of and how far it is."""
    values = {"settings": dict(settings), "started_at": started_at, "state": state, "finished_at": finished_at}
    database.write(lambda connection: connection.execute(update(scan).where(scan.c.id == joined).values(**values)))


def not_contacted(database: Database, joined: int) -> tuple[int, int]:
    """How many (MX host, address) pairs no part entered as an endpoint, and how many endpoints are still work.

    The first happens where resolvers gave shards different answers.
    """
    entered = exists().where(
        endpoint.c.scan_id == joined,
        endpoint.c.mx_host == mx_address.c.mx_host,
        endpoint.c.address == mx_address.c.address,
    )
    pairs = select(func.count()).select_from(mx_address).where(mx_address.c.scan_id == joined, ~entered)
    work = select(func.count()).select_from(endpoint).where(endpoint.c.scan_id == joined, ~endpoint.c.done)
    with database.reading() as connection:
        return connection.scalar(pairs) or 0, connection.scalar(work) or 0


_Write = Callable[[Connection, Sequence[Row]], object]


def _steps(part: int) -> list[tuple[Table, Select[*tuple[object, ...]], _Write]]:
    """Every table with what is read of it and how that is written."""

    def of_scan(table: Table) -> Select[*tuple[object, ...]]:
        return select(table).where(table.c.scan_id == part).order_by(*table.primary_key)

    captured = select(scan_certificate.c.sha256).where(scan_certificate.c.scan_id == part)
    listed = union(*(select(t.c.list_sha256).where(t.c.scan_id == part) for t in (observation, second_look)))
    named = select(observation.c.ca_names_sha256).where(observation.c.scan_id == part)
    has_addresses = exists().where(mx_address.c.scan_id == part, mx_address.c.mx_host == mx_host.c.mx_host)
    return [
        (certificate, select(certificate).where(certificate.c.sha256.in_(captured)), _put(certificate)),
        (certificate_list, select(certificate_list).where(certificate_list.c.list_sha256.in_(listed)),
         _put(certificate_list)),
        (ca_name_set, select(ca_name_set).where(ca_name_set.c.ca_names_sha256.in_(named)), _put(ca_name_set)),
        (mx_host, of_scan(mx_host).where(has_addresses), _put(mx_host, _found)),
        (mx_host, of_scan(mx_host).where(~has_addresses), _put(mx_host)),
        (mx_address, of_scan(mx_address), _put(mx_address)),
        (mx_set_host, of_scan(mx_set_host), _put(mx_set_host)),
        (tlsa, of_scan(tlsa), _put(tlsa)),
        (mta_sts, of_scan(mta_sts), _put(mta_sts)),
        (sts_policy, of_scan(sts_policy), _put(sts_policy, _fetched)),
        (domain, of_scan(domain), _put(domain, _answered)),
        (scan_certificate, of_scan(scan_certificate), _put(scan_certificate, store.better_role)),
        (endpoint, of_scan(endpoint), _put(endpoint, _further)),
        (observation, of_scan(observation), _observations),
        (second_look, of_scan(second_look), _put(second_look)),
    ]  # fmt: skip


def _named(table: Table, names: Sequence[str]) -> list[ColumnElement[object]]:
    return [table.c[name] for name in names]


def _moved(row: Row, joined: int) -> Row:
    return row | {"scan_id": joined} if "scan_id" in row else row


def _writing(write: _Write, batch: Sequence[Row]) -> Callable[[Connection], object]:
    return lambda connection: write(connection, batch)


def _put(table: Table, change: Update | None = None) -> _Write:
    return lambda connection, batch: upsert(connection, table, batch, change)


def _found(new: Columns) -> Columns:
    """The answer with addresses is the one that its addresses came from; the first of those stays."""
    stored = mx_host.c
    has = exists().where(mx_address.c.scan_id == stored.scan_id, mx_address.c.mx_host == stored.mx_host)
    return _if(~has.correlate(mx_host), new, mx_host, ("rcode_a", "rcode_aaaa", "authenticated"))


def _answered(new: Columns) -> Columns:
    stored = domain.c
    wins = and_(
        or_(stored.routing.is_(None), stored.routing == Routing.ERROR.value),
        new["routing"].is_not(None),
    )
    return _if(wins, new, domain, ("routing", "rcode", "authenticated", "mx_set"))


def _further(new: Columns) -> Columns:
    """Whichever knows of more attempts; where both know as many, the part, which may have been parked since."""
    stored = endpoint.c
    wins = new["claimed_attempt"] + new["last_attempt"] >= stored.claimed_attempt + stored.last_attempt
    facts = [column.name for column in endpoint.c if not column.primary_key and column.computed is None]
    return _if(wins, new, endpoint, facts)


def _fetched(new: Columns) -> Columns:
    """A policy that was fetched beats one that was not."""
    facts = [column.name for column in sts_policy.c if not column.primary_key]
    return _if(sts_policy.c.fetched_at.is_(None), new, sts_policy, facts)


def _if(wins: ColumnElement[bool], new: Columns, table: Table, names: Sequence[str]) -> Columns:
    return {name: case((wins, new[name]), else_=table.c[name]) for name in names}


def _observations(connection: Connection, batch: Sequence[Row]) -> None:
    store.write_attempts(connection, batch, latest=False)
