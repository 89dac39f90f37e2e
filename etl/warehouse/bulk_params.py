"""Rows as parameters: one list per column, which ``unnest`` turns back into rows.

In both engines this is hundreds of times faster than one statement per row (measured).
"""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

_ARRAY_TYPES: dict[type[object], str] = {
    sa.BigInteger: "bigint[]",
    sa.Boolean: "boolean[]",
    sa.Date: "date[]",
    sa.DateTime: "timestamp[]",
    sa.Integer: "bigint[]",
    sa.LargeBinary: "bytea[]",
    sa.Numeric: "decimal(18,9)[]",
    sa.Text: "text[]",
}


def unnest_select(columns: Iterable[sa.Column[object]]) -> str:
    """A select that returns the rows of ``list_params``."""
    return "select " + ", ".join(
        f"unnest(cast(:{column.name} as {_ARRAY_TYPES[type(column.type)]})) as {column.name}" for column in columns
    )


def list_params(columns: Iterable[sa.Column[object]], rows: Iterable[Sequence[object]]) -> dict[str, list[object]]:
    """The parameters of ``unnest_select``. There must be at least one row."""
    return {column.name: list(values) for column, values in zip(columns, zip(*rows, strict=True), strict=True)}
