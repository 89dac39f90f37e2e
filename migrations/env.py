"""Alembic's entry point: the program passes its open transaction, the ``alembic`` command ``-x warehouse=PATH``.

The command is for writing migrations. It leaves the views alone; the next ``sync`` or ``migrate`` rebuilds them.
"""

from typing import Any

from alembic import context
from alembic.ddl.impl import DefaultImpl
from alembic.util import CommandError
from sqlalchemy import Column, Connection, MetaData, String

from etl.warehouse import SCHEMA
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import create_schema, create_version_table, table_names
from etl.warehouse.schema import metadata

FIRST_WITH_SCHEMA = "0007"
"""Earlier revisions have all tables, ``alembic_version`` too, in the schema of the views."""


class DuckDBImpl(DefaultImpl):
    """Alembic does not know DuckDB. Its default SQL fits, and DuckDB's DDL is transactional."""

    __dialect__ = "duckdb"
    transactional_ddl = True

    def compare_type(self, inspector_column: Column[Any], metadata_column: Column[Any]) -> bool:
        """DuckDB has one text type, which reads back as VARCHAR."""
        both_texts = isinstance(inspector_column.type, String) and isinstance(metadata_column.type, String)
        return not both_texts and super().compare_type(inspector_column, metadata_column)


def migrate(connection: Connection) -> None:
    is_duckdb = connection.dialect.name == "duckdb"
    context.configure(
        connection=connection,
        target_metadata=without_schema(metadata) if is_duckdb else metadata,
        version_table_schema=SCHEMA,
        include_schemas=not is_duckdb,
        include_name=lambda name, kind, _: name != "alembic_version" and (kind != "schema" or name in (None, SCHEMA)),
        include_object=lambda _object, _name, kind, _reflected, _other: not (is_duckdb and kind == "index"),
    )
    create_schema(connection)
    names = table_names(connection)
    if (None, "alembic_version") in names and (SCHEMA, "alembic_version") not in names:
        move_version(connection, "alembic_version", f"{SCHEMA}.alembic_version")
    with context.begin_transaction():
        context.run_migrations()
    if (SCHEMA, "alembic_version") in table_names(connection):
        revision = connection.exec_driver_sql(f"select version_num from {SCHEMA}.alembic_version").scalar()
        if revision is None or revision < FIRST_WITH_SCHEMA:
            move_version(connection, f"{SCHEMA}.alembic_version", "alembic_version")


def without_schema(tables: MetaData) -> MetaData:
    """The same tables as duckdb-engine reflects them: those of all schemas, as if there were one."""
    copied = MetaData()
    for table in tables.sorted_tables:
        table.to_metadata(copied, schema=None)  # type: ignore[arg-type]  # typed as if it had to be a text
    return copied


def move_version(connection: Connection, source: str, target: str) -> None:
    create_version_table(connection, target)
    connection.exec_driver_sql(f"insert into {target} select version_num from {source}")
    connection.exec_driver_sql(f"drop table {source}")


def migrate_from_the_command_line() -> None:
    warehouse = context.get_x_argument(as_dictionary=True).get("warehouse")
    if not isinstance(warehouse, str):
        raise CommandError("which warehouse? alembic -x warehouse=PATH ...")
    with open_warehouse(warehouse_url(warehouse)).begin() as connection:
        migrate(connection)


if (passed := context.config.attributes.get("connection")) is not None:
    migrate(passed)
else:
    migrate_from_the_command_line()
