"""SQL of strangers: whether it only reads. What lets it read nothing but the warehouse is the sealed connection of ``engine``."""

import duckdb

ASK_ONE = "give one statement that reads: select, with, from, describe, show or explain"

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.RELATION}


def refusal(sql: str) -> str | None:
    """Why ``sql`` is not one statement that reads; None when it is."""
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
