"""Streams a scan back: rows as `export` gives them, and the certificates that the classification pass needs.

Each function reads one state of the database in one transaction, a page at a time, and yields in the order of the
natural key, the same on every database. Generators belong to one thread. A row is a dict whose keys are the field
names of the contract, in its order; lists are lists, times are RFC 3339 text in UTC with Z.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, union
from sqlalchemy.sql.selectable import Select

from scanner.policy_records import Dane, MtaSts, StsPolicy, StsRecord, TlsaSet
from scanner.records import Certificate, Reason, Status
from storage.classifications import programs_of
from storage.columns import COLUMNS
from storage.database import Database
from storage.rows import MORE_MEANING, certificate_fields, certificate_of, rfc3339, sts_policy_of, tlsa_of
from storage.schema import (
    ca_name_set,
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
    scan_certificate,
    sighting,
    sts_policy,
    sts_verdict,
    tlsa,
)

PAGE = 1000
KNOWN_SETS = 50_000
LISTS = 200
"""Certificate lists whose certificates are read together."""

Fields = dict[str, Any]
NameMatches = Callable[[Sequence[str], str], bool]


# --------------------------------------------------------------------------------------------------- domains


def domains(database: Database, scan_id: int) -> Iterator[Fields]:
    """Rows `domains`. One that is not resolved yet has a null `routing`."""
    policy, verdict = sts_policy.c, sts_verdict.c
    query = (
        select(
            domain,
            *(column.label(f"record_{column.name}") for column in mta_sts.c),
            *(column.label(f"policy_{column.name}") for column in policy),
            verdict.mta_sts,
            verdict.unmatched,
        )
        .outerjoin(mta_sts, and_(mta_sts.c.scan_id == scan_id, mta_sts.c.domain == domain.c.domain))
        .outerjoin(sts_policy, and_(policy.scan_id == scan_id, policy.domain == domain.c.domain))
        .outerjoin(sts_verdict, and_(verdict.scan_id == scan_id, verdict.domain == domain.c.domain))
        .where(domain.c.scan_id == scan_id)
        .order_by(domain.c.domain)
    )
    with database.reading() as connection:

        @lru_cache(KNOWN_SETS)
        def mx_of(mx_set: str) -> list[Fields]:
            return _mx(connection, scan_id, mx_set)

        for row in _stream(connection, query):
            yield {
                "domain": row.domain,
                "weight": row.weight,
                "routing": row.routing,
                "rcode": row.rcode,
                "authenticated": row.authenticated,
                "mx": mx_of(row.mx_set) if row.mx_set is not None else [],
                "mta_sts": _mta_sts(row),
                "mta_sts_record": _sts_record(row),
                "mta_sts_policy": _sts_policy(row),
            }


def _mta_sts(row: Any) -> str | None:
    """What MTA-STS comes to; None where no mail is routed, or before the classification pass."""
    if row.mta_sts is not None:
        return str(row.mta_sts)
    return MtaSts.NONE.value if row.mx_set is not None and row.record_domain is None else None


def _sts_record(row: Any) -> Fields | None:
    if row.record_domain is None:
        return None
    names = ("record", "rcode", "id", "text")
    return {name: getattr(row, f"record_{name}") for name in names}


def _sts_policy(row: Any) -> Fields | None:
    if row.policy_fetched_at is None:
        return None
    names = ("failure", "detail", "address", "status", "mode", "max_age", "mx")
    fields = {name: getattr(row, f"policy_{name}") for name in names}
    return fields | {"unmatched": row.unmatched, "fetched_at": rfc3339(row.policy_fetched_at)}


def _mx(connection: Connection, scan_id: int, mx_set: str) -> list[Fields]:
    """The MX of a set with what their hosts resolved to."""
    query = (
        select(mx_set_host, mx_host.c.rcode_a, mx_host.c.rcode_aaaa, mx_host.c.authenticated)
        .outerjoin(mx_host, and_(mx_host.c.scan_id == scan_id, mx_host.c.mx_host == mx_set_host.c.mx_host))
        .where(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == mx_set)
        .order_by(mx_set_host.c.position)
    )
    found = connection.execute(query).all()
    addresses: dict[str, list[str]] = {row.mx_host: [] for row in found}
    asked = select(tlsa).where(tlsa.c.scan_id == scan_id, tlsa.c.mx_host.in_(list(addresses)))
    answers = {row.mx_host: row for row in connection.execute(asked)}
    listed = (
        select(mx_address.c.mx_host, mx_address.c.address)
        .where(mx_address.c.scan_id == scan_id, mx_address.c.mx_host.in_(list(addresses)))
        .order_by(mx_address.c.position, mx_address.c.address)
    )
    for host, address in connection.execute(listed):
        addresses[host].append(address)
    return [
        {
            "preference": row.preference,
            "host": row.mx_host,
            "addresses": addresses[row.mx_host],
            "rcode_a": row.rcode_a,
            "rcode_aaaa": row.rcode_aaaa,
            "authenticated": bool(row.authenticated),
            "notes": row.notes,
            "tlsa": _tlsa(answers.get(row.mx_host)),
        }
        for row in found
    ]


def _tlsa(row: Any) -> Fields | None:
    """The TLSA answer of an MX host, its records as in a master file; None where it was not asked for."""
    if row is None:
        return None
    return {
        "base": row.base,
        "rcode": row.rcode,
        "authenticated": bool(row.authenticated),
        "records": [f"{usage} {selector} {matching} {data}" for usage, selector, matching, data in row.records],
    }


# ------------------------------------------------------------------------------------------------- endpoints


def endpoints(database: Database, scan_id: int, name_matches: NameMatches) -> Iterator[Fields]:
    """Rows `endpoints`, each with its last attempt; `name_matches` judges dNSNames against an MX host."""
    with database.reading() as connection:
        for row in _stream(connection, _endpoint_query(scan_id)):
            yield _tested(row, name_matches) if row.status is not None else _not_tested(row)


def _endpoint_query(scan_id: int) -> Select[*tuple[Any, ...]]:
    last = and_(
        observation.c.scan_id == scan_id,
        observation.c.order_key == endpoint.c.order_key,
        observation.c.mx_host == endpoint.c.mx_host,
        observation.c.address == endpoint.c.address,
        observation.c.port == endpoint.c.port,
        observation.c.last,
    )
    facts = [
        column
        for column in observation.c
        if column.name not in {"scan_id", "order_key", "mx_host", "address", "port"}
    ]
    meaning, listed, judged = classification.c, list_classification.c, dane_verdict.c
    return (
        select(
            endpoint.c.mx_host,
            endpoint.c.address,
            endpoint.c.port,
            endpoint.c.reason,
            *facts,
            certificate_list.c.certificates,
            ca_name_set.c.names,
            func.coalesce(meaning.eku_class, certificate.c.eku_class).label("eku_class"),
            meaning.hierarchy,
            meaning.programs,
            listed.chain_complete,
            func.coalesce(judged.dane, tlsa.c.standing).label("dane"),
            tlsa.c.mx_host.label("tlsa_host"),
            judged.record.label("dane_record"),
            certificate.c.readable,
            certificate.c.dns_names,
            certificate.c.not_after,
        )
        .select_from(endpoint)
        .outerjoin(observation, last)
        .outerjoin(certificate, certificate.c.sha256 == observation.c.certificate)
        .outerjoin(certificate_list, certificate_list.c.list_sha256 == observation.c.list_sha256)
        .outerjoin(ca_name_set, ca_name_set.c.ca_names_sha256 == observation.c.ca_names_sha256)
        .outerjoin(classification, and_(meaning.scan_id == scan_id, meaning.sha256 == observation.c.certificate))
        .outerjoin(
            list_classification,
            and_(listed.scan_id == scan_id, listed.list_sha256 == observation.c.list_sha256),
        )
        .outerjoin(tlsa, and_(tlsa.c.scan_id == scan_id, tlsa.c.mx_host == endpoint.c.mx_host))
        .outerjoin(
            dane_verdict,
            and_(
                judged.scan_id == scan_id,
                judged.mx_host == endpoint.c.mx_host,
                judged.list_sha256 == observation.c.list_sha256,
            ),
        )
        .where(endpoint.c.scan_id == scan_id)
        .order_by(endpoint.c.mx_host, endpoint.c.address, endpoint.c.port)
    )


def _tested(row: Any, name_matches: NameMatches) -> Fields:
    return {
        "mx_host": row.mx_host,
        "address": row.address,
        "port": row.port,
        "attempt": row.attempt,
        "status": row.status,
        "reason": None,
        "stage": row.stage,
        "failure": row.failure,
        "reply_code": row.reply_code,
        "detail": row.detail,
        "greeting": row.greeting,
        "ehlo_keywords": row.ehlo_keywords,
        "starttls_offered": row.starttls_offered,
        "injected_plaintext": row.injected_plaintext,
        "tls_version": row.tls_version,
        "cipher_suite": row.cipher_suite,
        "group": row.tls_group,
        "certificate_list": row.certificates or [],
        "certificate": row.certificate,
        "eku_class": row.eku_class,
        "hierarchy": row.hierarchy,
        "programs": programs_of(row.programs),
        "client_auth": row.client_auth,
        "client_ca_names": row.names,
        "chain_complete": row.chain_complete,
        "name_match": name_matches(row.dns_names, row.mx_host) if row.readable else None,
        "expired": None if row.not_after is None else row.not_after < row.started_at,
        "software": row.software,
        "started_at": rfc3339(row.started_at),
        "duration_ms": row.duration_ms,
        "dane": _dane(row),
        "dane_record": row.dane_record,
        "client_certificate_types": row.client_certificate_types,
        "client_signature_algorithms": row.client_signature_algorithms,
    }


def _dane(row: Any) -> str | None:
    """What DANE comes to for a measured endpoint; None without a certificate, or before the classification pass."""
    if row.certificate is None:
        return None
    return str(row.dane) if row.dane else None if row.tlsa_host else Dane.INSECURE.value


def _not_tested(row: Any) -> Fields:
    key = {"mx_host": row.mx_host, "address": row.address, "port": row.port, "attempt": 0}
    reason = row.reason or Reason.INTERRUPTED.value
    return {**dict.fromkeys(COLUMNS["endpoints"]), **key, "status": Status.NOT_TESTED.value, "reason": reason}


# ---------------------------------------------------------------------------------------------- certificates


def certificates(database: Database, scan_id: int) -> Iterator[Fields]:
    """Rows `certificates`: every certificate that the scan captured."""
    meaning = classification.c
    names = (
        "effective_eku_class", "hierarchy", "programs", "programs_unknown", "chrome_estimated", "self_signed",
        *MORE_MEANING,
    )  # fmt: skip
    query = (
        select(
            certificate,
            scan_certificate.c.role,
            meaning.eku_class.label("class_now"),
            *(meaning[name] for name in names),
        )
        .select_from(scan_certificate)
        .join(certificate, certificate.c.sha256 == scan_certificate.c.sha256)
        .outerjoin(classification, and_(meaning.scan_id == scan_id, meaning.sha256 == certificate.c.sha256))
        .where(scan_certificate.c.scan_id == scan_id)
        .order_by(scan_certificate.c.sha256)
    )
    with database.reading() as connection:
        for row in _stream(connection, query):
            record = certificate_of(row._asdict())
            meaning_of = {name: getattr(row, name) for name in names}
            meaning_of |= {name: programs_of(meaning_of[name]) for name in ("programs", "programs_unknown")}
            yield certificate_fields(record, row.role, row.class_now, meaning_of)


def presented_certificates(database: Database, scan_id: int) -> Generator[tuple[Certificate, Fields | None]]:
    """Every certificate that the scan captured, once, with its stored classification or None.

    The classification has the columns of the table, programs joined as they are stored.
    """
    meaning = {f"stored_{column.name}": column for column in classification.c}
    query = (
        _presented(scan_id)
        .add_columns(*(column.label(name) for name, column in meaning.items()))
        .outerjoin(
            classification,
            and_(classification.c.scan_id == scan_id, classification.c.sha256 == certificate.c.sha256),
        )
    )
    with database.reading() as connection:
        for row in _stream(connection, query):
            values = row._asdict()
            stored = {column.name: values[name] for name, column in meaning.items()}
            yield certificate_of(values), stored if stored["sha256"] is not None else None


def ca_certificates(database: Database, scan_id: int) -> Iterator[Certificate]:
    """What may be an issuer: certificates with CA:TRUE, and all that stood behind an end entity certificate."""
    issuer = or_(certificate.c.is_ca, scan_certificate.c.role == "ca")
    yield from _records(database, _presented(scan_id).where(issuer))


def lists(database: Database, scan_id: int) -> Generator[tuple[str, tuple[Certificate, ...], bool | None]]:
    """Every distinct certificate_list of the scan: its digest, its certificates as presented, and what is stored.

    That is whether it is complete, None where nothing is stored.
    """
    used = union(*(select(one.c.list_sha256).where(one.c.scan_id == scan_id) for one in (observation, sighting)))
    stored = and_(
        list_classification.c.scan_id == scan_id,
        list_classification.c.list_sha256 == certificate_list.c.list_sha256,
    )
    query = (
        select(certificate_list, list_classification.c.chain_complete)
        .outerjoin(list_classification, stored)
        .where(certificate_list.c.list_sha256.in_(used))
        .order_by(certificate_list.c.list_sha256)
    )
    with database.reading() as connection, closing(_stream(connection, query)) as rows:
        while page := list(islice(rows, LISTS)):
            digests = sorted({sha256 for row in page for sha256 in row.certificates})
            records: dict[str, Certificate] = {}
            for at in range(0, len(digests), PAGE):  # a database bounds how many values a statement has
                some = select(certificate).where(certificate.c.sha256.in_(digests[at : at + PAGE]))
                records |= {row.sha256: certificate_of(row._asdict()) for row in connection.execute(some)}
            for row in page:
                listed = tuple(records[sha256] for sha256 in row.certificates if sha256 in records)
                yield row.list_sha256, listed, row.chain_complete


def dane_work(
    database: Database, scan_id: int
) -> Generator[tuple[str, str, TlsaSet, tuple[Certificate, ...], datetime]]:
    """What the pass has to compare: MX host, digest of its list, its TLSA records, the list, when it was last seen.

    Only hosts whose records can count; each with every distinct list that it presented.
    """
    query = (
        select(
            observation.c.mx_host,
            observation.c.list_sha256,
            func.max(observation.c.started_at).label("at"),
        )
        .where(
            observation.c.scan_id == scan_id,
            observation.c.list_sha256.is_not(None),
            observation.c.mx_host.in_(
                select(tlsa.c.mx_host).where(tlsa.c.scan_id == scan_id, tlsa.c.standing.is_(None))
            ),
        )
        .group_by(observation.c.mx_host, observation.c.list_sha256)
        .order_by(observation.c.mx_host, observation.c.list_sha256)
    )
    with database.reading() as connection:
        for row in _stream(connection, query):
            own = and_(tlsa.c.scan_id == scan_id, tlsa.c.mx_host == row.mx_host)
            records = connection.execute(select(tlsa).where(own)).one()
            listed = connection.execute(
                select(certificate_list.c.certificates).where(certificate_list.c.list_sha256 == row.list_sha256)
            ).scalar_one()
            found = connection.execute(select(certificate).where(certificate.c.sha256.in_(set(listed)))).all()
            by_digest = {item.sha256: certificate_of(item._asdict()) for item in found}
            presented = tuple(by_digest[sha256] for sha256 in listed if sha256 in by_digest)
            yield row.mx_host, row.list_sha256, tlsa_of(records._asdict()), presented, row.at


def asked_names(database: Database, scan_id: int) -> Generator[tuple[str, list[str], str, list[str]]]:
    """Every pair of CA names that were asked for and certificate_list beside them in one session of the scan.

    Digest of the names, the names; digest of the list, subjects and issuers of its certificates; RFC 4514 text.
    """
    query = (
        select(observation.c.ca_names_sha256, observation.c.list_sha256, ca_name_set.c.names)
        .join(ca_name_set, ca_name_set.c.ca_names_sha256 == observation.c.ca_names_sha256)
        .where(observation.c.scan_id == scan_id, observation.c.list_sha256.is_not(None))
        .order_by(observation.c.list_sha256)
    )
    with database.reading() as connection:

        @lru_cache(KNOWN_SETS)
        def own_of(list_sha256: str) -> list[str]:
            wanted = select(certificate_list.c.certificates).where(certificate_list.c.list_sha256 == list_sha256)
            listed = set(connection.execute(wanted).scalar_one())
            named = select(certificate.c.subject, certificate.c.issuer).where(certificate.c.sha256.in_(listed))
            return [name for row in connection.execute(named) for name in row if name is not None]

        last = None
        for row in _stream(connection, query):
            pair = (row.ca_names_sha256, row.list_sha256)
            if pair != last:  # the writer takes what comes twice; this spares most of it
                yield row.ca_names_sha256, row.names, row.list_sha256, own_of(row.list_sha256)
            last = pair


def sts_work(database: Database, scan_id: int) -> Generator[tuple[str, StsRecord, StsPolicy | None, list[str]]]:
    """What the pass has to judge: domain, what its record came to, its policy if fetched, and its MX hosts."""
    policy = sts_policy.c
    query = (
        select(mta_sts.c.domain, mta_sts.c.record, domain.c.mx_set, *(c.label(f"policy_{c.name}") for c in policy))
        .join(domain, and_(domain.c.scan_id == scan_id, domain.c.domain == mta_sts.c.domain))
        .outerjoin(sts_policy, and_(policy.scan_id == scan_id, policy.domain == mta_sts.c.domain))
        .where(mta_sts.c.scan_id == scan_id)
        .order_by(mta_sts.c.domain)
    )
    with database.reading() as connection:
        for row in _stream(connection, query):
            mx = mx_set_host.c
            named = select(mx.mx_host).where(mx.scan_id == scan_id, mx.mx_set == row.mx_set).order_by(mx.position)
            values = {column.name: getattr(row, f"policy_{column.name}") for column in policy}
            hosts = list(connection.execute(named).scalars())
            yield row.domain, StsRecord(row.record), sts_policy_of(values), hosts


def _presented(scan_id: int) -> Select[*tuple[Any, ...]]:
    return (
        select(certificate)
        .join(scan_certificate, scan_certificate.c.sha256 == certificate.c.sha256)
        .where(scan_certificate.c.scan_id == scan_id)
        .order_by(certificate.c.sha256)
    )


def _records(database: Database, query: Select[*tuple[Any, ...]]) -> Iterator[Certificate]:
    with database.reading() as connection:
        for row in _stream(connection, query):
            yield certificate_of(row._asdict())


def _stream(connection: Connection, query: Select[*tuple[Any, ...]]) -> Generator[Any]:
    """Rows a page at a time, on PostgreSQL by a cursor of the server."""
    with connection.execute(query, execution_options={"yield_per": PAGE}) as result:
        yield from result
