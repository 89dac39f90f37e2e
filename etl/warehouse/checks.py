"""What must hold of the numbers: the checks of ``sql/checks``, each a select of the rows that break it.

A file is named as the sentence that should hold. Its leading comment says that sentence in full, then ``severity: ...``
and ``remedy: ...``. Every check selects ``account`` and, where a row is of one, ``day``; other columns are shown as they are.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from etl.records import Finding, Severity
from etl.warehouse import views
from etl.warehouse.resources import folder

SHOWN = 5
"""Rows that a finding spells out."""


class Check(NamedTuple):
    """One file of ``sql/checks``: ``name`` is the file's, in words."""

    name: str
    sentence: str
    severity: Severity
    remedy: str
    sql: str


def parse(name: str, sql: str) -> Check:
    """The check of a file's text. Raises KeyError or ValueError when its head lacks something."""
    sentence, said = views.head(sql)
    return Check(name.replace("_", " "), sentence, Severity(said["severity"]), said["remedy"], sql)


def load() -> list[Check]:
    """The checks of this program, in the order of their names."""
    return [parse(file.stem, file.read_text("utf-8")) for file in sorted((folder("sql") / "checks").glob("*.sql"))]


def run(connection: sa.Connection, account: str | None = None) -> list[Finding]:
    """A finding for each check that does not hold for an account, or for any of them."""
    findings = []
    for check in load():
        rows = connection.exec_driver_sql(check.sql).mappings().all()
        if found := [row for row in rows if account in (None, row["account"])]:
            findings.append(_finding(check, found, names_account=account is None))
    return findings


def _finding(check: Check, rows: Sequence[Mapping[Any, Any]], *, names_account: bool) -> Finding:
    said = sorted((-(row.get("day") or date.min).toordinal(), _words(row, names_account=names_account)) for row in rows)
    shown = ", ".join(words for _, words in said[:SHOWN])
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    counted = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    message = f"it does not hold that {check.sentence}: {counted}, {shown}{more}; {check.remedy}"
    return Finding(check.name, check.severity, message, max((day for row in rows if (day := row.get("day"))), default=None))


def _words(row: Mapping[Any, Any], *, names_account: bool) -> str:
    """The row's day, and beside it what else the check selects."""
    left_out = {"day"} if names_account else {"day", "account"}
    beside = ", ".join(f"{name} {_plain(value)}" for name, value in row.items() if name not in left_out)
    day = row.get("day")
    return beside if day is None else f"{day} ({beside})" if beside else f"{day}"


def _plain(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
