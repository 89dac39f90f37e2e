"""Run data checks: those of ``sql/checks`` and the user's own. Each is a select of the rows that violate it.

A file is named after what should be true. Its leading comment says that in full, then ``severity: ...`` and ``remedy:
...``. A check selects ``account`` and, if its rows belong to one, ``day``; further columns are shown as they are.
``:now`` stands for the current time, a UTC timestamp without a zone. In checks of this program ``:since`` is the first
day to look at, and ``:accounts`` a list of account_ids.

A user's check may omit all of that: it is then a warning without a remedy, for every account.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

from etl.errors import AppError
from etl.models import Finding, Severity
from etl.warehouse import views
from etl.warehouse.package_files import folder
from etl.warehouse.reading import Reader, SqlError
from etl.warehouse.sql_guard import refusal

MAX_SHOWN = 5
"""Rows that a finding lists."""

MAX_ROWS = 1_000
"""Rows that are read of a check, so that a select of everything does not fill the memory."""

MAX_SECONDS = 60
"""Time limit of a user's check, so that a mistake in a join does not block every sync."""

_BATCH_SIZE = 1_000
_STOP_AGAIN_SECONDS = 0.1
_PLACEHOLDER = re.compile(
    r"""  (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' # a string with escapes
        | '[^']*' | "[^"]*"             # a string, a name; a doubled quote begins the next one
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | --[^\n]* | /\*.*?\*/
        | (?<![:\w]):(?P<name>now|since|accounts)\b
    """,
    re.VERBOSE | re.DOTALL,
)
_ACCOUNT_ID = "select account_id from internal.accounts where name = :name"
_NO_NESTED_LOOPS = "select set_config('enable_nestloop', 'off', true)"
"""PostgreSQL has no statistics about a new account. It then expects one row and chooses a nested loop: a check of half
a year took 35 seconds instead of 0.2 (measured)."""

Row = Mapping[str, object]


class Check(NamedTuple):
    """One file. ``name`` is the file's, with spaces; ``sentence`` is what should be true; ``hint`` may be empty."""

    name: str
    sentence: str
    severity: Severity
    hint: str
    sql: str


@dataclass(frozen=True, slots=True)
class CheckFailure:
    """A check that failed. ``message`` lists rows, or says why the check could not run.

    ``rows`` are at most ``MAX_ROWS``, newest day first; ``has_more`` says that there are others.
    """

    check: Check
    message: str
    rows: tuple[Row, ...] = ()
    has_more: bool = False

    @property
    def day(self) -> date | None:
        """The newest day among the rows."""
        return max((day for row in self.rows if (day := _day(row))), default=None)

    @property
    def finding(self) -> Finding:
        hint = f"; {self.check.hint}" if self.check.hint else ""
        message = f"check failed: {self.check.sentence}: {self.message}{hint}"
        return Finding(self.check.name, self.check.severity, message, self.day)


class CheckRun(NamedTuple):
    """Number of checks, and those that failed, in the order they ran."""

    number: int
    failures: tuple[CheckFailure, ...]


# ---------------------------------------------------------------- loading


def parse(name: str, sql: str) -> Check:
    """The check in a file. Raises KeyError or ValueError if its leading comment is incomplete."""
    sentence, fields = views.head(sql)
    return Check(name.replace("_", " "), sentence, Severity(fields["severity"]), fields["remedy"], sql)


def load() -> list[Check]:
    """The checks of this program, by name."""
    return [parse(file.stem, file.read_text("utf-8")) for file in sorted((folder("sql") / "checks").glob("*.sql"))]


def _parse_user_check(name: str, sql: str) -> Check:
    """Raises ValueError for an unknown severity."""
    sentence, fields = views.head(sql.lstrip())
    severity = fields.get("severity", Severity.WARNING)
    if severity not in list(Severity):
        raise ValueError(f"severity {severity!r} is none of {', '.join(Severity)}")
    name = name.replace("_", " ")
    return Check(name, sentence or name, Severity(severity), fields.get("remedy", ""), sql)


def _user_checks(checks_folder: Path) -> Iterator[Check | CheckFailure]:
    """The checks of the user's folder, by name; a failure in place of each that cannot be read."""
    try:
        files = sorted(file for file in checks_folder.iterdir() if file.suffix == ".sql" and file.name[0] != ".")
    except OSError as error:
        sentence, hint = f"{checks_folder} is a folder", "create it, or correct checks_folder"
        yield CheckFailure(Check("the checks folder is there", sentence, Severity.WARNING, hint, ""), str(error))
        return
    for file in files:
        try:
            yield _parse_user_check(file.stem, file.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:  # ValueError also if the text is not UTF-8
            yield _not_run(file.stem, error)


def _not_run(name: str, reason: object) -> CheckFailure:
    """A user's check that cannot run is only a warning, whatever its own severity."""
    sentence = "this check of the checks folder can be run"
    check = Check(name.replace("_", " "), sentence, Severity.WARNING, "fix its file", "")
    return CheckFailure(check, " ".join(str(reason).split()))


# ---------------------------------------------------------------- running


def run(reader: Reader, now: datetime, account: str | None = None, since: date = date.min) -> CheckRun:
    """Run the checks of this program on the rows of one account, or of all, from a day on."""
    if reader.engine == "postgresql":
        reader.rows(_NO_NESTED_LOOPS)
    account_id = next((row.account_id for row in reader.rows(_ACCOUNT_ID, name=account)), None)
    filled = (check._replace(sql=fill_in(check.sql, now, since, account_id)) for check in load())
    return _results([_run_check(reader, check, account) for check in filled])


def run_of_user(reader: Reader, now: datetime, account: str | None, checks_folder: Path) -> CheckRun:
    """Run the checks in a folder of the user.

    Their SQL is only limited to one statement that reads, so ``reader`` must be read-only and sealed. An error in it
    becomes a finding.
    """
    found = _user_checks(checks_folder)
    return _results(
        [one if isinstance(one, CheckFailure) else _run_user_check(reader, one, now, account) for one in found]
    )


def _results(results: Sequence[CheckFailure | None]) -> CheckRun:
    return CheckRun(len(results), tuple(failure for failure in results if failure))


def fill_in(sql: str, now: datetime, since: date = date.min, account_id: int | None = None) -> str:
    """Replace the placeholders outside strings and comments. ``account_id`` None: all accounts.

    With literals, because the engines write parameters differently.
    """
    values = {
        "now": f"timestamp '{now.astimezone(UTC).replace(tzinfo=None)}'",
        "since": f"date '{since}'",
        "accounts": "(select account_id from internal.accounts)" if account_id is None else f"({account_id})",
    }
    return _PLACEHOLDER.sub(lambda match: values[match["name"]] if match["name"] else match[0], sql)


def _run_user_check(reader: Reader, check: Check, now: datetime, account: str | None) -> CheckFailure | None:
    check = check._replace(sql=fill_in(check.sql, now))
    if reason := refusal(check.sql, reader):
        return _not_run(check.name, reason)
    failure: CheckFailure | None = None
    error_message: object = None
    with _time_limit(MAX_SECONDS, reader) as is_over:
        try:
            failure = _run_check(reader, check, account, is_over)
        except (SqlError, AppError) as error:
            error_message = error
    if is_over.is_set():
        error_message = f"it was stopped after {MAX_SECONDS:g} seconds"
    if error_message is None:
        return failure
    reader.recover()
    return _not_run(check.name, error_message)


@contextmanager
def _time_limit(seconds: float, reader: Reader) -> Iterator[threading.Event]:
    """Stop what the reader still does after some seconds, and set the event."""
    is_over, is_done = threading.Event(), threading.Event()

    def stop() -> None:
        wait = seconds
        while not is_done.wait(wait):
            is_over.set()
            reader.stop()
            wait = _STOP_AGAIN_SECONDS  # a stop between two statements stops neither

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield is_over
    finally:
        is_done.set()
        thread.join()  # otherwise it could stop the next query


def _run_check(
    reader: Reader, check: Check, account: str | None, is_over: threading.Event | None = None
) -> CheckFailure | None:
    """The failure if there are rows of the account. A row without an account belongs to every account.

    No more rows are requested once ``is_over``: a server does not notice a stop while it waits for the next request.
    """
    with reader.stream(check.sql) as result:
        batches = takewhile(lambda _: not (is_over and is_over.is_set()), result.batches(_BATCH_SIZE))
        rows = (dict(zip(result.columns, values, strict=True)) for batch in batches for values in batch)
        own = (row for row in rows if account is None or row.get("account") in (None, account))
        found = list(islice(own, MAX_ROWS + 1))
    if not found:
        return None
    has_more = len(found) > MAX_ROWS
    described = sorted(
        ((_describe(row, with_account=account is None), row) for row in found[:MAX_ROWS]),
        key=lambda pair: (-(_day(pair[1]) or date.min).toordinal(), pair[0]),
    )
    message = _list_rows([text for text, _ in described], has_more=has_more)
    return CheckFailure(check, message, tuple(row for _, row in described), has_more)


# ---------------------------------------------------------------- describing


def _list_rows(rows: Sequence[str], *, has_more: bool) -> str:
    count = f"more than {MAX_ROWS:,} rows" if has_more else f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    others = f" and {len(rows) - MAX_SHOWN:,} more" if len(rows) > MAX_SHOWN and not has_more else ""
    return f"{count}, {', '.join(rows[:MAX_SHOWN])}{others}"


def _describe(row: Row, *, with_account: bool) -> str:
    """The row's day, then its other columns in brackets."""
    day = _day(row)
    hidden = {*(() if day is None else ("day",)), *(() if with_account else ("account",))}
    values = ", ".join(f"{name} {_printable(value)}" for name, value in row.items() if name not in hidden)
    if day is None:
        return values
    return f"{day} ({values})" if values else str(day)


def _day(row: Row) -> date | None:
    day = row.get("day")
    if isinstance(day, datetime):
        return day.date()
    return day if isinstance(day, date) else None


def _printable(value: object) -> str:
    """A value in one line of text, without control characters of a terminal."""
    text = f"{value:f}" if isinstance(value, Decimal) else "null" if value is None else str(value)
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
