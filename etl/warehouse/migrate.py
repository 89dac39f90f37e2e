"""Upgrade and downgrade the schema. Tables and views change in one transaction.

Alembic is imported only if there is something to do.
"""

from typing import Literal, NamedTuple

import sqlalchemy as sa

from etl.errors import SchemaTooNewError, WarehouseError
from etl.warehouse import views
from etl.warehouse.engine import name_of, take_turns
from etl.warehouse.package_files import folder
from etl.warehouse.schema import SCHEMA, metadata

State = Literal["none", "old", "current", "newer"]


class SchemaVersion(NamedTuple):
    """What a warehouse says of itself: the tables' revision, and for which revision and texts its views were made.

    ``own``: the texts of this program's views, in the words of the warehouse's engine.
    """

    revision: str | None
    views: tuple[str, str] | None
    own: str


def revisions() -> list[str]:
    """The revisions this program knows, oldest first; the last is its own."""
    return sorted(file.stem.partition("_")[0] for file in (folder("migrations") / "versions").glob("[0-9]*.py"))


def current(engine: sa.Engine) -> str | None:
    """The revision of the warehouse's tables; None before the first."""
    with engine.connect() as connection:
        return _held(connection).revision


def state(engine: sa.Engine) -> State:
    """``old`` also when only the views are not this program's; ``newer`` when this program does not know the
    revision."""
    with engine.connect() as connection:
        return _state(_held(connection))


def is_copy(engine: sa.Engine) -> bool:
    """Whether it is what ``publish`` makes of a warehouse: views without a schema to be upgraded."""
    with engine.connect() as connection:
        return _is_copy(_held(connection))


def require_readable(engine: sa.Engine) -> None:
    """Raises WarehouseError unless the tables are those this program reads; a published copy has only those of its
    views."""
    with engine.connect() as connection:
        held = _held(connection)
    _refuse_copy(engine, held)
    revision = held.revision
    if revision is None:
        raise WarehouseError(
            f"{name_of(engine.url)} is not a warehouse of this program yet", "anticaptcha-etl sync creates one"
        )
    _refuse_newer(engine, revision)
    if revision != revisions()[-1]:
        raise WarehouseError(
            f"{name_of(engine.url)} has schema {revision}, this program reads {revisions()[-1]}",
            "anticaptcha-etl migrate upgrades it",
        )


def upgrade(engine: sa.Engine, to: str = "head") -> None:
    """Brings tables and views to revision ``to``. Writes nothing when they are there already.

    Raises WarehouseNewerError, touching nothing, for a revision this program does not know, and WarehouseError for a
    published copy and where other tables stand in the place of ours.
    """
    head = revisions()[-1]
    to = head if to == "head" else to
    with engine.connect() as connection:
        if _is_there(_held(connection), to):
            return
    with engine.begin() as connection:
        take_turns(connection)
        held = _held(connection)
        if _is_there(held, to):  # another program was first
            return
        _refuse_newer(engine, held.revision)
        _refuse_copy(engine, held)
        if held.revision is None:
            _refuse_strangers(engine, connection)
        views.drop(connection)
        if to != held.revision:
            _alembic(connection, "upgrade", to)
        if to == head:
            views.rebuild(connection, head)


def _is_there(held: SchemaVersion, to: str) -> bool:
    return to == held.revision and (to != revisions()[-1] or _state(held) == "current")


def downgrade(engine: sa.Engine, to: str) -> None:
    """Takes the tables back to revision ``to`` (``base``: none at all). The views go: they are those of the newest
    tables.

    Raises WarehouseNewerError as ``upgrade`` does.
    """
    with engine.begin() as connection:
        take_turns(connection)
        _refuse_newer(engine, _held(connection).revision)
        views.drop(connection)
        _alembic(connection, "downgrade", to)


def _alembic(connection: sa.Connection, direction: Literal["upgrade", "downgrade"], to: str) -> None:
    from alembic import command  # noqa: PLC0415 - costs 0.1 s and is needed once in a release
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    {"upgrade": command.upgrade, "downgrade": command.downgrade}[direction](config, to)


def _held(connection: sa.Connection) -> SchemaVersion:
    names = table_names(connection)
    version, marker = _where("alembic_version", names), _where(views.MARKER, names)
    revision = None if version is None else connection.exec_driver_sql(f"select version_num from {version}").scalar()
    made = None if marker is None else connection.exec_driver_sql(f"select revision, views from {marker}").one()
    return SchemaVersion(
        revision, None if made is None else (made[0], made[1]), views.fingerprint(connection.dialect.name)
    )


def table_names(connection: sa.Connection) -> set[tuple[str | None, str]]:
    """Schema and name of all tables and views; the schema is None for that of the views.

    Reflection would do too, but takes as long as opening the file.
    """
    names, schemas = "select table_name, table_schema from information_schema.tables", f"(current_schema(), '{SCHEMA}')"
    if connection.dialect.name == "postgresql":  # whose information_schema hides what the user may not read
        names = "select relname, relnamespace::regnamespace::text from pg_class where relkind in ('r', 'v')"
    sql = f"select case s when '{SCHEMA}' then s end, t from ({names}) as n(t, s) where s in {schemas}"
    return {(schema, name) for schema, name in connection.exec_driver_sql(sql)}


def _where(table: str, names: set[tuple[str | None, str]]) -> str | None:
    """The qualified name of one of our tables; before revision 0007 they were beside the views."""
    if (SCHEMA, table) in names:
        return f"{SCHEMA}.{table}"
    return table if (None, table) in names else None


def _state(held: SchemaVersion) -> State:
    known = revisions()
    if held.revision is None:
        return "none"
    if held.revision not in known:
        return "newer"
    return "current" if held.revision == known[-1] and held.views == (known[-1], held.own) else "old"


def _refuse_newer(engine: sa.Engine, revision: str | None) -> None:
    known = revisions()
    if revision is not None and revision not in known:
        raise SchemaTooNewError(
            f"{name_of(engine.url)} has schema {revision}, this program knows up to {known[-1]}",
            "upgrade anticaptcha-etl; nothing was changed",
        )


def _is_copy(held: SchemaVersion) -> bool:
    return held.revision is None and held.views is not None


def _refuse_copy(engine: sa.Engine, held: SchemaVersion) -> None:
    if _is_copy(held):
        raise WarehouseError(
            f"{name_of(engine.url)} is a published copy, which has only what its views read",
            "name the warehouse it was made from with --warehouse",
        )


def _refuse_strangers(engine: sa.Engine, connection: sa.Connection) -> None:
    names = {name for _, name in table_names(connection)}
    if clash := sorted(names & {table.name for table in metadata.tables.values()}):
        raise WarehouseError(
            f"{name_of(engine.url)} belongs to another program: it has no schema revision, but tables "
            f"{', '.join(clash)}",
            "choose another place with --warehouse",
        )
