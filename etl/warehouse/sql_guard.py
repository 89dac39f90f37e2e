"""Tell whether users' SQL only reads. A reader's sealed connection keeps it inside the warehouse."""

import re
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from etl.warehouse.reading import Reader

READ_ONLY_HINT = "use one statement that reads: SELECT, WITH, FROM, DESCRIBE, SHOW or EXPLAIN"

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.RELATION}

_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*(\w*)", re.DOTALL)
_ROWS = {"select", "with", "values", "table"}
_ALLOWED_ON_SERVER = {*_ROWS, "show", "explain"}


def refusal(sql: str, reader: "Reader") -> str | None:
    """Why ``sql`` is not one statement that reads; None if it is.

    On PostgreSQL the server itself refuses several statements, and those that write in spite of their first word.
    """
    if reader.engine == "postgresql":
        word = _first_word(sql)
        return None if word in _ALLOWED_ON_SERVER else _not_allowed(word.upper() or "an empty query")
    try:
        statements = reader.driver.extract_statements(sql)
    except duckdb.Error as error:
        return f"the query failed: {error}"
    if not statements:
        return "the SQL is empty"
    if len(statements) != 1:
        return f"expected one statement, got {len(statements)}"
    try:
        kind = statements[0].type
    except ValueError:  # DuckDB has kinds that its Python package does not know
        return _not_allowed("this statement")
    return None if kind in _READING else _not_allowed(kind.name)


def _not_allowed(what: str) -> str:
    return f"{what} is not allowed; queries are read-only"


def gives_rows(sql: str) -> bool:
    """True if a server can return the rows in parts, as it does for statements that a cursor can be declared for."""
    return _first_word(sql) in _ROWS


def _first_word(sql: str) -> str:
    match = _FIRST_WORD.match(sql)
    return match[1].lower() if match else ""
