"""Where a scan stands, in a few numbers: for the progress bar, the end of a scan and its exit status."""

from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, select

from scanner.policy_records import StsRecord
from scanner.records import Role, Routing, Status
from storage.schema import domain, endpoint, mta_sts, observation, scan_certificate, sts_policy


@dataclass(frozen=True, slots=True)
class Standing:
    """Counts of a scan; `certificates` are end entity certificates, `parked` endpoints wait for another attempt."""

    domains: int
    unrouted: int
    unanswered: int
    endpoints: int
    measured: int
    failed: int
    not_tested: int
    parked: int
    certificates: int
    due: int = 0  # endpoints with an attempt that is still to be made
    policies_due: int = 0  # MTA-STS policies that nobody has fetched


def standing(connection: Connection, scan_id: int) -> Standing:
    """Count a scan; endpoints without an observation are not tested (yet)."""
    routing = connection.execute(
        select(domain.c.routing, func.count()).where(domain.c.scan_id == scan_id).group_by(domain.c.routing)
    )
    routed = {row[0]: row[1] for row in routing}
    statuses = connection.execute(
        select(observation.c.status, func.count())
        .where(observation.c.scan_id == scan_id, observation.c.last)
        .group_by(observation.c.status)
    )
    by_status = {row[0]: row[1] for row in statuses}
    endpoints = connection.scalar(select(func.count()).where(endpoint.c.scan_id == scan_id)) or 0
    due = select(func.count()).where(endpoint.c.scan_id == scan_id, endpoint.c.done.is_(False))
    parked = select(func.count()).where(
        endpoint.c.scan_id == scan_id, endpoint.c.done.is_(False), endpoint.c.not_before.is_not(None)
    )
    certificates = select(func.count()).where(
        scan_certificate.c.scan_id == scan_id, scan_certificate.c.role != Role.CA.value
    )
    policies = (
        select(func.count())
        .select_from(mta_sts)
        .outerjoin(
            sts_policy, and_(sts_policy.c.scan_id == mta_sts.c.scan_id, sts_policy.c.domain == mta_sts.c.domain)
        )
        .where(
            mta_sts.c.scan_id == scan_id,
            mta_sts.c.record == StsRecord.VALID.value,
            sts_policy.c.fetched_at.is_(None),
        )
    )
    measured, failed = by_status.get(Status.MEASURED.value, 0), by_status.get(Status.FAILED.value, 0)
    return Standing(
        domains=sum(routed.values()),
        unrouted=routed.get(None, 0),
        unanswered=routed.get(Routing.ERROR.value, 0) + routed.get(None, 0),
        endpoints=endpoints,
        measured=measured,
        failed=failed,
        not_tested=endpoints - measured - failed,
        parked=connection.scalar(parked) or 0,
        certificates=connection.scalar(certificates) or 0,
        due=connection.scalar(due) or 0,
        policies_due=connection.scalar(policies) or 0,
    )
