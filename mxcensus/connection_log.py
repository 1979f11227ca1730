"""`scan --connection-log FILE`: a line of JSON for every connection, to answer whoever complains about one.

Written by a thread of its own, readable by its owner only, rotated by size. JSON escapes control characters and all
that is not ASCII, so what servers wrote does nothing to a terminal. A session whose end the process did not live to
see has no line; its intent is in the database (`endpoint.claimed_at`).
"""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

from scanner.policy_records import StsPolicy
from scanner.records import Endpoint, Observation

FILE_BYTES = 100_000_000
FILES = 20
"""Beside the file itself; the oldest goes when there are more."""


class ConnectionLog:
    """Takes what a connection came to; `opened` makes one."""

    def __init__(self, queue: SimpleQueue[logging.LogRecord]) -> None:
        self._put = QueueHandler(queue).enqueue

    def ended(self, seen: Observation) -> None:
        """A session has ended."""
        self._log(
            seen.endpoint,
            seen.attempt,
            seen.started_at,
            {
                "source": seen.source,
                "duration_ms": seen.duration_ms,
                "octets_in": seen.octets_in,
                "octets_out": seen.octets_out,
                "status": seen.status.value,
                "stage": seen.stage.value,
                "failure": seen.failure.value if seen.failure else None,
                "reply_code": seen.reply_code,
                "detail": seen.detail,
            },
        )

    def cut_off(self, endpoint: Endpoint, attempt: int, started_at: datetime) -> None:
        """The scan was told to stop, and this session did not end in time."""
        self._log(endpoint, attempt, started_at, {"status": "interrupted"})

    def fetched(self, policy: StsPolicy) -> None:
        """An MTA-STS policy was fetched, or not, from an address that was dialled."""
        line = {
            "time": _rfc3339(policy.fetched_at),
            "policy_host": f"mta-sts.{policy.domain}",
            "address": policy.address,
            "failure": policy.failure.value if policy.failure else None,
            "http_status": policy.status,
            "detail": policy.detail,
        }
        self._put(logging.makeLogRecord({"msg": line}))

    def _log(self, endpoint: Endpoint, attempt: int, started_at: datetime, more: dict[str, object]) -> None:
        line = {
            "time": _rfc3339(started_at),
            "mx_host": endpoint.mx_host,
            "address": endpoint.address,
            "port": endpoint.port,
            "attempt": attempt,
            **more,
        }
        self._put(logging.makeLogRecord({"msg": line}))


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def opened(path: Path) -> Iterator[ConnectionLog]:
    """The log at `path`, appended to; everything is written when the context ends. Raises OSError at once."""
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = _PrivateFile(path, maxBytes=FILE_BYTES, backupCount=FILES, encoding="ascii")
    handler.setFormatter(_Lines())
    listener = QueueListener(queue, handler)
    listener.start()
    try:
        yield ConnectionLog(queue)
    finally:
        listener.stop()
        handler.close()
        if handler.lost:
            print(f"mxcensus: {path}: {handler.lost} connections could not be logged", file=sys.stderr)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(record.msg)


class _PrivateFile(RotatingFileHandler):
    """Readable by its owner only, from the moment it is made; a full disk is said once and ends no scan."""

    lost = 0

    def _open(self) -> TextIO:  # type: ignore[override]  # a text file is all that is needed
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        raw = os.fdopen(os.open(self.baseFilename, flags, 0o600), "ab", buffering=0)
        return io.TextIOWrapper(
            raw, encoding=self.encoding, write_through=True
        )  # keeps nothing that a disk refused

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        if not self.lost:
            print(f"mxcensus: {self.baseFilename}: {sys.exc_info()[1]}", file=sys.stderr)
        self.lost += 1
