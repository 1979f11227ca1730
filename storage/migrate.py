"""Brings a database's tables to the schema of this version, by Alembic.

Alembic takes a while to import, so what a database needs is first read from its own version table.
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from storage import dialects
from storage.errors import BadDatabase

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
"""Every revision of the schema, the oldest first; `tests/test_storage_schema.py` holds it against the scripts."""

SCRIPTS = Path(__file__).parent / "migrations"

_VERSION_TABLE = "alembic_version"


def check_or_create(engine: Engine, *, create: bool) -> None:
    """Raise `BadDatabase` unless the database is or can be made ours and current."""
    with engine.connect() as connection:
        found = _revision(connection)
    if found == REVISIONS[-1]:
        if create:  # whoever may create is going to write
            _check_writable(engine)
        return
    if found is None and not create:
        raise BadDatabase("not a database of mxcensus")
    upgrade(engine)


def upgrade(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction; several processes may try at once."""
    with engine.connect() as connection:
        connection.execution_options(**{dialects.WRITES: True})
        with connection.begin():
            dialects.lock_schema(connection)
            if _revision(connection) != REVISIONS[-1]:
                _run_alembic(connection)


def _revision(connection: Connection) -> str | None:
    """The revision of the tables that are there, None for an empty database."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    if _VERSION_TABLE not in tables or "observation" not in tables:
        raise BadDatabase("not a database of mxcensus")
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608  # constant
    if found not in REVISIONS:
        raise BadDatabase("a newer version of mxcensus made this database; upgrade mxcensus")
    return str(found)


def _check_writable(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execution_options(**{dialects.WRITES: True})
        with connection.begin() as transaction:
            connection.execute(text("UPDATE scan SET id = id WHERE id < 0"))
            transaction.rollback()


def _run_alembic(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  # see the module
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
