"""The database's clock, read from the machine of a worker, whose own clock may be minutes off or jump."""

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select


class Clock:
    """Seconds since the epoch as the database counts them: read now and then, carried on by a monotonic clock."""

    def __init__(self) -> None:
        self._base = time.time() - time.monotonic()
        self.synced_at = time.monotonic()

    def sync(self, connection: Connection) -> None:
        """Read the database's clock; the answer's way is over by the time that it is used."""
        at = connection.execute(select(func.clock_timestamp())).scalar_one()
        self.synced_at = time.monotonic()
        self._base = at.timestamp() - self.synced_at

    def seconds(self) -> float:
        return self._base + time.monotonic()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)
