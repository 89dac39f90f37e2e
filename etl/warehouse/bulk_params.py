"""Rows as parameters: one text or list per column, which ``unnest`` turns back into rows.

In both engines this is hundreds of times faster than one statement per row, and a text is three times faster than a
list (measured).
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


def _is_joined(column: sa.Column[object]) -> bool:
    """True if the values of a column are sent as one text: no value is null or contains a comma."""
    return not column.nullable and not isinstance(column.type, (sa.LargeBinary, sa.Text))


def unnest_select(columns: Iterable[sa.Column[object]]) -> str:
    """A select that returns the rows of ``list_params``."""
    return "select " + ", ".join(
        f"unnest(cast({_value(column)} as {_ARRAY_TYPES[type(column.type)]})) as {column.name}" for column in columns
    )


def _value(column: sa.Column[object]) -> str:
    return f"string_to_array(:{column.name}, ',')" if _is_joined(column) else f":{column.name}"


def list_params(columns: Iterable[sa.Column[object]], rows: Iterable[Sequence[object]]) -> dict[str, object]:
    """The parameters of ``unnest_select``. There must be at least one row."""
    return {
        column.name: ",".join(map(str, values)) if _is_joined(column) else list(values)
        for column, values in zip(columns, zip(*rows, strict=True), strict=True)
    }
