"""Run read-only SQL and write the rows as a table, CSV, JSON, Parquet or an Excel workbook."""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from threading import Event, Timer
from typing import NamedTuple, TextIO, TypeVar

import duckdb

from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs.serialize import as_json, format_value, plain
from etl.warehouse import views
from etl.warehouse.duckdb import problem
from etl.warehouse.engine import open_warehouse
from etl.warehouse.reading import ConnectionReader, Reader, SqlError, open_for_reading
from etl.warehouse.sql_guard import READ_ONLY_HINT, refusal

BATCH_SIZE = 10_000
MAX_TERMINAL_ROWS = 1_000

_T = TypeVar("_T")


class Result(NamedTuple):
    """Column names and rows. Rows are fetched while they are read; the warehouse must still be open."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[object]]


@contextmanager
def run(
    url: str, sql: str, *, wait: float = 0.0, clock: Clock | None = None, max_seconds: float | None = None
) -> Iterator[Result]:
    """Run one statement that reads. The warehouse stays open, and locked for writers, until the block ends.

    Raises UsageError for SQL that is wrong or not allowed, or takes longer than ``max_seconds``; WarehouseError if the
    warehouse does not exist or stays locked for longer than ``wait`` seconds.
    """
    with open_for_reading(url, wait=wait, clock=clock) as reader:
        _require_read_only(reader, sql)
        with _time_limit(reader, max_seconds), _query_errors(), ExitStack() as stack:
            result = interruptible(reader, lambda: stack.enter_context(reader.stream(sql)))
            batches = iter(lambda: interruptible(reader, lambda: result.fetch(BATCH_SIZE)), [])
            yield Result(result.columns, (tuple(row) for batch in batches for row in batch))


@contextmanager
def _time_limit(reader: Reader, seconds: float | None) -> Iterator[None]:
    expired = Event()

    def stop() -> None:
        expired.set()
        reader.stop()

    timer = Timer(seconds or 0.0, stop)
    if seconds:
        timer.start()
    try:
        yield
    except UsageError as error:
        if expired.is_set():
            raise UsageError(f"the query took longer than {seconds:g} seconds", "ask for less") from error
        raise
    finally:
        timer.cancel()


def interruptible(reader: Reader, work: Callable[[], _T]) -> _T:
    """Run database work so that Ctrl-C ends it.

    Signal handlers do not run while the main thread is inside DuckDB, so a second thread does the work. psycopg
    handles signals itself.
    """
    if reader.engine != "duckdb":
        return work()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            while wait_for([future], timeout=0.1).not_done:  # the query may not have started yet
                reader.stop()
            raise


def _require_read_only(reader: Reader, sql: str) -> None:
    if reason := refusal(sql, reader):
        raise UsageError(reason, READ_ONLY_HINT)


_CURSOR_ERROR = re.compile(r'(?P<line>LINE 1: )(?P<added>DECLARE "\w+" CURSOR FOR )(?P<sql>.*\n)(?P<indent> *)\^')
"""PostgreSQL's error position for SQL that SQLAlchemy declared as a cursor."""


@contextmanager
def _query_errors() -> Iterator[None]:
    try:
        yield
    except SqlError as error:
        raise _query_error(str(error)) from error


def _query_error(reason: str) -> UsageError:
    reason = _CURSOR_ERROR.sub(lambda m: f"{m['line']}{m['sql']}{m['indent'][len(m['added']) :]}^", reason)
    names = ", ".join(view.name for view in views.public_views())
    return UsageError(f"the query failed: {reason}", f"views: {names}; information_schema.columns lists columns")


def write_csv(result: Result, file: TextIO, *, is_safe: bool = False) -> None:
    """Write a header and one line per row (RFC 4180 with line feeds); NULL is an empty field.

    ``is_safe``: texts that a spreadsheet would run as a formula get an apostrophe in front.
    """
    write = _format_safely if is_safe else format_value
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(map(write, result.columns))
    lines.writerows(map(write, row) for row in result.rows)


def _format_safely(value: object) -> str:
    """Characters as OWASP lists them for CSV injection."""
    text = format_value(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def write_json(result: Result, file: TextIO, *, decimals_as_text: bool = False) -> None:
    """Write one array with one object per line. Money is a number with all its digits, or a text.

    Raises UsageError if two columns have the same name: JSON readers would drop one.
    """
    if repeated := [name for name, count in Counter(result.columns).items() if count > 1]:
        raise UsageError(f"two columns are named {repeated[0]!r}", "rename one with AS, or use --format csv")
    file.write("[")
    rows = (dict(zip(result.columns, row, strict=True)) for row in result.rows)
    objects = map(as_json, map(plain, rows) if decimals_as_text else rows)
    file.writelines((",\n" if number else "\n") + text for number, text in enumerate(objects))
    file.write("\n]\n")


def write_table(result: Result, file: TextIO, width: int | None = None) -> None:
    """Write a table. ``width`` is that of the terminal, which gets 1,000 rows at most; None: all rows, full width."""
    rows = list(islice(result.rows, MAX_TERMINAL_ROWS if width else None))
    has_more = next(result.rows, None) is not None
    from etl.outputs.text_tables import format_rows  # noqa: PLC0415 - costs 20 ms, and CSV and JSON do without it

    text, is_short = format_rows(result.columns, rows, width)
    summary = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    if has_more:
        summary = f"first {len(rows):,} rows; --format csv shows all"
    elif is_short:
        summary += "; shortened, --format csv shows every digit"
    file.write(f"{text}({summary})\n")


def write_excel(url: str, sql: str, target: Path, *, wait: float, clock: Clock, mode: int) -> None:
    """Run one statement that reads and write its rows to a workbook; raises as ``write_parquet`` and ``write_workbook``
    do."""
    from etl.outputs import atomic  # noqa: PLC0415 - needed for files only
    from etl.outputs.workbook import Sheet, write_workbook  # noqa: PLC0415

    real = regular_file(target)
    with atomic.temporary_beside(real, clock, wait=wait) as folder:
        write_workbook([Sheet("query", lambda: run(url, sql, wait=wait, clock=clock))], folder / real.name)
        atomic.replace_with(folder / real.name, real, mode)


def regular_file(target: Path) -> Path:
    """The file to replace; a symbolic link is kept. Raises UsageError if there is no such folder, or no such file."""
    real = Path(os.path.realpath(target))
    if not real.parent.is_dir():
        raise UsageError(f"cannot write {target}: there is no folder {real.parent}", f"mkdir -p '{real.parent}'")
    if real.exists() and not real.is_file():
        raise UsageError(f"cannot write {target}: it is not a regular file", "choose another file with -o")
    return real


def write_parquet(
    url: str, sql: str, target: Path, *, wait: float = 0.0, clock: Clock | None = None, mode: int = 0o600
) -> None:
    """Run one statement that reads and write its rows to ``target`` atomically; a symbolic link is kept.

    Integers beyond 64 bits (sums of BIGINT) become DECIMAL(38, 0). Raises UsageError for SQL that is wrong or not
    allowed and for columns that Parquet cannot store; WarehouseError as ``run`` does, and if the disk is full.
    """
    from etl.outputs import atomic  # noqa: PLC0415 - needed for files only
    from etl.warehouse import parquet  # noqa: PLC0415

    real = regular_file(target)
    clock = clock or Clock()
    with (
        atomic.temporary_beside(real, clock, wait=wait) as folder,
        open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as connection,
        _query_errors(),
    ):
        reader = ConnectionReader(connection)
        _require_read_only(reader, sql)
        try:
            with reader.errors():
                interruptible(reader, lambda: parquet.write(connection, sql, folder / real.name))
        except duckdb.Error as error:
            raise problem(error, real.parent) or _query_error(str(error)) from error
        except ValueError as error:
            raise UsageError(str(error), "leave the column out, or cast it") from error
        atomic.replace_with(folder / real.name, real, mode)
