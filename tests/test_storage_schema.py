"""The migrations make the tables that the code means, on both databases."""

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import LargeBinary, inspect

from storage import migrate
from storage.schema import metadata


def test_migrated_tables_are_the_metadata(database):
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": lambda name, kind, _: name != "alembic_version"}
        )
        assert compare_metadata(context, metadata) == []


def test_generated_columns_collations_and_cascades_are_there(database):
    # what Alembic does not compare
    with database.reading() as connection:
        found = inspect(connection)
        columns = {column["name"]: column for column in found.get_columns("endpoint")}
        assert "due_attempt" in columns["done"]["computed"]["sqltext"]
        for table in metadata.sorted_tables:
            keys = {key["referred_table"]: key["options"] for key in found.get_foreign_keys(table.name)}
            owners = {name for name in ("scan", "experiment") if f"{name}_id" in table.c}
            assert keys == {name: {"ondelete": "CASCADE"} for name in owners}


def test_names_are_compared_byte_by_byte_in_every_key(database):
    if database.engine.dialect.name == "sqlite":
        return  # nothing else is compared there otherwise
    with database.reading() as connection:
        found = inspect(connection)
        for table in metadata.sorted_tables:
            for column in found.get_columns(table.name):
                declared = table.c[column["name"]]
                if (
                    declared.primary_key
                    and not isinstance(declared.type, LargeBinary)
                    and declared.type.python_type is str
                ):
                    assert column["type"].collation == "C", declared


def test_revisions_are_those_of_the_scripts():
    config = Config()
    config.set_main_option("script_location", str(migrate.SCRIPTS))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(revisions)) == migrate.REVISIONS
