"""Gives every endpoint of a scan one small number for all that is counted of it, in `storage.temporary`'s tables.

Small numbers are grouped in little time; `storage.counts` does that.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, String, and_, case, cast, func, literal, null, select, union_all
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from scanner.policy_records import Dane
from scanner.records import NOT_AFFECTED, ClientAuth, Hierarchy, Reason, Role, Status
from storage import domain_sets, second_looks, sightings, temporary
from storage.facts import SEPARATOR, UNCLASSIFIED, at_endpoint, certificate_columns, joined
from storage.schema import (
    ca_names_verdict,
    certificate,
    classification,
    dane_verdict,
    endpoint,
    mx_address,
    mx_host,
    observation,
    scan,
    second_look,
    tlsa,
)
from storage.sightings import HEARD, SIGHTED, UNMEASURED
from storage.temporary import (
    BAND,
    DOMAINS,
    ENDPOINT,
    MEMBER,
    NO_ADDRESS,
    NOT_ENROLLED,
    PRIVATE,
    PROFILE,
    SET,
    STANDING,
    UNITS,
    fill,
    put,
)

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
    "exposure",
    "issued_since",
    "expires_since",
    "client_ca_names",
    "second_certificate",
    "operators",
    "dane",
)
"""What is counted of an endpoint, as text; "" where it does not apply."""

Profile = tuple[str, ...]
"""One combination, in the order of `FACTS`."""

NOT_VALID = "not-valid"
"""Exposure of a certificate that would have one, were it valid when the scan began."""

VALIDITY_DAYS = ((47, "0-47"), (100, "48-100"), (200, "101-200"), (398, "201-398"), (825, "399-825"))
VALIDITY_LONGER = "826 or more"
VALIDITY_UNKNOWN = "unknown"
DATE_UNKNOWN = "unknown"
OPERATOR_BANDS = ((1, "1"), (5, "2-5"), (10, "6-10"))
OPERATOR_REST = "11 or more"
LARGEST = OPERATOR_BANDS[-1][0]
"""Operators that are told apart by their size."""

_NO_NAMES = (ClientAuth.NOT_REQUESTED, ClientAuth.UNTESTED)
"""Without a CertificateRequest there are no CA names; the state itself is the class then."""

_HAS_OWNER = (
    Hierarchy.PUBLIC_CHROME,
    Hierarchy.PUBLIC_NOT_CHROME,
    Hierarchy.PUBLIC_PURPOSE_UNKNOWN,
    Hierarchy.PUBLIC_OTHER_PURPOSE,
    Hierarchy.DISTRUSTED,
)


_OWN_ISSUER = (Hierarchy.PRIVATE, Hierarchy.SELF_SIGNED)
"""Of these the issuers themselves are counted."""


@contextmanager
def tables(connection: Connection, scan_id: int, role: Role = Role.SERVER) -> Iterator[Mapping[int, Profile]]:
    """The temporary tables but `DOMAINS`, filled from one scan, for as long as the block lasts; gives the profiles.

    Role client has sightings only, role server has endpoints and sightings.
    """
    with temporary.tables(connection):
        served = role is Role.SERVER
        if served:
            fill(connection, STANDING, domain_sets.standing_sizes(scan_id))
            fill(connection, SET, domain_sets.set_sizes())
        largest = connection.execute(domain_sets.operator_sizes(scan_id, LARGEST)).all()
        if not largest:  # nobody's domains were asked about: as they are seen most
            largest = connection.execute(sightings.operator_sizes(scan_id, role, LARGEST)).all()
        put(connection, BAND, ({"operator": row[0], "band": rank} for rank, row in enumerate(largest, 1)))
        began = connection.execute(select(scan.c.started_at).where(scan.c.id == scan_id)).scalar()
        if served:
            fill(connection, ENDPOINT, endpoint_facts(scan_id, began))
        fill(connection, ENDPOINT, sightings.facts(scan_id, role, BAND, began))
        profiles = _number(connection)
        fill(connection, MEMBER, members(scan_id) if served else sighted_members())
        for name, table in UNITS.items():
            fill(connection, table, unit_ends(name))
        yield profiles


def fill_domains(connection: Connection, scan_id: int) -> None:
    """Fill `DOMAINS` too, while the others are there: apart, since units can be added up meanwhile."""
    fill(connection, DOMAINS, domain_sets.domain_ends(scan_id))


def _number(connection: Connection) -> Mapping[int, Profile]:
    """Number the different texts from 1, and read them: texts that say the same get one number."""
    found: dict[Profile, int] = {}
    rows: list[dict[str, object]] = []
    for (facts,) in connection.execute(select(ENDPOINT.c.facts).distinct().order_by(ENDPOINT.c.facts)):
        profile = _profile(_Columns(*str(facts).split(SEPARATOR)))
        rows.append({"facts": facts, "profile": found.setdefault(profile, len(found) + 1)})
    put(connection, PROFILE, rows)
    at = FACTS.index("hierarchy")
    private = [number for profile, number in found.items() if profile[at] in _OWN_ISSUER]
    put(connection, PRIVATE, ({"profile": number} for number in private))
    return MappingProxyType({number: profile for profile, number in found.items()})


class _Columns(NamedTuple):
    """The columns behind `FACTS` as they were joined, "" for NULL."""

    status: str
    reason: str
    stage: str
    failure: str
    client_auth: str
    tls_version: str
    software: str
    eku: str
    hierarchy: str
    programs: str
    ca_owner: str
    key_type: str
    key_bits: str
    days: str
    valid: str
    exposure: str
    issued_since: str
    expires_since: str
    asked_names: str
    again: str
    band: str
    tlsa_host: str
    dane: str


def _profile(read: _Columns) -> Profile:
    """What the columns of an endpoint say, only as far as it is true of its status."""
    rank = _range(read.band, OPERATOR_BANDS, OPERATOR_REST, OPERATOR_REST)
    if read.status in (Status.MEASURED, SIGHTED, HEARD):
        known = read.hierarchy or UNCLASSIFIED
        # Of a sighting nothing is known of what it would say to us, and of few with which TLS version it was made.
        ours = read.status == Status.MEASURED
        session = (read.stage, read.failure or "none", read.client_auth)
        met = (read.tls_version or "unknown", read.software or "unknown")
        return (
            read.status,
            "",
            *(session if ours else ("", "", "")),
            *(met if ours else (read.tls_version, "")),
            read.eku or UNCLASSIFIED,
            known,
            (read.programs or "none") if read.hierarchy else UNCLASSIFIED,
            (read.ca_owner or "unknown") if known in _HAS_OWNER else known,
            read.key_type or "unknown",
            read.key_bits or "unknown",
            _range(read.days, VALIDITY_DAYS, VALIDITY_LONGER, VALIDITY_UNKNOWN),
            _exposure(read),
            read.issued_since or (DATE_UNKNOWN if read.exposure else UNCLASSIFIED),
            read.expires_since or (DATE_UNKNOWN if read.exposure else UNCLASSIFIED),
            _asked_names(read) if ours else "",
            (read.again or second_looks.NOT_LOOKED) if ours else "",
            rank,
            (read.dane or (UNCLASSIFIED if read.tlsa_host else Dane.INSECURE.value)) if ours else "",
        )
    if not read.status or read.status == UNMEASURED:
        said = (read.reason or Reason.INTERRUPTED.value, "", "")
    else:
        said = ("", read.stage, read.failure or "none")
    return (read.status or Status.NOT_TESTED.value, *said, *[""] * (len(FACTS) - len(said) - 3), rank, "")


def _asked_names(read: _Columns) -> str:
    return read.asked_names or (read.client_auth if read.client_auth in _NO_NAMES else UNCLASSIFIED)


def _exposure(read: _Columns) -> str:
    if read.exposure in ("", NOT_AFFECTED):
        return read.exposure or UNCLASSIFIED
    return read.exposure if read.valid else NOT_VALID


def _range(number: str, ranges: Sequence[tuple[int, str]], more: str, unknown: str) -> str:
    if not number:
        return unknown
    return next((name for last, name in ranges if int(number) <= last), more)


# -------------------------------------------------------------------------------------------------- SELECTs


def endpoint_facts(scan_id: int, began: datetime | None) -> Select[*tuple[Any, ...]]:
    """Every endpoint with the columns behind `FACTS` of the attempt that counts, as one text.

    An endpoint with an observation was tested, whatever became of a further attempt. A certificate is valid or not
    when the scan `began`, so that all its endpoints agree.
    """
    other = certificate.alias()
    columns: tuple[ColumnElement[Any], ...] = (
        observation.c.status,
        endpoint.c.reason,
        observation.c.stage,
        observation.c.failure,
        observation.c.client_auth,
        observation.c.tls_version,
        func.replace(observation.c.software, SEPARATOR, ""),
        *certificate_columns(began),
        ca_names_verdict.c.names_class,
        second_looks.meaning(certificate.c.eku_class, other.c.eku_class),
        cast(BAND.c.band, String),
        case((tlsa.c.mx_host.is_not(None), "1")),
        func.coalesce(dane_verdict.c.dane, tlsa.c.standing),
    )
    return (
        select(
            endpoint.c.mx_host,
            endpoint.c.address,
            func.coalesce(mx_host.c.operator, endpoint.c.mx_host),
            case((observation.c.status == Status.MEASURED, observation.c.certificate)),
            joined(columns),
            null(),
        )
        .select_from(endpoint)
        .outerjoin(observation, and_(at_endpoint(observation, endpoint, scan_id), observation.c.last.is_(True)))
        .outerjoin(second_look, at_endpoint(second_look, endpoint, scan_id))
        .outerjoin(other, other.c.sha256 == second_look.c.certificate)
        .outerjoin(mx_host, and_(mx_host.c.scan_id == scan_id, mx_host.c.mx_host == endpoint.c.mx_host))
        .outerjoin(BAND, BAND.c.operator == mx_host.c.operator)
        .outerjoin(certificate, certificate.c.sha256 == observation.c.certificate)
        .outerjoin(
            classification,
            and_(classification.c.scan_id == scan_id, classification.c.sha256 == observation.c.certificate),
        )
        .outerjoin(tlsa, and_(tlsa.c.scan_id == scan_id, tlsa.c.mx_host == endpoint.c.mx_host))
        .outerjoin(
            dane_verdict,
            and_(
                dane_verdict.c.scan_id == scan_id,
                dane_verdict.c.mx_host == endpoint.c.mx_host,
                dane_verdict.c.list_sha256 == observation.c.list_sha256,
            ),
        )
        .outerjoin(
            ca_names_verdict,
            and_(
                ca_names_verdict.c.scan_id == scan_id,
                ca_names_verdict.c.ca_names_sha256 == observation.c.ca_names_sha256,
                ca_names_verdict.c.list_sha256 == observation.c.list_sha256,
            ),
        )
        .where(endpoint.c.scan_id == scan_id)
    )


def members(scan_id: int) -> Select[*tuple[Any, ...]]:
    """Every endpoint with its units and number; MX hosts without endpoints with the number that says why."""
    numbered = sighted_members()  # the same columns, of endpoints too
    # SELECT 1, not SELECT *, for which SQLite overlooks the index and reads all endpoints of the scan each time.
    one = select(literal(1))
    address = one.where(mx_address.c.scan_id == scan_id, mx_address.c.mx_host == mx_host.c.mx_host).exists()
    enrolled = one.where(endpoint.c.scan_id == scan_id, endpoint.c.mx_host == mx_host.c.mx_host).exists()
    bare = select(
        mx_host.c.mx_host, null(), mx_host.c.operator, null(), case((address, NOT_ENROLLED), else_=NO_ADDRESS)
    ).where(mx_host.c.scan_id == scan_id, ~enrolled)
    both = union_all(numbered, bare).subquery()
    return select(both).order_by(both.c.mx_host)  # for the index, and the endpoints of a host beside one another


def sighted_members() -> Select[*tuple[Any, ...]]:
    """Every row of sightings with its units and number; no MX host is behind them."""
    return select(
        ENDPOINT.c.mx_host, ENDPOINT.c.address, ENDPOINT.c.operator, ENDPOINT.c.certificate, PROFILE.c.profile
    ).join(PROFILE, PROFILE.c.facts == ENDPOINT.c.facts)


def sighting_weights() -> Select[*tuple[Any, ...]]:
    """Profile -> rows of sightings, the sum of their counts."""
    profile = PROFILE.c.profile
    return (
        select(profile, func.count(), func.sum(ENDPOINT.c.weight))
        .select_from(ENDPOINT)
        .join(PROFILE, PROFILE.c.facts == ENDPOINT.c.facts)
        .where(ENDPOINT.c.mx_host.is_(None))
        .group_by(profile)
    )


def unit_ends(name: str) -> Select[*tuple[Any, ...]]:
    """Unit -> lowest and highest number of its members."""
    unit = MEMBER.c[name]
    return (
        select(unit, func.min(MEMBER.c.profile), func.max(MEMBER.c.profile)).where(unit.is_not(None)).group_by(unit)
    )
