"""Running the real program against a lab, and killing it: what tests of resuming share."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise

from sqlalchemy import select

from storage.database import open_database
from storage.schema import endpoint

INTERVAL = 0.3
DIFFERS = {"attempt", "started_at", "duration_ms", "detail"}
"""Fields that may differ between any two runs; `detail` says whether a FIN or a RST came first."""
KINDS = ("domains", "endpoints", "certificates")


class Program:
    """`mxcensus scan` of one lab into one database, in processes of its own."""

    def __init__(self, world, folder, url):
        self.world = world
        self.url = url
        self._folder = folder
        self._targets = world.write_targets(folder / "domains.csv")
        self._first_visit = len(world.visits)

    def start(self, *more):
        return self._popen(
            "scan", "-f", self._targets, "--db", self.url, "--resolver", self.world.resolver,
            "--port", self.world.port, "--trust", self.world.snapshot, "--ehlo-name", "census.example.net",
            "--contact", "the tests", "--allow-special-purpose", "--interval", INTERVAL, "--per-operator", "200",
            "--rate", "80", "--timeout", "10", "--seed", "11", "--json", *more,
        )  # fmt: skip

    def start_bare(self, *more):
        """Resume with nothing but where the database and the resolver are."""
        where = ("--db", self.url, "--resolver", self.world.resolver, "--trust", self.world.snapshot)
        return self._popen("scan", "--resume", "--json", *where, *more)

    def finish(self, process, status=0):
        """The output of a process that ends by itself."""
        try:
            out, err = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"did not end: {err[-2000:]}") from None
        assert process.returncode == status, (process.returncode, err[-2000:])
        assert "Traceback" not in err, err[-3000:]
        return out

    def resume(self):
        """Go on until the scan is done; a scan that died before it was entered begins again."""
        process = self.start("--resume")
        _, err = process.communicate(timeout=90)
        if process.returncode == 2 and ("no scan" in err or "census.db" in err):
            self.finish(self.start())
        elif process.returncode == 2:
            assert "is finished" in err, err
        else:
            assert process.returncode == 0, err[-2000:]
            assert "Traceback" not in err, err[-3000:]

    def kill_after(self, seconds, *more, number=signal.SIGKILL):
        """Start, wait, signal; returns the status and, for each address that was done with, its visits so far."""
        process = self.start(*more)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert "Traceback" not in err, err[-3000:]
        return process.returncode, len(self.world.visits), self.done_addresses()

    def done_addresses(self):
        """Addresses with nothing left to do by what is committed; the empty set where nothing is."""
        try:
            database = open_database(self.url, create=False)
        except ValueError:
            return set()
        try:
            with database.reading() as connection:
                rows = connection.execute(select(endpoint.c.address, endpoint.c.done)).all()
        finally:
            database.close()
        return {row.address for row in rows} - {row.address for row in rows if not row.done}

    def exported(self, what):
        return self.finish(self._popen("export", "--what", what, "--db", self.url))

    def rows(self):
        """What the scan found, without what may differ."""
        found = {}
        for what in KINDS:
            rows = [json.loads(line) for line in self.exported(what).splitlines()]
            found[what] = sorted(
                ({name: value for name, value in row.items() if name not in DIFFERS} for row in rows),
                key=lambda row: json.dumps(row, sort_keys=True),
            )
        return found

    @property
    def visits(self):
        return self.world.visits[self._first_visit :]

    def assert_polite(self):
        """Server-side: no address saw two connections closer than the interval."""
        by_address = defaultdict(list)
        for visit in self.visits:
            by_address[visit.address].append(visit.began)
        assert by_address
        for address, times in by_address.items():
            for first, second in pairwise(sorted(times)):
                assert second - first >= INTERVAL, (address, second - first)

    def assert_not_again(self, killed):
        """Server-side: no address that was done with when the program was killed was contacted later."""
        for _, seen, done in killed:
            later = {visit.address for visit in self.world.visits[seen:]}
            assert not later & done

    def _popen(self, *arguments, environment=None, prefix=()):
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "mxcensus", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=os.environ
            | {"XDG_CONFIG_HOME": str(self._folder / "config"), "NO_COLOR": "1"}
            | (environment or {}),
        )


def differences(found, expected):
    """The rows that are in one of two results of `Program.rows` and not in the other."""
    return [
        (what, here, row)
        for what in KINDS
        for here, rows, others in (
            ("found", found[what], expected[what]),
            ("expected", expected[what], found[what]),
        )
        for row in rows
        if row not in others
    ]


def wait_for_visits(program, count, process):
    """Wait until the lab saw so many connections: the scan is in its last phase."""
    end = time.monotonic() + 60
    while len(program.visits) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the scan never got so far"
        time.sleep(0.02)
