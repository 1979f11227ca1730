"""A PostgreSQL cluster of the tests' own, from Debian's server programs, in a directory that goes away.

PostgreSQL refuses to run as root, so as root it runs as the user `postgres` (or `nobody`). It listens on a Unix
socket only. A test gets a database of its own, copied from a template that has the tables.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine, text

WHERE = "/usr/lib/postgresql"
TEMPLATE = "mxcensus_template"


def programs():
    """The directory of the newest server programs, or None."""
    found = [path.parent for path in Path(WHERE).glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    other = shutil.which("initdb")
    return Path(other).resolve().parent if other else None


SMALL = {"shared_buffers": "32MB"}
"""For tests, of which several run at once."""
SHIPPED = {"shared_buffers": "1GB", "max_wal_size": "8GB", "wal_compression": "on"}
"""Those of docker-compose.yml, for measuring."""


class Cluster:
    """One server, with these settings beside its own. `stop` and `start` are an outage; `destroy` ends it."""

    def __init__(self, binaries, settings=SMALL):
        self._binaries = binaries
        self._numbers = count(1)
        self._templates = set()
        # A Unix socket's path has to be short, so not pytest's own directory.
        self.directory = Path(tempfile.mkdtemp(prefix="mxc-pg-"))
        self._user = self._unprivileged()
        if self._user:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        self._run(
            "initdb", "-D", "data", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-N", "-U", "postgres"
        )
        with (self.directory / "data/postgresql.conf").open("a") as settings_file:
            settings_file.write(
                "listen_addresses = ''\nfsync = off\nfull_page_writes = off\nmax_connections = 50\n"
                f"unix_socket_directories = '{self.directory}'\n"
            )
            settings_file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.start()

    @staticmethod
    def _unprivileged():
        if os.getuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def _run(self, program, *arguments):
        user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        with (self.directory / "log").open("a") as log:
            done = subprocess.run(
                [self._binaries / program, *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=60,
                check=False,
                **user,
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{(self.directory / 'log').read_text()[-2000:]}")

    def start(self):
        self._run("pg_ctl", "-D", "data", "-w", "-l", "server.log", "start")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def url(self, name, user="postgres"):
        return f"postgresql+psycopg://{user}@/{name}?host={self.directory}"

    def database(self, make_tables=None):
        """The URL of a new database; `make_tables` is called once with the URL of the template."""
        name = f"census{next(self._numbers)}"
        if make_tables is not None and TEMPLATE not in self._templates:
            self.sql(f"CREATE DATABASE {TEMPLATE}")
            make_tables(self.url(TEMPLATE))
            self._templates.add(TEMPLATE)
        template = TEMPLATE if make_tables is not None else "template1"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url):
        name = url.partition("@/")[2].partition("?")[0]
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, *statements, name="postgres"):
        engine = create_engine(self.url(name), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    def psql(self, name, script):
        """Run a file of SQL as the superuser, by PostgreSQL's own client; an error fails it."""
        client = ("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.directory, "-U", "postgres")
        self._run(*client, "-d", name, "-f", script)

    def destroy(self):
        try:
            if (self.directory / "data/postmaster.pid").exists():
                self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
