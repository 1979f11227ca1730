"""The CPU of a PostgreSQL server by kind of process, read from Linux."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import postgres
from sqlalchemy import create_engine, text

SECONDS = 1.0
KINDS = {"mxcensus": "census sessions", "mxcensus fleet": "queue sessions"}
"""By the name that a session gives itself; every other process is the server's own."""

_WHO = text("SELECT pid, application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


class Backends:
    """Watches one server. The sum is exact; of a session the last second counts as the server's own."""

    def __init__(self, cluster: postgres.Cluster) -> None:
        self._postmaster = int((cluster.directory / "data/postmaster.pid").read_text().split()[0])
        self._engine = create_engine(cluster.url("postgres"))

    @contextmanager
    def measuring(self) -> Iterator[dict[str, float]]:
        """A dict that has the CPU seconds of what happens inside the block by kind, once it has ended."""
        found: dict[str, float] = {}
        seen: dict[int, tuple[str, float]] = {}
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(seen, over))
        before = self._all()
        watcher.start()
        try:
            yield found
        finally:
            over.set()
            watcher.join()
        for kind, seconds in seen.values():
            found[kind] = found.get(kind, 0.0) + seconds
        found["server"] = self._all() - before - sum(found.values())

    def _watch(self, seen: dict[int, tuple[str, float]], over: threading.Event) -> None:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not over.wait(SECONDS):
                for pid, name in connection.execute(_WHO):
                    if name in KINDS:
                        seen[pid] = (KINDS[name], _cpu(pid) or seen.get(pid, ("", 0.0))[1])

    def _all(self) -> float:
        """The server, its processes that have ended, and those that run."""
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text().split()
        return _cpu(self._postmaster) + sum(_cpu(int(child)) for child in children)


def _cpu(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended; 0 where it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
