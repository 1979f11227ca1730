"""A new scan in a database, and the writer of its records: what a benchmark that stores something begins with."""

from datetime import UTC, datetime

from scanner import names, operators, software
from storage.database import Database
from storage.writer import Writer


async def new_scan(database: Database, seed: int, trust_id: str | None = None) -> tuple[int, Writer]:
    """The number of the scan, and its writer, which is to be entered."""
    scan_id = await database.new_scan(
        label="bench",
        started_at=datetime.now(UTC),
        tool_version="0",
        rules_version="0",
        trust_id=trust_id,
        seed=seed,
        settings={},
    )
    writer = Writer(
        database,
        scan_id,
        seed=seed,
        operator_of=operators.operator,
        software_of=software.of_observation,
        ca_name_text=names.name_text,
    )
    return scan_id, writer
