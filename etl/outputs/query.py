"""Read-only SQL over the warehouse, printed as a table, CSV or JSON, or written as Parquet."""

import csv
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import duckdb
import sqlalchemy as sa
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs import atomic
from etl.outputs.serialize import as_json, plain
from etl.warehouse import parquet, views
from etl.warehouse.duckdb import problem
from etl.warehouse.engine import open_warehouse
from etl.warehouse.sql_guard import ASK_ONE, gives_rows, refusal

_AT_ONCE = 10_000
TABLE_ROWS = 1_000
"""What a terminal table shows at most; it says so when there are more."""

Row = Sequence[object]


class Result(NamedTuple):
    """The answer to one statement. ``rows`` come as they are read and only while the warehouse is open."""

    columns: tuple[str, ...]
    rows: Iterator[Row]


@contextmanager
def run(url: str, sql: str, *, wait: float = 0.0, clock: Clock | None = None) -> Iterator[Result]:
    """Runs one reading statement; the warehouse stays open, and locked against writers, until the block ends.

    Nothing but the warehouse can be read and nothing can be written. Raises UsageError with the engine's words for SQL
    that is wrong or not allowed, WarehouseError for a warehouse that is not there or held for longer than ``wait`` seconds.
    """
    engine = open_warehouse(url, read_only=True, wait=wait, clock=clock)
    with engine.connect() as connection:
        if stop_reason := refusal(sql, connection.dialect.name):
            raise UsageError(stop_reason, ASK_ONE)
        try:
            options = {"stream_results": gives_rows(sql)}
            with _heeding_signals(connection), connection.execution_options(**options).exec_driver_sql(sql) as result:
                yield Result(tuple(result.keys()), (tuple(row) for part in result.partitions(_AT_ONCE) for row in part))
        except sa.exc.DBAPIError as error:
            raise _refused(str(error.orig)) from error


@contextmanager
def _heeding_signals(connection: sa.Connection) -> Iterator[None]:
    """A signal that Python listens to ends what the connection is at, be it endless: the handler waits until DuckDB is back.

    A server is waited for by Python itself, where signals are heard.
    """
    if connection.dialect.name != "duckdb" or threading.current_thread() is not threading.main_thread():
        yield  # no handler runs here
        return
    driver: Any = connection.connection.dbapi_connection
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signals: list[bytes] = []

    def interrupt() -> None:
        while number := os.read(heard, 1):
            signals.append(number)
            driver.interrupt()

    watch = threading.Thread(
        target=interrupt, daemon=True
    )  # a second signal may leave it waiting; the program ends all the same
    watch.start()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(told)
            watch.join()
            os.close(heard)
    except Exception as error:
        if signals:  # the handler may have run where DuckDB called Python, and what it raised is then words of an error
            raise KeyboardInterrupt from error
        raise


def _refused(stop_reason: str) -> UsageError:
    if "'pytz'" in stop_reason:  # DuckDB needs it to hand such a value to Python
        return UsageError("a time with a zone cannot be shown", "make it UTC without zone: (now() at time zone 'UTC')")
    said = _DECLARED.sub(
        lambda found: f"{found['line']}{found['sql']}{found['indent'][len(found['added']) :]}^", stop_reason
    )
    return UsageError(
        f"the query failed: {said}", f"views: {', '.join(view.name for view in views.shared())}; {_COLUMNS}"
    )


_COLUMNS = "information_schema.columns lists columns"
_DECLARED = re.compile(r'(?P<line>LINE 1: )(?P<added>DECLARE "\w+" CURSOR FOR )(?P<sql>.*\n)(?P<indent> *)\^')
"""How PostgreSQL shows the place of an error in SQL that was handed to it as a cursor's."""


# ---------------------------------------------------------------- printing


def write_csv(result: Result, to: TextIO) -> None:
    """A header and a line a row, RFC 4180 with line feeds; NULL is an empty field."""
    lines = csv.writer(to, lineterminator="\n")
    lines.writerow(result.columns)
    lines.writerows(map(plain, row) for row in result.rows)


def write_json(result: Result, to: TextIO) -> None:
    """One array, an object a line. Money is a number literal with all its digits: read it as a decimal, not as a float.

    Raises UsageError when two columns share a name, which JSON readers would silently make one.
    """
    if twice := [name for name, count in Counter(result.columns).items() if count > 1]:
        raise UsageError(
            f"two columns are named {twice[0]!r}", "name them apart with AS; --format csv takes them as they are"
        )
    to.write("[")
    objects = (as_json(dict(zip(result.columns, row, strict=True))) for row in result.rows)
    to.writelines((",\n" if number else "\n") + text for number, text in enumerate(objects))
    to.write("\n]\n")


def write_table(result: Result, to: TextIO, *, most: int | None = None) -> None:
    """A table as wide as it needs, of at most so many rows (None: all). Values are neither cut nor broken over lines."""
    rows = list(islice(result.rows, most))
    more = next(result.rows, None) is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(result.columns):
        table.add_column(
            _printable(name), justify="right" if _are_numbers(row[place] for row in rows) else "left", no_wrap=True
        )
    for row in rows:
        table.add_row(*(_printable(plain(value)) for value in row))
    drawn = StringIO()  # a console that writes to a closed pipe itself ends the program with 1
    console = Console(file=drawn, width=1_000_000, color_system=None)
    console.print(table, soft_wrap=True)
    shown = (
        f"the first {len(rows):,} rows; --format csv gives all"
        if more
        else f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    )
    console.print(f"({shown})", markup=False, highlight=False)
    to.write(drawn.getvalue())


def _are_numbers(values: Iterable[object]) -> bool:
    held = [value for value in values if value is not None]
    return bool(held) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in held
    )


def _printable(text: str) -> Text:
    """Text of others must not steer the terminal."""
    return Text("".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text))


# ---------------------------------------------------------------- parquet


def write_parquet(
    url: str, sql: str, target: Path, *, wait: float = 0.0, clock: Clock | None = None, mode: int = 0o600
) -> None:
    """Runs one reading statement and writes its rows to ``target``, of that ``mode``, which they replace once they are whole.
    A link stays.

    The statement itself reads nothing but the warehouse, as with ``run``. Whole numbers beyond 64 bits (sums of a BIGINT) are
    written as DECIMAL(38, 0). Raises UsageError for SQL that is wrong or not allowed and for columns that Parquet cannot
    hold, WarehouseError for a warehouse that is not there or held, and for a disk that does not take the file.
    """
    real = Path(os.path.realpath(target))
    if not real.parent.is_dir():
        raise UsageError(f"{target} cannot be written: there is no folder {real.parent}", f"mkdir -p '{real.parent}'")
    if real.exists() and not real.is_file():
        raise UsageError(
            f"{target} cannot be written: Parquet takes a file's place, and that is none", "give -o another place"
        )
    clock = clock or Clock()
    with (
        atomic.temporary_beside(real, clock, wait=wait) as draft,
        open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as on,
    ):
        if stop_reason := refusal(sql, on.dialect.name):
            raise UsageError(stop_reason, ASK_ONE)
        made = draft / real.name
        try:
            with _heeding_signals(on):
                parquet.write(on, sql, made)
        except sa.exc.DBAPIError as error:
            raise _refused(str(error.orig)) from error
        except duckdb.Error as error:
            raise problem(error, real.parent) or _refused(str(error)) from error
        except ValueError as error:
            raise UsageError(str(error), "leave it out, or cast it") from error
        atomic.replace_with(made, real, mode)
