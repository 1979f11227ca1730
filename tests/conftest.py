"""What tests share: databases of both kinds, fresh for each test.

`database_url` gives a test both in turn; `postgresql` gives the PostgreSQL cluster of this process, started when
first asked for. Where its server programs are missing the tests that need it are skipped loudly, or fail with
LAB=require.
"""

import contextlib
import os
import shutil
from collections import Counter

import postgres
import pytest

from storage.database import open_database


def missing(what):
    """Skip a test for want of a program, or fail it where the lab is required."""
    if os.environ.get("LAB") == "require":
        pytest.fail(f"LAB=require, but {what}")
    pytest.skip(f"NOT TESTED: {what}")


@pytest.fixture(scope="session")
def not_tested():
    """`missing`, for tests: no test can import a conftest, of which there are two."""
    return missing


def pytest_terminal_summary(terminalreporter):
    """Say what was not tested, and why; read from the reports, since workers have no terminal of their own.

    Tests also say with `record_property` how much they did of what `make soak` does in full.
    """
    done = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, count in report.user_properties:
            done[name] += count
    if done:
        terminalreporter.write_line(
            ", ".join(f"{name}: {count}" for name, count in sorted(done.items())), bold=True
        )
    reasons = {report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if report.longrepr}
    for reason in sorted(reasons):
        terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True, bold=True)


@pytest.fixture(scope="session")
def postgresql_programs():
    binaries = postgres.programs()
    if binaries is None:
        missing("PostgreSQL's server programs are missing (apt-get install postgresql)")
    return binaries


@pytest.fixture(scope="session")
def postgresql(postgresql_programs):
    cluster = postgres.Cluster(postgresql_programs)
    yield cluster
    cluster.destroy()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """A SQLite database with the tables, to be copied."""
    path = tmp_path_factory.mktemp("template") / "census.db"
    open_database(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.lab)])
def database_url(request, tmp_path):
    """The URL of a new database with the tables: a SQLite file, then a PostgreSQL database."""
    if request.param == "sqlite":
        path = tmp_path / "census.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    cluster = request.getfixturevalue("postgresql")
    url = cluster.database(lambda template: open_database(template).close())
    yield url
    cluster.drop(url)


@pytest.fixture
def database(database_url):
    """An open database; what it could not close must not hide a test's own failure."""
    opened = open_database(database_url, patience=20)
    yield opened
    with contextlib.suppress(RuntimeError):
        opened.close()


@pytest.fixture(scope="module")
def postgresql_url(postgresql):
    """The URL of one PostgreSQL database without tables, for a whole module."""
    url = postgresql.database()
    yield url
    postgresql.drop(url)
