"""Where Alembic meets the warehouse: the program hands in its open transaction, the ``alembic`` command ``-x warehouse=...``.

The command is for writing migrations. It leaves the views alone; the next ``sync`` or ``migrate`` sees that they are not
those of the revision and rebuilds them.
"""

from typing import Any

from alembic import context
from alembic.ddl.impl import DefaultImpl
from alembic.util import CommandError
from sqlalchemy import Column, Connection, String

from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.schema import metadata


class DuckDBImpl(DefaultImpl):
    """Alembic knows no DuckDB; its plain SQL fits, and DuckDB's DDL takes part in transactions."""

    __dialect__ = "duckdb"
    transactional_ddl = True

    def compare_type(self, inspector_column: Column[Any], metadata_column: Column[Any]) -> bool:
        """DuckDB has one text type, which reads back as VARCHAR."""
        both_texts = isinstance(inspector_column.type, String) and isinstance(metadata_column.type, String)
        return not both_texts and super().compare_type(inspector_column, metadata_column)


def migrate(connection: Connection) -> None:
    has_indexes = connection.dialect.name != "duckdb"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=lambda _object, _name, kind, _reflected, _other: has_indexes or kind != "index",
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate_from_the_command_line() -> None:
    warehouse = context.get_x_argument(as_dictionary=True).get("warehouse")
    if not isinstance(warehouse, str):
        raise CommandError("say which warehouse: alembic -x warehouse=PATH ...")
    with open_warehouse(warehouse_url(warehouse)).begin() as connection:
        migrate(connection)


if (handed_in := context.config.attributes.get("connection")) is not None:
    migrate(handed_in)
else:
    migrate_from_the_command_line()
