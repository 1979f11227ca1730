"""Running fleets of the real program against a lab: what tests of fleets share."""

import contextlib
import io
import itertools
import json
import signal
import socket
import threading
import time
from pathlib import Path
from select import select

from resuming import Program
from sqlalchemy import text

from mxcensus.cli import main
from storage.database import open_database

INTERVAL = 0.3
TIMEOUT = 3
"""Seconds for a reply; a session that was cut off is waited for five times as long."""


class Fleet(Program):
    """One scan of a lab by workers in processes of their own; everything that is alive is ended by `close`."""

    def __init__(self, world, folder, url):
        super().__init__(world, folder, url)
        self.workers = []

    def manners(self, *more):
        return [
            "-f", self._targets, "--port", self.world.port, "--ehlo-name", "census.example.net",
            "--contact", "the tests", "--allow-special-purpose", "--interval", INTERVAL,
            "--per-operator", "200", "--timeout", TIMEOUT,
            "--seed", "11", "--trust", self.world.snapshot, *more,
        ]  # fmt: skip

    def scan(self, url):
        """The same by one plain scan."""
        where = ["--db", url, "--resolver", self.world.resolver, "--rate", "500", "--json"]
        return self.run("scan", *self.manners(), *where)

    def enqueue(self, *more):
        return json.loads(self.run("fleet", "enqueue", "--db", self.url, "--json", *self.manners(*more)))

    def worker(self, *more, url=None, rate=500, stalled=9, trust=None, environment=None, prefix=()):
        process = self._popen(
            "fleet", "worker", "--processes", "1", "--db", url or self.url, "--resolver", self.world.resolver,
            "--trust", trust or self.world.snapshot, "--rate", rate, "--stalled-after", stalled, *more,
            environment=environment, prefix=prefix,
        )  # fmt: skip
        self.workers.append(process)
        return process

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        return self.finish(process)

    def status(self):
        return json.loads(self.run("fleet", "status", "--json", "--db", self.url))

    def figures(self):
        return json.loads(self.run("report", "--format", "json", "--db", self.url))["figures"]

    @staticmethod
    def run(*arguments):
        """What the program prints; in this process, since starting one is most of what a short command costs."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert main([str(argument) for argument in arguments]) == 0
        return said.getvalue()

    def exported(self, what):
        return self.run("export", "--what", what, "--db", self.url)

    def wait_for(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.jobs(), [worker.poll() for worker in self.workers])
            time.sleep(0.05)

    def wait_for_visits(self, count):
        self.wait_for(lambda: len(self.visits) >= count)

    def wait_until_finished(self):
        """Until everything is contacted and classified but what is parked."""
        with self.opened() as database:
            self.wait_for(lambda: database.scan_info().state == "finished")

    def jobs(self):
        return self.query("SELECT queue_name, status, lock, scheduled_at, attempts FROM procrastinate_jobs")

    def query(self, statement):
        with self.opened() as database, database.reading() as connection:
            return connection.execute(text(statement)).all()

    def change(self, statement):
        with self.opened() as database:
            database.write(lambda connection: connection.execute(text(statement)).rowcount)

    @contextlib.contextmanager
    def opened(self):
        database = open_database(self.url, create=False)
        try:
            yield database
        finally:
            database.close()

    def most_at_once(self, key):
        """Server-side: the most connections that were open at once to what `key` makes of an address."""
        edges = sorted(
            itertools.chain.from_iterable(
                ((visit.began, 1, key(visit.address)), (visit.ended or visit.began, -1, key(visit.address)))
                for visit in self.visits
            )
        )
        now, most = {}, {}
        for _, step, name in edges:
            now[name] = now.get(name, 0) + step
            most[name] = max(most.get(name, 0), now[name])
        return most

    def close(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()


WRONG_CLOCK = """
import datetime, os, time
offset = float(os.environ["CLOCK_OFFSET"])
right = time.time
time.time = lambda: right() + offset
time.time_ns = lambda: int(time.time() * 1e9)

class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=offset)

datetime.datetime = Wrong
"""


def wrong_clock(folder, seconds):
    """The environment of a program whose clock is off; the monotonic one, which counts from nowhere, is right."""
    (folder / "sitecustomize.py").write_text(WRONG_CLOCK)
    return {"PYTHONPATH": str(folder), "CLOCK_OFFSET": str(seconds)}


class Proxy:
    """A TCP port in front of a PostgreSQL's Unix socket, that can be cut without either side being told."""

    def __init__(self, directory):
        self._path = str(next(Path(directory).glob(".s.PGSQL.*[0-9]")))
        self._cut, self._over = threading.Event(), threading.Event()
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def cut(self):
        self._cut.set()

    def close(self):
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._relay, client)

    def _relay(self, client):
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._path)
            other = {client: server, server: client}
            while not self._over.is_set():
                for one in select([client, server], [], [], 0.2)[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    if self._cut.is_set():
                        self._over.wait()
                        return
                    other[one].sendall(data)
