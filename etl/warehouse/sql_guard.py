"""SQL of strangers: whether it only reads. What lets it read nothing but the warehouse is the sealed connection of
``engine``."""

import re

import duckdb

ASK_ONE = "give one statement that reads: select, with, from, describe, show or explain"

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.RELATION}

_FIRST = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*(?P<word>\w*)", re.DOTALL)
_ROWS = {"select", "with", "values", "table"}
_WORDS = {*_ROWS, "show", "explain"}


def refusal(sql: str, engine: str) -> str | None:
    """Why ``sql`` is not one statement that reads; None when it is.

    A PostgreSQL server says itself when there is more than one, or when one writes all the same.
    """
    if engine == "postgresql":
        word = _first_word(sql)
        return None if word in _WORDS else f"a query only reads: {word.upper() or 'nothing'} is refused"
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        return f"the query failed: {error}"
    if len(statements) != 1:
        return f"{len(statements)} statements were given"
    try:
        kind = statements[0].type
    except ValueError:  # of a kind that DuckDB knows and its Python does not
        return "a query only reads"
    return None if kind in _READING else f"a query only reads: {kind.name} is refused"


def gives_rows(sql: str) -> bool:
    """Whether a server can hand over the answer in parts, as it does for what is declared a cursor."""
    return _first_word(sql) in _ROWS


def _first_word(sql: str) -> str:
    found = _FIRST.match(sql)
    return found["word"].lower() if found else ""
