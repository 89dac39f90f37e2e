"""Write ``docs/reference/schemas.json``: the JSON Schema of what each command prints with ``--json``."""

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from etl.maintenance.alerting import AlertsResult
from etl.maintenance.effective_settings import EffectiveSetting
from etl.maintenance.probes import ProbeResult
from etl.maintenance.transfer import CopyResult
from etl.outputs.lake.push import Shipped
from etl.outputs.lake.status import LakeStatus
from etl.outputs.status import JSON_KEYS, Status
from etl.sync.replay import ReplayResult
from etl.sync.results import RequestPlan, SyncResult

FILE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "schemas.json"

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
OPTIONAL_TEXT: Schema = {"type": ["string", "null"]}
_SIMPLE: dict[object, Schema] = {
    str: TEXT,
    int: NUMBER,
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Decimal: {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    Path: TEXT,
    object: {},
    Any: {},
    type(None): {"type": "null"},
}


def schema_of(kind: Any, names: Mapping[str, str] = types.MappingProxyType({})) -> Schema:
    """The schema of a type of Python as ``etl.outputs.serialize.plain`` writes it."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, names) for one in arguments]}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1], names)}
    if origin is not None:  # tuples and lists of one type
        return array(schema_of(arguments[0], names))
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    own = [one.name for one in fields(kind)] if is_dataclass(kind) else list(kind._fields)
    hints = get_type_hints(kind)
    return record(**{names.get(name, name): schema_of(hints[name], names) for name in own})


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


ROWS: Schema = {"type": "object", "additionalProperties": NUMBER}
"""Number of rows by table or view."""

SYNC = schema_of(SyncResult)

OUTCOME = record(
    account=TEXT, exit_code=NUMBER, result={"anyOf": [SYNC, {"type": "null"}]}, error=OPTIONAL_TEXT, hint=OPTIONAL_TEXT
)

CHECK = record(
    warehouse=TEXT,
    now=_SIMPLE[datetime],
    account=OPTIONAL_TEXT,
    checks=NUMBER,
    findings=array(
        record(
            check=TEXT,
            severity=TEXT,
            sentence=TEXT,
            told=TEXT,
            remedy=TEXT,
            day={"anyOf": [_SIMPLE[date], {"type": "null"}]},
            rows=array({"type": "object"}),
            has_more={"type": "boolean"},
        )
    ),
)

DOCTOR = record(
    version=TEXT,
    now=_SIMPLE[datetime],
    exit_code=NUMBER,
    requests=NUMBER,
    advice=array(record(name=TEXT, state=TEXT, found=TEXT, remedy=TEXT, exit_code=NUMBER)),
    settings={"type": "object", "additionalProperties": record(value=TEXT, source=TEXT)},
    probes=array(schema_of(ProbeResult, {"dimension": "cut", "window_start": "date"})),
)

SCHEMAS: dict[str, Schema] = {
    "error": record(error=TEXT, hint=TEXT, exit_code=NUMBER),
    "alerts": schema_of(AlertsResult),
    "alerts --all": record(accounts=array(schema_of(AlertsResult)), failed=array(OUTCOME)),
    "check": CHECK,
    "completion": record(shell=TEXT, script=TEXT),
    "config show": array(schema_of(EffectiveSetting)),
    "doctor": DOCTOR,
    "export": record(path=TEXT, rows=ROWS),
    "init": record(
        config=TEXT,
        key_file=TEXT,
        account=TEXT,
        warehouse=TEXT,
        timezone=TEXT,
        plan=schema_of(RequestPlan),
        sync_exit_code={"type": ["integer", "null"]},
        scheduler=TEXT,
        schedule=TEXT,
    ),
    "lake optimize": record(lake=TEXT, joined=NUMBER, deleted=NUMBER),
    "lake push": record(lake=TEXT, **schema_of(Shipped)["properties"]),
    "lake status": schema_of(LakeStatus),
    "migrate": record(warehouse=TEXT, before=TEXT, after=TEXT),
    "plan": schema_of(RequestPlan),
    "plan --all": record(accounts=array(schema_of(RequestPlan)), failed=array(OUTCOME)),
    "publish": record(path=TEXT, bytes=NUMBER, rows=ROWS),
    "query": array({"type": "object"}),
    "query --list": array(record(name=TEXT, grain=TEXT)),
    "replay": schema_of(ReplayResult),
    "report": record(path=TEXT, bytes=NUMBER),
    "sandbox": record(url=TEXT, days=NUMBER),
    "status": schema_of(Status, JSON_KEYS),
    "sync": SYNC,
    "sync --all": record(exit_code=NUMBER, accounts=array(OUTCOME), not_started=array(TEXT)),
    "transfer": schema_of(CopyResult),
}
"""By command. ``demo`` prints those of sync, status and query, one after the other."""


def text() -> str:
    found = {name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **one} for name, one in SCHEMAS.items()}
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(one)}" for name, one in found.items()) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
