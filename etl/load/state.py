"""The sync state of one account: what is stored of its days, and one row for every run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Connection, Engine, text

from etl.errors import WarehouseError
from etl.load import state_sql as sql
from etl.load.rebuild import Found, RebuiltDay, rebuild, series_keys
from etl.load.rows import Row, RunKey, insert, to_db_utc
from etl.load.stored import StoredStateReader
from etl.load.stored_account import Account
from etl.load.upsert import (
    Batch,
    CoverageRow,
    LoadCounts,
    PreparedBatch,
    commit_time,
    last_commit,
    write_days,
    write_findings,
)
from etl.models import DayState, Dimension, Finding, SeriesKey
from etl.warehouse import schema
from etl.warehouse.duckdb import RESTORE_HINT
from etl.warehouse.engine import name_of
from etl.warehouse.reading import ConnectionReader, Reader


class SyncStateStore(StoredStateReader):
    """Reads and writes the rows of one account. Between calls the warehouse is not locked."""

    def __init__(self, engine: Engine, account: Account, now: Callable[[], datetime]) -> None:
        super().__init__(account, self.reading)
        self._engine = engine
        self._now = now
        self._series: dict[SeriesKey, int] = {}
        self._last_commit: datetime | None = None
        self.last_run_passed = False
        """Whether the run before this one was by this version and passed its checks."""
        self._key = RunKey(account.account_id, 0)
        self._shared: Connection | None = None
        self._command = ""
        self._has_revisions = False
        self._is_ending = False

    # ---------------------------------------------------------------- connections

    @contextmanager
    def using(self, connection: Connection) -> Iterator[None]:
        """Use this connection inside the block: opening the warehouse costs more than a query."""
        before, self._shared = self._shared, connection
        try:
            yield
        finally:
            self._shared = before

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """The open warehouse. Inside the block, everything but ``commit`` uses the same connection."""
        if self._shared is not None:
            yield ConnectionReader(self._shared)
        else:
            with self._engine.connect() as connection, self.using(connection):
                yield ConnectionReader(connection)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Use one connection for the last commits, the checks and the end of the run.

        Inside the block, only one thread may use the store at a time.
        """
        with self.reading():
            self._is_ending = True
            yield

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._shared is not None:
            self._shared.commit()  # ends the transaction of earlier reads
            with self._shared.begin():
                yield self._shared
        else:
            with self._engine.begin() as connection:
                yield connection

    def _params(self, **params: object) -> dict[str, object]:
        return {"a": self.account.account_id, **params}

    # ---------------------------------------------------------------- writing

    @property
    def run(self) -> int:
        """The number of the run that was started; 0 before."""
        return self._key.run

    def rebuild(self, days: Sequence[RebuiltDay]) -> Found:
        """Correct the rows of some days in one transaction; return the differences."""
        with self._writing() as connection:
            new = self._new_series(series_keys(days))
            self._insert_series(connection, new)
            self._series |= new
            return rebuild(connection, self.account.account_id, days, self._series)

    def start_run(self, command: str, version: str, first: date, missing: Sequence[date]) -> int:
        """Insert the run's row, and those of missing days of a history that begins on ``first``.

        Returns the number of the next snapshot. Raises WarehouseError if snapshots or runs are missing or duplicated.
        """
        params = self._params(command=command, version=version, now=to_db_utc(self._now()), first=first)
        with self._writing() as connection:
            rows = connection.execute(text(sql.SERIES), params)
            self._series = {SeriesKey(Dimension(dimension), member): number for number, dimension, member in rows}
            run, snapshot, is_whole = connection.execute(text(sql.NEXT_NUMBERS), params).one()
            if not is_whole:
                raise WarehouseError(
                    f"{name_of(self._engine.url)} is inconsistent: account {self.account.name} has missing or "
                    "duplicate snapshots or runs, as when a restored file lies beside another file's .wal; "
                    "no requests were sent",
                    RESTORE_HINT,
                )
            self._last_commit = last_commit(connection, self.account.account_id)
            self._command = command
            self.last_run_passed = connection.execute(text(sql.LAST_RUN_PASSED), params).scalar_one()
            connection.execute(text(sql.INSERT_RUN), {**params, "run": run})
            connection.execute(text(sql.DELETE_MISSING), params)
            write_days(connection, self.account.account_id, [CoverageRow(DayState(day), "missing") for day in missing])
        self._key = RunKey(self.account.account_id, run)
        return int(snapshot)

    def add_spot_checks(self, days: Mapping[date, bool]) -> None:
        """Store which final days this run reads again, and whether each was drawn with equal chances."""
        if days:
            rows = [self._params(run=self.run, day=day, is_random=is_random) for day, is_random in days.items()]
            with self._writing() as connection:
                connection.execute(text(sql.INSERT_SPOT_CHECK), rows)

    def set_hour_offset(self, seconds: int) -> None:
        """Store how long after 00:00 UTC the account's days begin, and move the facts that are stored already."""
        with self._writing() as connection:
            connection.execute(text(sql.SET_HOUR_OFFSET), self._params(seconds=seconds))
            connection.execute(text(sql.MOVE_FACTS), self._params(seconds=seconds))
        self.account = replace(self.account, hour_offset_seconds=seconds)

    def add_balance(self, read_at: datetime, balance: Decimal, captcha_credits: int | None) -> None:
        """Store what was left on the account, in US dollars."""
        values = {"read_at": to_db_utc(read_at), "balance": balance, "credits": captcha_credits, "run": self.run}
        with self._writing() as connection:
            connection.execute(text(sql.INSERT_BALANCE), self._params(**values))

    def commit(self, batch: Batch) -> LoadCounts:
        """Commit facts and sync state in one transaction."""
        at = commit_time(self._now(), self._last_commit)
        new = self._new_series(batch.series_keys)
        series = self._series | new
        prepared = PreparedBatch(self._key, batch, series, at)
        with self._writing() if self._is_ending else self._engine.begin() as connection:
            self._insert_series(connection, new)
            counts = prepared.write(connection)
        self._series, self._last_commit = series, at
        self._has_revisions |= bool(batch.revisions)
        if batch.traits:
            self.account = replace(self.account, **batch.traits._asdict())
        return counts

    def prune_raw_responses(self, before: date) -> None:
        """Delete the responses of final days before a day, except those that other days use, and those of days with
        over-allocated hours, which are requested again."""
        with self._writing() as connection:
            connection.execute(text(sql.DELETE_RESPONSES), self._params(before=before))
            connection.execute(text(sql.SET_RESPONSES_SINCE), self._params(before=before))

    def finish_run(self, exit_code: int, results: Mapping[str, object], findings: Sequence[Finding]) -> int:
        """Close the run's row with ``results`` by column, and store its findings.

        Returns how many hours of queues changed.
        """
        with self._writing() as connection:
            params, changed = self._params(run=self.run), 0
            if self._has_revisions:
                changed = connection.execute(text(sql.HOURLY_VALUES_CHANGED), params).scalar_one()
            values = {
                "ended_at": to_db_utc(self._now()),
                "exit_code": exit_code,
                **results,
            }
            if self._command == "sync":
                values["hourly_values_changed"] = changed
            assignments = ", ".join(f"{column} = :{column}" for column in values)
            update = f"update internal.runs set {assignments} where account_id = :a and run = :run"
            connection.execute(text(update), params | values)
            connection.execute(text(sql.UPDATE_SPOT_CHECKS), params)
            write_findings(connection, self._key, findings, self._now())
            return changed

    def _new_series(self, series_keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
        """The numbers of the series that have none yet."""
        new = [series for series in dict.fromkeys(series_keys) if series not in self._series]
        first = max(self._series.values(), default=0) + 1
        return {series: number for number, series in enumerate(new, first)}

    def _insert_series(self, connection: Connection, new: Mapping[SeriesKey, int]) -> None:
        rows: list[Row] = [(number, series.dimension.value, series.member) for series, number in new.items()]
        insert(connection, schema.series, self.account.account_id, rows)
