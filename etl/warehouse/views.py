"""The views that analysts query, and their functions: dropped before a migration and created again after it.

A file of ``sql/views`` is one ``create view``. Its leading comment has the grain, then a line ``-- column: text`` for
each column; both become comments in the warehouse, where BI tools show them.
"""

import hashlib
import re
from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

from etl.warehouse import SCHEMA
from etl.warehouse.duckdb import quoted
from etl.warehouse.package_files import folder

if TYPE_CHECKING:
    import sqlalchemy as sa

MARKER = "warehouse_version"
"""A view of one row: the revision and the fingerprint of the views."""

_FIELD = re.compile(r"(\w+): (.+)")


class View(NamedTuple):
    """One file of ``sql/views``: ``comment`` is its grain, ``columns`` their comments by name, in order."""

    name: str
    sql: str
    comment: str
    columns: dict[str, str]

    @property
    def is_public(self) -> bool:
        """True if people query it: then it has the account's name. The others are for this program's checks."""
        return "account" in self.columns

    @property
    def qualified_name(self) -> str:
        return self.name if self.is_public else f"{SCHEMA}.{self.name}"


def parse(name: str, sql: str) -> View:
    return View(name, sql, *head(sql))


def head(sql: str) -> tuple[str, dict[str, str]]:
    """A file's leading comment: its first sentence, then its fields ``name: text``. Other lines continue the one
    before."""
    comment, fields = "", dict[str, str]()
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        text = line.removeprefix("--").strip()
        if field := _FIELD.fullmatch(text):
            fields[field[1]] = field[2]
        elif fields:
            last = next(reversed(fields))
            fields[last] = f"{fields[last]} {text}".strip()
        else:
            comment = f"{comment} {text}".strip()
    return comment, fields


def in_order(views: Sequence[View]) -> list[View]:
    """``views`` sorted so that each comes after those its SQL names."""
    by_name = {view.name: view for view in views}
    uses = {
        view.name: set(re.findall(r"\w+", re.sub(r"--.*", "", view.sql))) & by_name.keys() - {view.name}
        for view in views
    }
    return [by_name[name] for name in TopologicalSorter(uses).static_order()]


def load() -> list[View]:
    """The views of this program, each after those it uses."""
    files = sorted((folder("sql") / "views").glob("*.sql"))
    return in_order([parse(file.stem, file.read_text("utf-8")) for file in files])


def public_views() -> list[View]:
    """The views that people query, each after those it uses."""
    return [view for view in load() if view.is_public]


def functions(engine: str) -> dict[str, str]:
    """The functions that the views use, written for each engine in ``sql/functions/NAME.ENGINE.sql``."""
    files = sorted((folder("sql") / "functions").glob(f"*.{engine}.sql"))
    return {file.name.partition(".")[0]: file.read_text("utf-8") for file in files}


def fingerprint(engine: str) -> str:
    """A short text that changes whenever the text of a view or function does."""
    texts = [*functions(engine).values(), *(view.sql for view in load())]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def drop(connection: "sa.Connection") -> None:
    """Drop the views of this program; those of users stay."""
    names = [view.qualified_name for view in reversed(load())] + [f"{SCHEMA}.{MARKER}"]
    own_schema = "from information_schema.views where table_schema = current_schema()"
    is_old = f"select count(*) {own_schema} and table_name = '{MARKER}'"
    if connection.exec_driver_sql(is_old).scalar_one():  # before revision 0007 all views were in one schema
        names += [MARKER, "closed_days"]
    # PostgreSQL refuses if users' views depend on ours; with one statement its error names all of them.
    for dropped in [", ".join(names)] if connection.dialect.name == "postgresql" else names:
        connection.exec_driver_sql(f"drop view if exists {dropped}")
    for name, sql in reversed(functions(connection.dialect.name).items()):
        connection.exec_driver_sql(f"drop {_kind(sql)} if exists {name}")


def _kind(function: str) -> str:
    """What the engine calls this kind of function."""
    if "\ncreate function " in function:
        return "function"
    return "macro table" if re.search(r"\)\s+as\s+table\b", function) else "macro"


def rebuild(connection: "sa.Connection", revision: str, views: Sequence[View] | None = None) -> None:
    """Create the views (default: all) with their comments, and the marker of their revision."""
    drop(connection)
    engine = connection.dialect.name
    for sql in functions(engine).values():
        connection.exec_driver_sql(sql)
    for view in load() if views is None else views:
        connection.exec_driver_sql(view.sql)
        connection.exec_driver_sql(f"comment on view {view.qualified_name} is {quoted(view.comment)}")
        for column, comment in view.columns.items():
            connection.exec_driver_sql(f"comment on column {view.qualified_name}.{column} is {quoted(comment)}")
    connection.exec_driver_sql(
        f"create view {SCHEMA}.{MARKER} as select '{revision}' as revision, '{fingerprint(engine)}' as views"
    )
    connection.exec_driver_sql(
        f"comment on view {SCHEMA}.{MARKER} is 'one row: the tables'' revision and a fingerprint of the views'' text'"
    )
