"""Write a batch in one transaction: responses, snapshots, facts, revisions, rejections, statuses and coverage.

New facts are inserted; others are changed or deleted, and those that are unchanged are left as they are.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, text

from etl.hour_values import HOURS_PER_DAY, FactValues
from etl.load.member_statuses import write_member_statuses, write_unknown_name_behaviours
from etl.load.rows import (
    Row,
    RunKey,
    Statement,
    bulk_statement,
    columns_of,
    delete_days,
    execute,
    insert,
    insert_statement,
    names_of,
    to_db_utc,
    to_db_utc_or_none,
)
from etl.load.stored_account import AccountTraits
from etl.models import (
    DayState,
    Fact,
    Finding,
    MemberStatus,
    Revision,
    SeriesKey,
    Snapshot,
)
from etl.warehouse import schema
from etl.warehouse.bulk_params import unnest_select
from etl.warehouse.reading import from_db_utc_or_none
from etl.warehouse.upserts import Upsert


class CoverageRow(NamedTuple):
    """What is known of a day, and its status: failed, missing, open or final."""

    day_state: DayState
    status: str

    @property
    def columns(self) -> Row:
        """The row of ``day_coverage``."""
        state = self.day_state
        fetched_at = to_db_utc_or_none(state.total_requested_at)
        numbers = (*state.total, *state.unattributed)
        return state.day, self.status, fetched_at, *numbers, state.is_explained, state.is_closed


_DatedFacts = tuple[tuple[date, Fact], ...]
"""Facts, each with the day it counts towards."""


class NewFacts(NamedTuple):
    """The facts of a series on a day that had none of it."""

    day: date
    series: SeriesKey
    first_hour_start: datetime
    values: FactValues


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes. Facts and revisions come with the day they count towards, each key at most once.

    ``new_facts`` are those of series that have none on the day. ``over_allocations`` are hours whose members add up to
    more than the total, with the sum of the members, under the unattributed series. They replace the stored ones of
    ``over_allocated_days``.
    """

    snapshots: tuple[Snapshot, ...] = ()
    new_facts: tuple[NewFacts, ...] = ()
    changed_facts: _DatedFacts = ()
    revisions: tuple[tuple[date, Revision], ...] = ()
    days: tuple[CoverageRow, ...] = ()
    over_allocations: _DatedFacts = ()
    over_allocated_days: tuple[date, ...] = ()
    member_statuses: tuple[tuple[SeriesKey, MemberStatus, int | None], ...] = ()
    """Changes of a member's status, with the snapshot that decided each (None: the user did)."""
    traits: AccountTraits | None = None

    @property
    def series_keys(self) -> list[SeriesKey]:
        """The series of all rows, in the order they are met."""
        requested = [snapshot.window.series for snapshot in self.snapshots]
        facts = (*self.changed_facts, *self.over_allocations)
        return [*requested, *(new.series for new in self.new_facts), *(fact.series for _, fact in facts)]


class LoadCounts(NamedTuple):
    """Facts of totals and members that a commit inserted and changed; a deleted one counts as changed.

    Unattributed amounts are not counted, because they follow from the others.
    """

    inserted: int = 0
    changed: int = 0


class PreparedBatch:
    """A batch as statements. They are made before the warehouse is opened, which is then locked for a shorter time.

    ``series`` has the number of each series of the batch, ``at`` is the time of the commit.
    """

    def __init__(self, key: RunKey, batch: Batch, series: Mapping[SeriesKey, int], at: datetime) -> None:
        account_id, now = key.account_id, to_db_utc(at)
        self._account_id, self._batch, self._at = account_id, batch, at
        self._unattributed = {number for one, number in series.items() if one.is_unattributed}
        snapshots = [_snapshot_row(item, key.run, series, now) for item in batch.snapshots]
        revisions = [revision_row(item, day, series) for day, item in batch.revisions]
        rejections = [row for snapshot in batch.snapshots for row in rejection_rows(snapshot, series, at)]
        over_allocations = [fact_row(fact, day, series) for day, fact in batch.over_allocations]
        self._statements = [
            *bulk_statement(_INSERT_RESPONSES, account_id, _RESPONSE_COLUMNS, _response_rows(batch.snapshots)),
            *insert_statement(schema.snapshots, account_id, snapshots),
            *bulk_statement(_INSERT_REVISIONS, account_id, _REVISION_COLUMNS, revisions, now=now),  # before the facts
            *_insert_facts(account_id, batch.new_facts, series, now),
            *insert_statement(schema.rejections, account_id, rejections),
            *bulk_statement(_UPSERT_DAYS, account_id, _DAY_COLUMNS, [row.columns for row in batch.days]),
        ]
        deleted = [_fact_key(fact, series) for _, fact in batch.changed_facts if fact.is_delete]
        self._deletes = bulk_statement(_DELETE_FACTS, account_id, _FACT_KEY, deleted)
        changed = [_changed_row(fact, day, series) for day, fact in batch.changed_facts if not fact.is_delete]
        self._upserts = bulk_statement(_UPSERT_FACTS, account_id, _CHANGED_COLUMNS, changed, now=now)
        self._over_allocations = insert_statement(schema.over_allocated_hours, account_id, over_allocations)

    def write(self, connection: Connection) -> LoadCounts:
        """Write the batch in the transaction of ``connection``."""
        account_id, batch = self._account_id, self._batch
        execute(connection, self._statements)
        deleted = [number for (number,) in execute(connection, self._deletes) if number not in self._unattributed]
        upserted = [is_new for is_new, number in execute(connection, self._upserts) if number not in self._unattributed]
        if batch.over_allocated_days:
            delete_days(connection, schema.over_allocated_hours, account_id, batch.over_allocated_days)
        execute(connection, self._over_allocations)
        write_member_statuses(connection, account_id, batch.member_statuses, self._at)
        if batch.traits:
            _write_traits(connection, account_id, batch.traits, self._at)
        inserted = upserted.count(True)
        counted = (new.values[0] for new in batch.new_facts if not new.series.is_unattributed)
        new = sum(volume is not None for volumes in counted for volume in volumes)
        return LoadCounts(new + inserted, len(upserted) - inserted + len(deleted))


# ---------------------------------------------------------------- responses and snapshots

_RESPONSE_COLUMNS = columns_of(schema.responses)

_INSERT_RESPONSES = f"""
    insert into internal.responses (account_id, hash, body)
    select :a, b.hash, b.body
      from ({unnest_select(_RESPONSE_COLUMNS)}) as b
     where not exists (select 1 from internal.responses as r where r.account_id = :a and r.hash = b.hash)
"""


def _response_rows(snapshots: Iterable[Snapshot]) -> list[Row]:
    bodies = {
        _hash(snapshot.body): snapshot.compressed_body or compress(snapshot.body)
        for snapshot in snapshots
        if snapshot.status is not None
    }
    return list(bodies.items())


def _snapshot_row(snapshot: Snapshot, run: int, series: Mapping[SeriesKey, int], now: datetime) -> Row:
    window = snapshot.window
    key = snapshot.number, run, series[window.series], window.day
    times = to_db_utc(window.start), to_db_utc(window.end), to_db_utc(snapshot.requested_at), now
    body_hash = None if snapshot.status is None else _hash(snapshot.body)
    return *key, *times, snapshot.outcome.value, snapshot.code, snapshot.message, snapshot.status, body_hash


def compress(body: bytes) -> bytes:
    """A response body as the warehouse stores it."""
    return zlib.compress(body)


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def rejection_rows(snapshot: Snapshot, series: Mapping[SeriesKey, int], at: datetime) -> list[Row]:
    """The rows of ``rejections`` for a snapshot that was committed at ``at``."""
    key = snapshot.number, series[snapshot.window.series], snapshot.window.day
    return [
        (*key, to_db_utc_or_none(rejection.hour_start), rejection.reason, rejection.raw, to_db_utc(at))
        for rejection in snapshot.rejections
    ]


# ---------------------------------------------------------------- facts, and their values before

_NEW_FACT_COLUMNS = ("series_id", "day", "first_hour_start", "hours", "volumes", "nanodollars", "snapshots")

_INSERT_FACTS = """
    insert into internal.facts (account_id, series_id, day, hour_start, volume, money, snapshot_id, loaded_at)
    select :a, f.series_id, f.day, f.first_hour_start + f.hour * interval '1 hour', f.volume,
           cast(f.nanodollars * 0.000000001 as decimal(18, 9)), f.snapshot_id, :now
      from (select d.series_id, d.day, d.first_hour_start,
                   unnest(cast(string_to_array(d.hours, ' ')       as bigint[])) as hour,
                   unnest(cast(string_to_array(d.volumes, ' ')     as bigint[])) as volume,
                   unnest(cast(string_to_array(d.nanodollars, ' ') as bigint[])) as nanodollars,
                   unnest(cast(string_to_array(d.snapshots, ' ')   as bigint[])) as snapshot_id
              from (select unnest(cast(string_to_array(:series_id, ',')        as bigint[]))    as series_id,
                           unnest(cast(string_to_array(:day, ',')              as date[]))      as day,
                           unnest(cast(string_to_array(:first_hour_start, ',') as timestamp[])) as first_hour_start,
                           unnest(string_to_array(:hours, ','))       as hours,
                           unnest(string_to_array(:volumes, ','))     as volumes,
                           unnest(string_to_array(:nanodollars, ',')) as nanodollars,
                           unnest(string_to_array(:snapshots, ','))   as snapshots) as d) as f
"""
"""One row per series and day, whose hours are separated by spaces: half the work of one row per fact (measured)."""


def _insert_facts(
    account_id: int, facts: Iterable[NewFacts], series: Mapping[SeriesKey, int], now: datetime
) -> list[Statement]:
    columns: dict[str, list[str]] = {name: [] for name in _NEW_FACT_COLUMNS}
    for new in facts:
        hours = [hour for hour, volume in enumerate(new.values.volumes) if volume is not None]
        values = (
            new.values if len(hours) == HOURS_PER_DAY else ([column[hour] for hour in hours] for column in new.values)
        )
        row = str(series[new.series]), str(new.day), str(to_db_utc(new.first_hour_start))
        by_hour = (" ".join(map(str, column)) for column in (hours, *values))
        for column, text_ in zip(columns.values(), (*row, *by_hour), strict=True):
            column.append(text_)
    params = {name: ",".join(values) for name, values in columns.items()}
    return [Statement(_INSERT_FACTS, {"a": account_id, "now": now, **params})] if columns["day"] else []


_FACT_KEY = [column for column in schema.facts.primary_key.columns if column.name != "account_id"]

_DELETE_FACTS = f"""
    delete from internal.facts as f
     using ({unnest_select(_FACT_KEY)}) as b
     where f.account_id = :a and f.series_id = b.series_id and f.hour_start = b.hour_start
    returning f.series_id
"""

_CHANGED_COLUMNS: list[Column[Any]] = [
    column if column.name != "money" else Column("nanodollars", BigInteger, nullable=False)
    for column in columns_of(schema.facts)[:-1]
]

_UPSERT_FACTS = Upsert(
    table="internal.facts",
    rows=f"""
        select f.*, cast(f.nanodollars * 0.000000001 as decimal(18, 9)) as money, :now as loaded_at
          from ({unnest_select(_CHANGED_COLUMNS)}) as f
    """,
    key=("series_id", "hour_start"),
    values=("day", "volume", "money", "snapshot_id", "loaded_at"),
    compared=("volume", "money"),
    returning=("series_id",),
)


def _fact_key(fact: Fact, series: Mapping[SeriesKey, int]) -> Row:
    return series[fact.series], to_db_utc(fact.hour_start)


def _changed_row(fact: Fact, day: date, series: Mapping[SeriesKey, int]) -> Row:
    hour = series[fact.series], day, to_db_utc(fact.hour_start)
    return *hour, fact.volume, fact.nanodollars, fact.snapshot


def fact_row(fact: Fact, day: date, series: Mapping[SeriesKey, int]) -> Row:
    """A row of ``over_allocated_hours``, or of ``facts`` without its ``loaded_at``."""
    return series[fact.series], day, to_db_utc(fact.hour_start), fact.volume, fact.money, fact.snapshot


_REVISION_COLUMNS = columns_of(schema.revisions)[:-3]

_INSERT_REVISIONS = f"""
    insert into internal.revisions (account_id, {names_of(columns_of(schema.revisions))})
    select :a, b.*, f.loaded_at, f.snapshot_id, :now
      from ({unnest_select(_REVISION_COLUMNS)}) as b
      left join internal.facts as f
        on f.account_id = :a and f.series_id = b.series_id and f.hour_start = b.hour_start
"""


def revision_row(item: Revision, day: date, series: Mapping[SeriesKey, int]) -> Row:
    """A row of ``revisions`` without what it takes from the earlier value and the commit."""
    hour = series[item.series], day, to_db_utc(item.hour_start)
    return *hour, *item.before, *item.after, item.cause.value, item.snapshot


# ---------------------------------------------------------------- coverage

_DAY_COLUMNS = columns_of(schema.day_coverage)

_UPSERT_DAYS = Upsert(
    table="internal.day_coverage",
    rows=unnest_select(_DAY_COLUMNS),
    key=("day",),
    values=tuple(column.name for column in _DAY_COLUMNS[1:]),
)


def write_days(connection: Connection, account_id: int, days: Sequence[CoverageRow]) -> None:
    """Insert or update the coverage of days; each day at most once."""
    execute(connection, bulk_statement(_UPSERT_DAYS, account_id, _DAY_COLUMNS, [row.columns for row in days]))


_UPDATE_TRAITS = """
    update internal.accounts
       set hour_offset_seconds = :hour_offset_seconds, full_day_from_snapshot = :full_day_from_snapshot
     where account_id = :a
"""


def _write_traits(connection: Connection, account_id: int, traits: AccountTraits, at: datetime) -> None:
    connection.execute(text(_UPDATE_TRAITS), {"a": account_id, **traits._asdict()})
    write_unknown_name_behaviours(connection, account_id, traits.unknown_name_behaviours, at)


# ---------------------------------------------------------------- commits and findings

_LAST_COMMIT = """
    select greatest((select max(committed_at) from internal.snapshots               where account_id = :a),
                    (select max(seen_at)      from internal.revisions               where account_id = :a),
                    (select max(valid_from)   from internal.member_statuses         where account_id = :a),
                    (select max(valid_from)   from internal.unknown_name_behaviours where account_id = :a))
"""


def last_commit(connection: Connection, account_id: int) -> datetime | None:
    """When the account's newest rows were committed; None before the first commit."""
    return from_db_utc_or_none(connection.execute(text(_LAST_COMMIT), {"a": account_id}).scalar_one())


def commit_time(now: datetime, last: datetime | None) -> datetime:
    """The time of a commit made now: always later than the last commit, even if the clock was set back."""
    return now if last is None else max(now, last + timedelta(microseconds=1))


def write_findings(connection: Connection, key: RunKey, findings: Sequence[Finding], at: datetime) -> None:
    rows: list[Row] = [
        (key.run, item.check, item.severity.value, item.day, item.queue, item.message, to_db_utc(at))
        for item in findings
    ]
    insert(connection, schema.findings, key.account_id, rows)
