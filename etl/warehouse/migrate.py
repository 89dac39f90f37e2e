"""Upgrade and downgrade the schema. Tables and views change in one transaction."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from etl.errors import SchemaTooNewError, WarehouseError
from etl.warehouse import SCHEMA, views
from etl.warehouse.engine import lock_schema_changes
from etl.warehouse.package_files import folder
from etl.warehouse.reading import ConnectionReader, Reader, SqlError, reader_of

if TYPE_CHECKING:
    import sqlalchemy as sa

State = Literal["none", "old", "current", "newer"]

FIRST_TABLES = (
    "accounts", "series", "names", "runs", "answers", "readings", "facts", "revisions", "rejections", "days",
    "findings", "probes", "lessons", "contradictions",
)  # fmt: skip
"""Tables that the revisions before 0007 create in the schema of the views."""


_VERSION = f"""
    select v.version_num, m.revision, m.views
      from (select 1)                            as one
      left join {SCHEMA}.alembic_version as v on true
      left join {SCHEMA}.{views.MARKER}  as m on true
"""


class SchemaVersion(NamedTuple):
    """The revision of a warehouse's tables; the revision and fingerprint of its views."""

    warehouse: str
    engine: str
    revision: str | None
    views: tuple[str, str] | None

    @property
    def state(self) -> State:
        """``old`` also if only the views differ; ``newer`` if this program does not know the revision."""
        known = revisions()
        if self.revision is None:
            return "none"
        if self.revision not in known:
            return "newer"
        is_current = self.revision == known[-1] and self.views == (known[-1], views.fingerprint(self.engine))
        return "current" if is_current else "old"

    @property
    def is_copy(self) -> bool:
        return self.revision is None and self.views is not None

    def refuse_newer(self) -> None:
        if self.state == "newer":
            raise SchemaTooNewError(
                f"{self.warehouse} has schema {self.revision}, this program knows up to {revisions()[-1]}",
                "upgrade anticaptcha-etl; nothing was changed",
            )

    def refuse_copy(self) -> None:
        if self.is_copy:
            raise WarehouseError(
                f"{self.warehouse} is a published copy, which has only what its views read",
                "name the warehouse it was made from with --warehouse",
            )

    def is_at(self, revision: str) -> bool:
        """True if an upgrade to the revision has nothing to do."""
        return revision == self.revision and (revision != revisions()[-1] or self.state == "current")


def revisions() -> list[str]:
    """The revisions this program knows, oldest first; the last is its own."""
    return sorted(file.stem.partition("_")[0] for file in (folder("migrations") / "versions").glob("[0-9]*.py"))


def current(source: "Reader | sa.Engine") -> str | None:
    """The revision of the warehouse's tables; None if it has none."""
    return version(source).revision


def state(source: "Reader | sa.Engine") -> State:
    """See ``SchemaVersion.state``."""
    return version(source).state


def is_copy(source: "Reader | sa.Engine") -> bool:
    """True for a copy made by ``publish``: it has views, but no schema to upgrade."""
    return version(source).is_copy


def require_readable(source: "Reader | sa.Engine") -> None:
    """Raise WarehouseError unless the tables have the revision this program reads."""
    found, newest = version(source), revisions()[-1]
    if found.revision == newest:
        return
    found.refuse_copy()
    if found.revision is None:
        raise WarehouseError(
            f"{found.warehouse} is not a warehouse of this program yet", "anticaptcha-etl sync creates one"
        )
    found.refuse_newer()
    raise WarehouseError(
        f"{found.warehouse} has schema {found.revision}, this program reads {newest}",
        "anticaptcha-etl migrate upgrades it",
    )


def upgrade(engine: "sa.Engine", to: str = "head") -> None:
    """Bring tables and views to revision ``to``. Writes nothing if they are already there.

    Raises SchemaTooNewError for a revision this program does not know, and WarehouseError for a published copy or for
    a database with other tables of the same names. Nothing is changed then.
    """
    if not version(engine).is_at(revisions()[-1] if to == "head" else to):
        with engine.connect() as connection:
            upgrade_on(connection, to)


def upgrade_on(connection: "sa.Connection", to: str = "head") -> None:
    """The same in a transaction of an open connection."""
    head = revisions()[-1]
    to = head if to == "head" else to
    with connection.begin():
        lock_schema_changes(connection)
        found = _find_version(reader_of(connection))
        if found.is_at(to):  # another program upgraded it meanwhile
            return
        found.refuse_newer()
        found.refuse_copy()
        names = table_names(reader_of(connection))
        if found.revision is None:
            _refuse_other_program(found.warehouse, names)
        views.drop(connection)
        if to == head and not {(SCHEMA, "alembic_version"), (None, "alembic_version")} & names:
            _create_tables(connection, head)
        elif to != found.revision:
            _alembic(connection, "upgrade", to)
        if to == head:
            views.rebuild(connection, head)


def downgrade(engine: "sa.Engine", to: str) -> None:
    """Take the tables back to revision ``to`` (``base``: no tables). The views are dropped: they need the newest
    tables.

    Raises SchemaTooNewError for a revision this program does not know.
    """
    with engine.begin() as connection:
        lock_schema_changes(connection)
        _find_version(reader_of(connection)).refuse_newer()
        views.drop(connection)
        _alembic(connection, "downgrade", to)


def _create_tables(connection: "sa.Connection", revision: str) -> None:
    """Create the tables that all migrations together create, in a quarter of the time; a test compares them."""
    from etl.warehouse.schema import metadata

    create_schema(connection)
    metadata.create_all(connection, checkfirst=False)
    create_version_table(connection, f"{SCHEMA}.alembic_version")
    connection.exec_driver_sql(f"insert into {SCHEMA}.alembic_version values ('{revision}')")
    connection.exec_driver_sql(f"insert into {SCHEMA}.warehouse select cast(gen_random_uuid() as text)")


def create_schema(connection: "sa.Connection") -> None:
    """Create our schema if it is missing. PostgreSQL requires CREATE on the database even for an existing one."""
    is_missing = True
    if connection.dialect.name == "postgresql":
        is_missing = connection.exec_driver_sql(f"select to_regnamespace('{SCHEMA}') is null").scalar_one()
    if is_missing:
        connection.exec_driver_sql(f"create schema if not exists {SCHEMA}")


def create_version_table(connection: "sa.Connection", name: str) -> None:
    """Create Alembic's table, as Alembic itself does."""
    connection.exec_driver_sql(
        f"create table {name} (version_num varchar(32) not null, constraint alembic_version_pkc primary key "
        "(version_num))"
    )


def _alembic(connection: "sa.Connection", direction: Literal["upgrade", "downgrade"], to: str) -> None:
    from alembic import command  # costs 0.1 s and is needed once per release
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    getattr(command, direction)(config, to)


# ---------------------------------------------------------------- what is in the warehouse


def version(source: "Reader | sa.Engine") -> SchemaVersion:
    """What the warehouse says about its tables and views."""
    if not isinstance(source, Reader):
        with source.connect() as connection:
            return version(ConnectionReader(connection))
    try:
        [(revision, *marker)] = source.rows(_VERSION)
    except SqlError:  # a table is missing, or where earlier revisions had it
        source.recover()
        return _find_version(source)
    return SchemaVersion(source.name, source.engine, revision, (marker[0], marker[1]) if marker[0] else None)


def _find_version(reader: Reader) -> SchemaVersion:
    """The same, whichever of the tables exist."""
    names = table_names(reader)

    def first_row(columns: str, table: str) -> tuple[str, ...] | None:
        for schema in (SCHEMA, None):  # before revision 0007 our tables were in the schema of the views
            if (schema, table) in names:
                place = f"{schema}.{table}" if schema else table
                rows = reader.rows(f"select {columns} from {place}")
                return tuple(rows[0]) if rows else None
        return None

    revision, marker = first_row("version_num", "alembic_version"), first_row("revision, views", views.MARKER)
    return SchemaVersion(
        reader.name, reader.engine, revision[0] if revision else None, (marker[0], marker[1]) if marker else None
    )


def table_names(connection: "Reader | sa.Connection") -> set[tuple[str | None, str]]:
    """Schema and name of all tables and views; the schema is None for that of the views.

    Reflection would take as long as opening the file.
    """
    reader = reader_of(connection)
    names, schemas = "select table_name, table_schema from information_schema.tables", f"(current_schema(), '{SCHEMA}')"
    if reader.engine == "postgresql":  # its information_schema hides what the user may not read
        names = (
            "select c.relname, n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where c.relkind in ('r', 'v')"
        )
    sql = f"select case s when '{SCHEMA}' then s end, t from ({names}) as n(t, s) where s in {schemas}"
    return {(schema, name) for schema, name in reader.rows(sql)}


def _refuse_other_program(warehouse: str, names: set[tuple[str | None, str]]) -> None:
    from etl.warehouse.schema import metadata

    own = {(SCHEMA, table.name) for table in metadata.tables.values()} | {(None, name) for name in FIRST_TABLES}
    if conflicts := sorted(name for _, name in own & names):
        raise WarehouseError(
            f"{warehouse} belongs to another program: it has no schema revision, but tables {', '.join(conflicts)}",
            "choose another place with --warehouse",
        )
