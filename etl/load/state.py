"""The sync state of one account: what is stored of its days, and one row for every run."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from etl.errors import WarehouseError
from etl.hour_values import to_nanodollars
from etl.load import state_sql as sql
from etl.load import stored
from etl.load.accounts import Account
from etl.load.member_statuses import MemberStatusChange, load_member_statuses, load_unknown_name_behaviours
from etl.load.rebuild import Found, RebuiltDay, rebuild, series_keys
from etl.load.rows import Row, RunKey, from_db_utc, insert, to_db_utc
from etl.load.stored import Coverage, StoredSnapshot
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
from etl.models import DayState, Dimension, Fact, Finding, Measures, MemberStatus, SeriesKey, UnknownNameBehaviour
from etl.warehouse import schema
from etl.warehouse.duckdb import RESTORE_HINT
from etl.warehouse.engine import name_of


class SyncStateStore:
    """Reads and writes the rows of one account. Between calls the warehouse is not locked."""

    def __init__(self, engine: Engine, account: Account, now: Callable[[], datetime]) -> None:
        self.account = account
        self._engine = engine
        self._now = now
        self._series: dict[SeriesKey, int] = {}
        self._last_commit: datetime | None = None
        self.last_run_passed = False
        """Whether the run before this one was by this version and passed its checks."""
        self._key = RunKey(account.account_id, 0)
        self._shared: Connection | None = None
        self._command = ""
        self._hourly_values = 0
        """Rows of spending_hourly when the run started."""

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
    def _reading(self) -> Iterator[Connection]:
        if self._shared is not None:
            yield self._shared
        else:
            with self._engine.connect() as connection, self.using(connection):
                yield connection

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

    def _rows(self, statement: str, **params: object) -> Sequence[Any]:
        with self._reading() as connection:
            return connection.execute(text(statement), self._params(**params)).all()

    # ---------------------------------------------------------------- reading

    def coverage(self, dimensions: Collection[Dimension]) -> Coverage:
        """Every day that was requested, and the statuses of members.

        For final days it includes which queues were requested if they do not explain the day, and which members of
        ``dimensions`` in any case.
        """
        wanted = sorted(dimensions)
        with self._reading():
            rows = self._rows(sql.DAYS)
            current = {change.series: change for change in self.member_status_history()}
            requested: dict[date, dict[SeriesKey, datetime]] = defaultdict(dict)
            for day, dimension, member, at in self._rows(sql.REQUESTED_ON_FINAL_DAYS, dimensions=wanted):
                requested[day][SeriesKey(Dimension(dimension), member)] = from_db_utc(at)
            over_allocated = stored.dimensions_by_day(self._rows(sql.OVER_ALLOCATED))
            unattributed = stored.dimensions_by_day(
                self._rows(sql.UNATTRIBUTED, dimensions=wanted) if dimensions else ()
            )
        final = frozenset(row.day for row in rows if row.status == "final")
        pruned_before = self.account.raw_since or date.min
        return Coverage(
            known={
                row.day: stored.day_state(row, requested[row.day], unattributed[row.day], over_allocated[row.day])
                for row in rows
            },
            final=final,
            without_raw=frozenset(day for day in final if day < pruned_before and not over_allocated[day]),
            member_statuses={series: change.member_status for series, change in current.items()},
            trusted_by_user=frozenset(
                series
                for series, change in current.items()
                if change.member_status is MemberStatus.VERIFIED and change.snapshot is None
            ),
        )

    def snapshots(self, days: Iterable[date]) -> list[StoredSnapshot]:
        """All snapshots of some days with their responses, in the order of their numbers."""
        rows = self._rows(sql.SNAPSHOTS, days=sorted(days))
        return [stored.stored_snapshot(self.account.name, row) for row in rows]

    def facts(self, days: Iterable[date]) -> dict[date, list[Fact]]:
        """The facts of some days."""
        facts: dict[date, list[Fact]] = defaultdict(list)
        for day, dimension, member, hour_start, volume, money, number in self._rows(sql.FACTS, days=sorted(days)):
            series = SeriesKey(Dimension(dimension), member)
            facts[day].append(Fact(series, from_db_utc(hour_start), volume, to_nanodollars(money), number))
        return facts

    def spending(self, days: Iterable[date]) -> list[tuple[SeriesKey, date, Measures]]:
        """What members spent per day, on days around some days, in the order of days."""
        with self._reading():
            ranges = stored.activity_ranges(days)
            rows = [row for first, last in ranges for row in self._rows(sql.SPENDING, first=first, last=last)]
        return stored.daily_spending(rows)

    def last_spending(self) -> list[tuple[SeriesKey, date, Measures]]:
        """For each queue its last day with tasks that cost money, and what it spent on it."""
        return stored.daily_spending(self._rows(sql.LAST_SPENDING))

    def days_with_members(self, series_keys: Iterable[SeriesKey]) -> list[date]:
        """Days with a successful response for one of some members, newest first."""
        wanted = sorted(series_keys)
        dimensions, members = [series.dimension for series in wanted], [series.member for series in wanted]
        return [day for (day,) in self._rows(sql.DAYS_WITH_MEMBERS, dimensions=dimensions, members=members)]

    def member_status_history(self) -> list[MemberStatusChange]:
        """All changes of members' statuses, oldest first."""
        with self._reading() as connection:
            return load_member_statuses(connection, self.account.account_id)

    def unknown_name_behaviours(self) -> list[tuple[datetime, Dimension, UnknownNameBehaviour]]:
        """Each behaviour and the time since when it applies, oldest first."""
        with self._reading() as connection:
            return load_unknown_name_behaviours(connection, self.account.account_id)

    def statuses(self) -> dict[date, str | None]:
        """Days that were requested, with their status; None for a day that has facts and was never requested."""
        with self._reading():
            never_requested: dict[date, str | None] = {day: None for (day,) in self._rows(sql.DAYS_WITHOUT_COVERAGE)}
            return never_requested | {row.day: row.status for row in self._rows(sql.DAYS)}

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
            self._hourly_values = connection.execute(text(sql.HOURLY_VALUES), params).scalar_one()
            self.last_run_passed = connection.execute(text(sql.LAST_RUN_PASSED), params).scalar_one()
            connection.execute(text(sql.INSERT_RUN), {**params, "run": run})
            connection.execute(text(sql.DELETE_MISSING), params)
            write_days(connection, self.account.account_id, [CoverageRow(DayState(day), "missing") for day in missing])
        self._key = RunKey(self.account.account_id, run)
        return int(snapshot)

    def commit(self, batch: Batch) -> LoadCounts:
        """Commit facts and sync state in one transaction."""
        at = commit_time(self._now(), self._last_commit)
        new = self._new_series(batch.series_keys)
        series = self._series | new
        prepared = PreparedBatch(self._key, batch, series, at)
        with self._engine.begin() as connection:
            self._insert_series(connection, new)
            counts = prepared.write(connection)
        self._series, self._last_commit = series, at
        if batch.traits:
            self.account = replace(self.account, **batch.traits._asdict())
        return counts

    def prune_raw_responses(self, before: date) -> None:
        """Delete the responses of final days before a day, except those that other days use, and those of days with
        over-allocated hours, which are requested again."""
        with self._writing() as connection:
            connection.execute(text(sql.DELETE_RESPONSES), self._params(before=before))
            connection.execute(text(sql.SET_RESPONSES_SINCE), self._params(before=before))

    def finish_run(self, exit_code: int, results: Mapping[str, object], findings: Sequence[Finding]) -> tuple[int, int]:
        """Close the run's row with ``results`` by column, and store its findings.

        Returns by how many rows spending_hourly grew for this account, and how many hours of queues changed.
        """
        with self._engine.begin() as connection:
            params = self._params(run=self.run)
            new = connection.execute(text(sql.HOURLY_VALUES), params).scalar_one() - self._hourly_values
            changed = connection.execute(text(sql.HOURLY_VALUES_CHANGED), params).scalar_one()
            values = {
                "ended_at": to_db_utc(self._now()),
                "exit_code": exit_code,
                **results,
            }
            if self._command == "sync":
                values |= {"hourly_values_new": new, "hourly_values_changed": changed}
            assignments = ", ".join(f"{column} = :{column}" for column in values)
            update = f"update internal.runs set {assignments} where account_id = :a and run = :run"
            connection.execute(text(update), params | values)
            write_findings(connection, self._key, findings, self._now())
            return new, changed

    def _new_series(self, series_keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
        """The numbers of the series that have none yet."""
        new = [series for series in dict.fromkeys(series_keys) if series not in self._series]
        first = max(self._series.values(), default=0) + 1
        return {series: number for number, series in enumerate(new, first)}

    def _insert_series(self, connection: Connection, new: Mapping[SeriesKey, int]) -> None:
        rows: list[Row] = [(number, series.dimension.value, series.member) for series, number in new.items()]
        insert(connection, schema.series, self.account.account_id, rows)
