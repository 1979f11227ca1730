"""Gives each endpoint of a scan its profile: a small number for one combination of all the facts that are counted.

    set_sizes        mx_set -> how many domains have it, and their weight
    operator_sizes   the ten largest operators
    endpoint_facts   endpoint -> facts and profile
    host_profiles    MX host -> the profiles of its endpoints

They are four SELECTs into temporary tables of the connection, from which `storage.counts` reads its tallies.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    case,
    cast,
    exists,
    extract,
    func,
    insert,
    select,
    text,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select, Subquery

from scanner.records import Hierarchy, Reason, Status
from storage.schema import (
    certificate,
    classification,
    domain,
    endpoint,
    mx_address,
    mx_host,
    mx_set_host,
    observation,
)
from storage.types import Name

FACTS = (
    "status",
    "reason",
    "stage",
    "failure",
    "client_auth",
    "tls_version",
    "software",
    "eku",
    "hierarchy",
    "programs",
    "ca_owner",
    "key_type",
    "key_bits",
    "validity",
    "operators",
)
"""What a profile says of an endpoint, as text; "" where it does not apply."""

NO_ADDRESS = 0
"""The profile of an MX host that resolves to nothing."""
NOT_ENROLLED = -1
"""The profile of an MX host with an address, but no endpoint yet: the scan was interrupted before."""

UNCLASSIFIED = "unclassified"
"""Hierarchy, programs and CA owner of a certificate that no classification pass has seen."""

VALIDITY_DAYS = ((47, "0-47"), (100, "48-100"), (200, "101-200"), (398, "201-398"), (825, "399-825"))
VALIDITY_LONGER = "826 or more"
VALIDITY_UNKNOWN = "unknown"
OPERATOR_BANDS = ((1, "1"), (5, "2-5"), (10, "6-10"))
OPERATOR_REST = "11 or more"

_HAS_OWNER = (
    Hierarchy.PUBLIC_CHROME,
    Hierarchy.PUBLIC_NOT_CHROME,
    Hierarchy.PUBLIC_PURPOSE_UNKNOWN,
    Hierarchy.PUBLIC_OTHER_PURPOSE,
    Hierarchy.DISTRUSTED,
)


# ------------------------------------------------------------------------------------------ temporary tables

_temporary = MetaData()

ENDPOINT = Table(
    "report_endpoint",
    _temporary,
    Column("mx_host", Name),
    Column("address", Name),
    Column("operator", Name),
    Column("certificate", Name),
    Column("profile", Integer),
    *(Column(name, Text) for name in FACTS),
    prefixes=["TEMPORARY"],
)
HOST = Table(
    "report_host",
    _temporary,
    Column("mx_host", Name, primary_key=True),
    Column("profile", Integer, primary_key=True),
    Column("operator", Name),
    prefixes=["TEMPORARY"],
    sqlite_with_rowid=False,
)
SET = Table(
    "report_set",
    _temporary,
    Column("mx_set", Name, primary_key=True),
    Column("domains", BigInteger),
    Column("weight", Float),
    prefixes=["TEMPORARY"],
    sqlite_with_rowid=False,
)
BAND = Table(
    "report_band",
    _temporary,
    Column("operator", Name, primary_key=True),
    Column("band", SmallInteger),
    prefixes=["TEMPORARY"],
    sqlite_with_rowid=False,
)


@contextmanager
def tables(connection: Connection, scan_id: int) -> Iterator[None]:
    """The temporary tables, filled from one scan, for as long as the block lasts."""
    _temporary.drop_all(connection)
    _temporary.create_all(connection)
    try:
        _fill(connection, SET, set_sizes(scan_id))
        ranked = [
            {"operator": row[0], "band": rank}
            for rank, row in enumerate(connection.execute(operator_sizes(scan_id)), 1)
        ]
        if ranked:
            connection.execute(insert(BAND), ranked)
        _fill(connection, ENDPOINT, endpoint_facts(scan_id))
        _fill(connection, HOST, host_profiles(scan_id))
        yield
    finally:
        _temporary.drop_all(connection)


def _fill(connection: Connection, table: Table, rows: Select[*tuple[object, ...]] | Subquery) -> None:
    statement = rows if isinstance(rows, Select) else select(rows)
    connection.execute(insert(table).from_select([column.name for column in table.columns], statement))
    connection.execute(text(f"ANALYZE {table.name}"))  # nothing else tells a planner about a temporary table


def set_sizes(scan_id: int) -> Select[*tuple[object, ...]]:
    """Each mx_set -> domains, weight."""
    return (
        select(domain.c.mx_set, func.count(), func.coalesce(func.sum(domain.c.weight), 0.0))
        .where(domain.c.scan_id == scan_id, domain.c.mx_set.is_not(None))
        .group_by(domain.c.mx_set)
    )


def operator_sizes(scan_id: int) -> Select[*tuple[object, ...]]:
    """The largest operators by the domains that name one of their MX hosts, equal ones by name."""
    pairs = (
        select(mx_set_host.c.mx_set, mx_host.c.operator)
        .join(mx_host, and_(mx_host.c.scan_id == scan_id, mx_host.c.mx_host == mx_set_host.c.mx_host))
        .where(mx_set_host.c.scan_id == scan_id)
        .distinct()
        .subquery()
    )
    domains = func.sum(SET.c.domains).label("domains")
    return (
        select(pairs.c.operator, domains)
        .join(SET, SET.c.mx_set == pairs.c.mx_set)
        .group_by(pairs.c.operator)
        .order_by(domains.desc(), pairs.c.operator)
        .limit(OPERATOR_BANDS[-1][0])
    )


def endpoint_facts(scan_id: int) -> Subquery:
    """Every endpoint with the facts of the attempt that counts, and the number of their combination.

    An endpoint with an observation was tested, whatever became of a further attempt.
    """
    tested = observation.c.status.is_not(None)
    measured = observation.c.status == Status.MEASURED
    facts: dict[str, ColumnElement[str]] = {
        "status": func.coalesce(observation.c.status, Status.NOT_TESTED.value),
        "reason": case((tested, ""), else_=func.coalesce(endpoint.c.reason, Reason.INTERRUPTED.value)),
        "stage": func.coalesce(observation.c.stage, ""),
        "failure": case((tested, func.coalesce(observation.c.failure, "none")), else_=""),
        "client_auth": func.coalesce(observation.c.client_auth, ""),
        "tls_version": _when(measured, func.coalesce(observation.c.tls_version, "unknown")),
        "software": _when(measured, func.coalesce(observation.c.software, "unknown")),
        "eku": _when(measured, func.coalesce(classification.c.eku_class, certificate.c.eku_class, UNCLASSIFIED)),
        "hierarchy": _when(measured, func.coalesce(classification.c.hierarchy, UNCLASSIFIED)),
        "programs": _when(measured, _programs()),
        "ca_owner": _when(measured, _ca_owner()),
        "key_type": _when(measured, func.coalesce(certificate.c.key_type, "unknown")),
        "key_bits": _when(measured, func.coalesce(cast(certificate.c.key_bits, String), "unknown")),
        "validity": _when(measured, _validity()),
        "operators": _band(),
    }
    joined = (
        select(
            endpoint.c.mx_host,
            endpoint.c.address,
            func.coalesce(mx_host.c.operator, endpoint.c.mx_host).label("operator"),
            case((measured, observation.c.certificate)).label("certificate"),
            *(facts[name].label(name) for name in FACTS),
        )
        .select_from(endpoint)
        .outerjoin(
            observation,
            and_(
                observation.c.scan_id == scan_id,
                observation.c.mx_host == endpoint.c.mx_host,
                observation.c.address == endpoint.c.address,
                observation.c.port == endpoint.c.port,
                observation.c.last.is_(True),
            ),
        )
        .outerjoin(mx_host, and_(mx_host.c.scan_id == scan_id, mx_host.c.mx_host == endpoint.c.mx_host))
        .outerjoin(BAND, BAND.c.operator == mx_host.c.operator)
        .outerjoin(certificate, certificate.c.sha256 == observation.c.certificate)
        .outerjoin(
            classification,
            and_(classification.c.scan_id == scan_id, classification.c.sha256 == observation.c.certificate),
        )
        .where(endpoint.c.scan_id == scan_id)
        .subquery()
    )
    profile = func.dense_rank().over(order_by=[joined.c[name] for name in FACTS])
    return select(
        joined.c.mx_host,
        joined.c.address,
        joined.c.operator,
        joined.c.certificate,
        profile.label("profile"),
        *(joined.c[name] for name in FACTS),
    ).subquery()


def host_profiles(scan_id: int) -> Subquery:
    """Every MX host with the profiles of its endpoints, or the one that says why it has none."""
    seen = select(ENDPOINT.c.mx_host, ENDPOINT.c.profile, ENDPOINT.c.operator).distinct()
    address = exists().where(mx_address.c.scan_id == scan_id, mx_address.c.mx_host == mx_host.c.mx_host)
    enrolled = exists().where(endpoint.c.scan_id == scan_id, endpoint.c.mx_host == mx_host.c.mx_host)
    unseen = select(
        mx_host.c.mx_host,
        case((address, NOT_ENROLLED), else_=NO_ADDRESS).label("profile"),
        mx_host.c.operator,
    ).where(mx_host.c.scan_id == scan_id, ~enrolled)
    return union_all(seen, unseen).subquery()


def _when(condition: ColumnElement[bool], value: ColumnElement[str]) -> ColumnElement[str]:
    return case((condition, value), else_="")


def _programs() -> ColumnElement[str]:
    named = case((classification.c.programs == "", "none"), else_=classification.c.programs)
    return func.coalesce(named, UNCLASSIFIED)


def _ca_owner() -> ColumnElement[str]:
    """The owner of a public CA; every other issuer only by its hierarchy."""
    public = classification.c.hierarchy.in_([hierarchy.value for hierarchy in _HAS_OWNER])
    return func.coalesce(
        case((public, func.coalesce(classification.c.ca_owner, "unknown")), else_=classification.c.hierarchy),
        UNCLASSIFIED,
    )


def _validity() -> ColumnElement[str]:
    """The validity period in days, in ranges. Both ends belong to it (RFC 5280 section 4.1.2.5)."""
    seconds = extract("epoch", certificate.c.not_after) - extract("epoch", certificate.c.not_before)
    ranges = [(seconds < days * 86_400, name) for days, name in VALIDITY_DAYS]
    return case((seconds.is_(None), VALIDITY_UNKNOWN), *ranges, else_=VALIDITY_LONGER)


def _band() -> ColumnElement[str]:
    return case(
        (BAND.c.band.is_(None), OPERATOR_REST),
        *((BAND.c.band <= last, name) for last, name in OPERATOR_BANDS),
        else_=OPERATOR_REST,
    )
