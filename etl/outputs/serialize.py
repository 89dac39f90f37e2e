"""Database values as text, exact in every digit: shared by all that prints them."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from json.encoder import encode_basestring as _string
from math import isfinite
from typing import Any

_decimal = "{:f}".format


def _moment(value: datetime) -> str:
    return (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat() + "Z"


def plain(value: object) -> str:
    """A value as CSV and the terminal show it. NULL is empty; times are ISO 8601 in UTC, with a Z; bytes are hex."""
    return _PLAIN.get(type(value), str)(value)


def as_json(value: object) -> str:
    """A value as JSON. Money and big integers are number literals with all their digits; what JSON lacks is a string."""
    write = _JSON.get(type(value))
    return _string(plain(value)) if write is None else write(value)


_PLAIN: dict[type, Callable[[Any], str]] = {
    str: str,
    int: str,
    Decimal: _decimal,
    datetime: _moment,
    date: date.isoformat,
    type(None): lambda _: "",
    bool: lambda value: "true" if value else "false",
    bytes: bytes.hex,
    dict: as_json,
    list: as_json,
    tuple: as_json,
}

_JSON: dict[type, Callable[[Any], str]] = {
    str: _string,
    int: str,
    Decimal: lambda value: _decimal(value) if value.is_finite() else f'"{value}"',
    type(None): lambda _: "null",
    bool: _PLAIN[bool],
    float: lambda value: repr(value) if isfinite(value) else f'"{value}"',
    dict: lambda value: "{" + ", ".join(f"{_string(str(key))}: {as_json(item)}" for key, item in value.items()) + "}",
    list: lambda value: "[" + ", ".join(map(as_json, value)) + "]",
    tuple: lambda value: "[" + ", ".join(map(as_json, value)) + "]",
}
