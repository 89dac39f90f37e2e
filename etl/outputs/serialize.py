"""Database values as text, exact to the last digit."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring as _json_string
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

_format_decimal = "{:f}".format


def _timestamp(value: datetime) -> str:
    return (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat() + "Z"


def format_value(value: object) -> str:
    """A value for CSV and tables: NULL is empty, times are ISO 8601 in UTC with a Z, bytes are hex."""
    return _TEXT.get(type(value), str)(value)


def as_json(value: object) -> str:
    """A value as JSON. Numbers keep all their digits; values that JSON lacks become strings."""
    write = _JSON.get(type(value))
    return _json_string(format_value(value)) if write is None else write(value)


def plain(value: object, names: Mapping[str, str] = MappingProxyType({})) -> object:
    """What ``--json`` prints: records are objects, decimals are strings, so that no reader rounds them.

    ``names``: keys of fields that have another name in JSON.
    """
    match value:
        case Decimal():
            return _format_decimal(value)
        case Enum():
            return value.value
        case Path():
            return str(value)
        case Mapping():
            return {names.get(str(key), str(key)): plain(item, names) for key, item in value.items()}
        case tuple() if hasattr(value, "_asdict"):
            return plain(value._asdict(), names)
        case list() | tuple() | set() | frozenset():
            return [plain(item, names) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain({one.name: getattr(value, one.name) for one in fields(value)}, names)
    return value


def _json_list(items: list[object] | tuple[object, ...]) -> str:
    return "[" + ", ".join(map(as_json, items)) + "]"


_TEXT: dict[type, Callable[[Any], str]] = {
    str: str,
    int: str,
    Decimal: _format_decimal,
    datetime: _timestamp,
    date: date.isoformat,
    type(None): lambda _: "",
    bool: lambda value: "true" if value else "false",
    bytes: bytes.hex,
    dict: as_json,
    list: as_json,
    tuple: as_json,
}

_JSON: dict[type, Callable[[Any], str]] = {
    str: _json_string,
    int: str,
    Decimal: lambda value: _format_decimal(value) if value.is_finite() else f'"{value}"',
    type(None): lambda _: "null",
    bool: _TEXT[bool],
    float: lambda value: repr(value) if isfinite(value) else f'"{value}"',
    dict: lambda value: "{" + ", ".join(f"{_json_string(str(k))}: {as_json(v)}" for k, v in value.items()) + "}",
    list: _json_list,
    tuple: _json_list,
}
