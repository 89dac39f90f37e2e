"""Data checks: those of ``sql/checks``, each a select of the rows that violate it, and the user's own.

A file is named after what should be true. Its leading comment says that in full, then ``severity: ...`` and ``remedy:
...``. A check selects ``account`` and, if its rows belong to one, ``day``; further columns are shown as they are.
``:now`` stands for the current time, a UTC timestamp without a zone. Checks of this program also have ``:since``, the
first day to look at, and
``:accounts``, a list of account_ids.

A user's check may leave all of that out: it is then a warning without a remedy, for every account.
"""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from etl.errors import AppError
from etl.models import Finding, Severity
from etl.warehouse import engine, views
from etl.warehouse.package_files import folder
from etl.warehouse.sql_guard import gives_rows, refusal

MAX_SHOWN = 5
"""Rows that a finding lists."""

MAX_ROWS = 1_000
"""Rows that are read of a check, so that a select of everything does not fill the memory."""

MAX_SECONDS = 60
"""Seconds that a user's check may take, so that a mistake in a join does not hold up every sync."""

_BATCH_SIZE = 1_000
_STOP_AGAIN = 0.1
_GIVEN = re.compile(
    r"""  (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' # a text with escapes
        | '[^']*' | "[^"]*"             # a text, a name; a doubled quote begins the next one
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | --[^\n]* | /\*.*?\*/
        | (?<![:\w]):(?P<given>now|since|accounts)\b
    """,
    re.VERBOSE | re.DOTALL,
)

_NUMBER = "select account_id from internal.accounts where name = :name"

Row = Mapping[str, object]


class Check(NamedTuple):
    """One file. ``name`` is the file's, with spaces; ``sentence`` is what should be true; a user's check may have no
    ``hint``."""

    name: str
    sentence: str
    severity: Severity
    hint: str
    sql: str


@dataclass(frozen=True, slots=True)
class CheckFailure:
    """A check that failed. ``told`` names the rows, or says why it could not run; ``day`` is the newest day among them.

    ``rows`` are at most ``MAX_ROWS``, newest day first; ``has_more`` says that there are others.
    """

    check: Check
    told: str
    rows: tuple[Row, ...] = ()
    has_more: bool = False

    @property
    def day(self) -> date | None:
        return max((day for row in self.rows if (day := _day(row))), default=None)

    @property
    def finding(self) -> Finding:
        hint = f"; {self.check.hint}" if self.check.hint else ""
        message = f"check failed: {self.check.sentence}: {self.told}{hint}"
        return Finding(self.check.name, self.check.severity, message, self.day)


class CheckRun(NamedTuple):
    """Number of checks, and those that failed, in the order they ran."""

    number: int
    broken: tuple[CheckFailure, ...]


# ---------------------------------------------------------------- which


def parse(name: str, sql: str) -> Check:
    """The check in a file. Raises KeyError or ValueError if its head is incomplete."""
    sentence, said = views.head(sql)
    return Check(_words(name), sentence, Severity(said["severity"]), said["remedy"], sql)


def load() -> list[Check]:
    """The checks of this program, by name."""
    return [parse(file.stem, file.read_text("utf-8")) for file in sorted((folder("sql") / "checks").glob("*.sql"))]


def parse_own(name: str, sql: str) -> Check:
    """A user's check. Raises ValueError for an unknown severity."""
    sentence, said = views.head(sql.lstrip())
    severity = said.get("severity", Severity.WARNING)
    if severity not in list(Severity):
        raise ValueError(f"severity {severity!r} is none of {', '.join(Severity)}")
    return Check(_words(name), sentence or _words(name), Severity(severity), said.get("remedy", ""), sql)


def _own(place: Path) -> Iterator[Check | CheckFailure]:
    """The checks of the user's folder, in the order of their names; what cannot be read is told of in its place."""
    try:
        files = sorted(file for file in place.iterdir() if file.suffix == ".sql" and not file.name.startswith("."))
    except OSError as error:
        there = Check(
            "the checks folder is there", f"{place} is a folder", Severity.WARNING, "make it, or mend checks_folder", ""
        )
        yield CheckFailure(there, str(error))
        return
    for file in files:
        try:
            yield parse_own(file.stem, file.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:  # a text that is not UTF-8 is a ValueError too
            yield _not_run(file.stem, error)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _not_run(name: str, stop_reason: object) -> CheckFailure:
    """The user's own check could not be run, which is no more than a warning, however grave the check itself is."""
    can_be_run = Check(
        _words(name), "this check of the checks folder can be run", Severity.WARNING, "mend its file", ""
    )
    return CheckFailure(can_be_run, " ".join(str(stop_reason).split()))


# ---------------------------------------------------------------- running


def run(
    connection: sa.Connection,
    now: datetime,
    account: str | None = None,
    own: Path | None = None,
    since: date = date.min,
) -> CheckRun:
    """Runs every check on the rows of an account, or of all, from a day on.

    ``own`` is a folder of the user's SQL. That is guarded here against all but one statement that reads, and by
    nothing else:
    ``connection`` must be read-only and sealed. What is wrong with it becomes a finding, never an error.
    """
    engine.expect_many(connection)
    number = None if account is None else connection.execute(sa.text(_NUMBER), {"name": account}).scalar()
    found = [_look(connection, check._replace(sql=at(now, check.sql, since, number)), account) for check in load()]
    if own:
        found += [_look_with_care(connection, check, now, account) for check in _own(own)]
    return CheckRun(len(found), tuple(broken for broken in found if broken))


def _look_with_care(
    connection: sa.Connection, check: Check | CheckFailure, now: datetime, account: str | None
) -> CheckFailure | None:
    if isinstance(check, CheckFailure):
        return check
    told = check._replace(sql=at(now, check.sql))
    stop_reason: object = refusal(told.sql, connection.dialect.name)
    if stop_reason is not None:
        return _not_run(check.name, stop_reason)
    broken: CheckFailure | None = None
    with _stopped_after(MAX_SECONDS, connection) as stopped:
        try:
            broken = _look(connection, told, account, stopped)
        except (sa.exc.SQLAlchemyError, AppError) as error:
            stop_reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if stopped.is_set():
        stop_reason = f"it was stopped after {MAX_SECONDS:g} seconds"
    if stop_reason is None:
        return broken
    connection.rollback()
    return _not_run(check.name, stop_reason)


@contextmanager
def _stopped_after(seconds: float, connection: sa.Connection) -> Iterator[threading.Event]:
    """Makes what the connection still does after so many seconds fail; the event says that it did."""
    stopped, done = threading.Event(), threading.Event()

    def stop() -> None:
        patience = seconds
        while not done.wait(patience):
            stopped.set()
            engine.stop(connection)
            patience = _STOP_AGAIN  # a stop that comes between two statements stops neither

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield stopped
    finally:
        done.set()
        thread.join()  # so that the next query is not the one that is stopped


def _look(
    connection: sa.Connection, check: Check, account: str | None, stopped: threading.Event | None = None
) -> CheckFailure | None:
    """The check itself when rows of the account break it. A row that names no account is of each.

    A server that is stopped while it waits to be asked for more rows does not notice it: none are asked for then.
    """
    going_on = (lambda _: not stopped.is_set()) if stopped else bool
    with connection.exec_driver_sql(check.sql, execution_options={"stream_results": gives_rows(check.sql)}) as result:
        names = tuple(result.keys())
        parts = takewhile(going_on, result.partitions(_BATCH_SIZE))
        every = (dict(zip(names, row, strict=True)) for part in parts for row in part)
        concerning = (row for row in every if account is None or row.get("account") in (None, account))
        found = list(islice(concerning, MAX_ROWS + 1))
    if not found:
        return None
    rows = sorted(
        found[:MAX_ROWS],
        key=lambda row: (-(_day(row) or date.min).toordinal(), _told(row, names_account=account is None)),
    )
    has_more = len(found) > MAX_ROWS
    return CheckFailure(
        check, _summed_up(rows, has_more=has_more, names_account=account is None), tuple(rows), has_more
    )


def at(now: datetime, sql: str, since: date = date.min, number: int | None = None) -> str:
    """The SQL at a moment, from a day on, of one account or of all: as literals, since the engines do not agree on
    how a parameter is written.

    Texts and comments stay.
    """
    given = {
        "now": f"timestamp '{now.astimezone(UTC).replace(tzinfo=None)}'",
        "since": f"date '{since}'",
        "accounts": "(select account_id from internal.accounts)" if number is None else f"({number})",
    }
    return _GIVEN.sub(lambda found: given[found["given"]] if found["given"] else found[0], sql)


# ---------------------------------------------------------------- telling


def _summed_up(rows: Iterable[Row], *, has_more: bool, names_account: bool) -> str:
    said = [_told(row, names_account=names_account) for row in rows]
    counted = f"more than {MAX_ROWS:,} rows" if has_more else f"{len(said):,} row{'' if len(said) == 1 else 's'}"
    more = f" and {len(said) - MAX_SHOWN:,} more" if len(said) > MAX_SHOWN and not has_more else ""
    return f"{counted}, {', '.join(said[:MAX_SHOWN])}{more}"


def _told(row: Row, *, names_account: bool) -> str:
    """The row's day, and beside it what else the check selects."""
    day = _day(row)
    left_out = {*([] if day is None else ["day"]), *([] if names_account else ["account"])}
    temporary_beside = ", ".join(f"{name} {_plain(value)}" for name, value in row.items() if name not in left_out)
    return temporary_beside if day is None else f"{day} ({temporary_beside})" if temporary_beside else f"{day}"


def _day(row: Row) -> date | None:
    day = row.get("day")
    return day.date() if isinstance(day, datetime) else day if isinstance(day, date) else None


def _plain(value: object) -> str:
    """A value in one line of text that cannot steer a terminal."""
    text = f"{value:f}" if isinstance(value, Decimal) else "null" if value is None else str(value)
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
