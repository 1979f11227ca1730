"""What a fleet's own tables hold of those who were purged: jobs, whose locks are addresses, and names of operators.

It needs PostgreSQL's tables only, not the engine: `mxcensus purge` works without the extra `fleet`.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, TextClause, inspect, text

from storage.database import Database

_OF_A_SCAN = {
    "procrastinate_jobs": text(
        "DELETE FROM procrastinate_jobs WHERE queue_name IN (:route, :probe, :parked, :steward)"
    ),
    # It spaces sessions, so it is of no use once every scan is done.
    "fleet_operator": text(
        "DELETE FROM fleet_operator WHERE NOT EXISTS (SELECT FROM fleet_scan WHERE phase <> 'done')"
    ),
}

_UNKNOWN = {
    "procrastinate_jobs": text(
        """
        DELETE FROM procrastinate_jobs job
        WHERE job.task_name = 'probe' AND job.status <> 'doing' AND NOT EXISTS (
            SELECT FROM endpoint
            WHERE endpoint.scan_id = (job.args->>'scan')::integer AND endpoint.address = job.args->>'address'
        )
        """
    ),
    "fleet_operator": text(
        """
        DELETE FROM fleet_operator WHERE NOT EXISTS (
            SELECT FROM mx_host WHERE mx_host.operator = fleet_operator.name
        )
        """
    ),
}


def forget_scan(database: Database, scan_id: int) -> dict[str, int]:
    """Delete the jobs of a scan and, where no other is under way, the operators; rows deleted by table."""
    queues = {kind: f"{kind}:{scan_id}" for kind in ("route", "probe", "parked", "steward")}
    jobs = _OF_A_SCAN["procrastinate_jobs"].bindparams(**queues)
    return _delete(database, {**_OF_A_SCAN, "procrastinate_jobs": jobs})


def forget_purged(database: Database) -> dict[str, int]:
    """Delete jobs of addresses and rows of operators that the census's tables do not know any more; by table."""
    return _delete(database, _UNKNOWN)


def _delete(database: Database, statements: Mapping[str, TextClause]) -> dict[str, int]:
    def work(connection: Connection) -> dict[str, int]:
        if "fleet_operator" not in inspect(connection).get_table_names():
            return {}
        return {table: connection.execute(statement).rowcount for table, statement in statements.items()}

    return database.write(work)
