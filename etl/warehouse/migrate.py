"""Upgrade and downgrade the schema. Tables and views change in one transaction.

Alembic is imported only if there is something to do.
"""

from typing import Literal, NamedTuple

import sqlalchemy as sa

from etl.errors import SchemaTooNewError, WarehouseError
from etl.warehouse import views
from etl.warehouse.engine import lock_schema_changes, name_of
from etl.warehouse.package_files import folder
from etl.warehouse.schema import SCHEMA, metadata

State = Literal["none", "old", "current", "newer"]

FIRST_TABLES = (
    "accounts", "series", "names", "runs", "answers", "readings", "facts", "revisions", "rejections", "days",
    "findings", "probes", "lessons", "contradictions",
)  # fmt: skip
"""Tables that the revisions before 0007 create in the schema of the views."""


class SchemaVersion(NamedTuple):
    """The revision of a warehouse's tables; the revision and fingerprint of its views; our views' fingerprint."""

    revision: str | None
    views: tuple[str, str] | None
    our_fingerprint: str

    @property
    def state(self) -> State:
        """``old`` also if only the views differ; ``newer`` if this program does not know the revision."""
        known = revisions()
        if self.revision is None:
            return "none"
        if self.revision not in known:
            return "newer"
        is_current = self.revision == known[-1] and self.views == (known[-1], self.our_fingerprint)
        return "current" if is_current else "old"

    @property
    def is_copy(self) -> bool:
        return self.revision is None and self.views is not None

    def is_at(self, revision: str) -> bool:
        """True if an upgrade to the revision has nothing to do."""
        return revision == self.revision and (revision != revisions()[-1] or self.state == "current")


def revisions() -> list[str]:
    """The revisions this program knows, oldest first; the last is its own."""
    return sorted(file.stem.partition("_")[0] for file in (folder("migrations") / "versions").glob("[0-9]*.py"))


def current(engine: sa.Engine) -> str | None:
    """The revision of the warehouse's tables; None if it has none."""
    return _version(engine).revision


def state(engine: sa.Engine) -> State:
    """See ``SchemaVersion.state``."""
    return _version(engine).state


def is_copy(engine: sa.Engine) -> bool:
    """True for a copy made by ``publish``: it has views, but no schema to upgrade."""
    return _version(engine).is_copy


def require_readable(engine: sa.Engine) -> None:
    """Raise WarehouseError unless the tables have the revision this program reads."""
    version = _version(engine)
    _refuse_copy(engine, version)
    if version.revision is None:
        raise WarehouseError(
            f"{name_of(engine.url)} is not a warehouse of this program yet", "anticaptcha-etl sync creates one"
        )
    _refuse_newer(engine, version)
    if version.revision != revisions()[-1]:
        raise WarehouseError(
            f"{name_of(engine.url)} has schema {version.revision}, this program reads {revisions()[-1]}",
            "anticaptcha-etl migrate upgrades it",
        )


def upgrade(engine: sa.Engine, to: str = "head") -> None:
    """Bring tables and views to revision ``to``. Writes nothing if they are already there.

    Raises SchemaTooNewError for a revision this program does not know, and WarehouseError for a published copy or for
    a database with other tables of the same names. Nothing is changed then.
    """
    head = revisions()[-1]
    to = head if to == "head" else to
    if _version(engine).is_at(to):
        return
    with engine.begin() as connection:
        lock_schema_changes(connection)
        version = _read_version(connection)
        if version.is_at(to):  # another program upgraded it meanwhile
            return
        _refuse_newer(engine, version)
        _refuse_copy(engine, version)
        if version.revision is None:
            _refuse_other_program(engine, connection)
        views.drop(connection)
        if to != version.revision:
            _alembic(connection, "upgrade", to)
        if to == head:
            views.rebuild(connection, head)


def downgrade(engine: sa.Engine, to: str) -> None:
    """Take the tables back to revision ``to`` (``base``: no tables). The views are dropped: they need the newest
    tables.

    Raises SchemaTooNewError for a revision this program does not know.
    """
    with engine.begin() as connection:
        lock_schema_changes(connection)
        _refuse_newer(engine, _read_version(connection))
        views.drop(connection)
        _alembic(connection, "downgrade", to)


def _alembic(connection: sa.Connection, direction: Literal["upgrade", "downgrade"], to: str) -> None:
    from alembic import command  # noqa: PLC0415 - costs 0.1 s and is needed once per release
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    getattr(command, direction)(config, to)


# ---------------------------------------------------------------- what is in the warehouse


def _version(engine: sa.Engine) -> SchemaVersion:
    with engine.connect() as connection:
        return _read_version(connection)


def _read_version(connection: sa.Connection) -> SchemaVersion:
    names = table_names(connection)

    def first_row(columns: str, table: str) -> tuple[str, ...] | None:
        for schema in (SCHEMA, None):  # before revision 0007 our tables were in the schema of the views
            if (schema, table) in names:
                place = f"{schema}.{table}" if schema else table
                row = connection.exec_driver_sql(f"select {columns} from {place}").first()
                return None if row is None else tuple(row)
        return None

    revision, marker = first_row("version_num", "alembic_version"), first_row("revision, views", views.MARKER)
    return SchemaVersion(
        revision[0] if revision else None,
        (marker[0], marker[1]) if marker else None,
        views.fingerprint(connection.dialect.name),
    )


def table_names(connection: sa.Connection) -> set[tuple[str | None, str]]:
    """Schema and name of all tables and views; the schema is None for that of the views.

    Reflection would take as long as opening the file.
    """
    names, schemas = "select table_name, table_schema from information_schema.tables", f"(current_schema(), '{SCHEMA}')"
    if connection.dialect.name == "postgresql":  # its information_schema hides what the user may not read
        names = (
            "select c.relname, n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where c.relkind in ('r', 'v')"
        )
    sql = f"select case s when '{SCHEMA}' then s end, t from ({names}) as n(t, s) where s in {schemas}"
    return {(schema, name) for schema, name in connection.exec_driver_sql(sql)}


# ---------------------------------------------------------------- refusals


def _refuse_newer(engine: sa.Engine, version: SchemaVersion) -> None:
    if version.state == "newer":
        raise SchemaTooNewError(
            f"{name_of(engine.url)} has schema {version.revision}, this program knows up to {revisions()[-1]}",
            "upgrade anticaptcha-etl; nothing was changed",
        )


def _refuse_copy(engine: sa.Engine, version: SchemaVersion) -> None:
    if version.is_copy:
        raise WarehouseError(
            f"{name_of(engine.url)} is a published copy, which has only what its views read",
            "name the warehouse it was made from with --warehouse",
        )


def _refuse_other_program(engine: sa.Engine, connection: sa.Connection) -> None:
    own = {(SCHEMA, table.name) for table in metadata.tables.values()} | {(None, name) for name in FIRST_TABLES}
    if conflicts := sorted(name for _, name in own & table_names(connection)):
        raise WarehouseError(
            f"{name_of(engine.url)} belongs to another program: it has no schema revision, but tables "
            f"{', '.join(conflicts)}",
            "choose another place with --warehouse",
        )
