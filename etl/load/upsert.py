"""Write a batch in one transaction: responses, snapshots, facts, revisions, rejections, statuses and coverage.

Rows are sent as lists. One MERGE tells new, changed and unchanged facts apart; an unchanged fact is not written.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Column, Connection, text

from etl.load.member_statuses import write_member_statuses, write_unknown_name_behaviours
from etl.load.rows import (
    Row,
    RunKey,
    columns_of,
    delete_days,
    from_db_utc_or_none,
    insert,
    names_of,
    to_db_utc,
    to_db_utc_or_none,
)
from etl.models import (
    DayState,
    Dimension,
    Fact,
    Finding,
    MemberStatus,
    Revision,
    SeriesKey,
    Snapshot,
    UnknownNameBehaviour,
)
from etl.warehouse import schema
from etl.warehouse.bulk_params import list_params, unnest_select
from etl.warehouse.engine import merge_action


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


class AccountTraits(NamedTuple):
    """What the first snapshots show about an account.

    ``hour_offset_seconds``: seconds past the full hour at which its hours begin. ``full_day_from_snapshot``: the
    first snapshot of a total that had a record for the last hour of its day.
    """

    hour_offset_seconds: int | None = None
    full_day_from_snapshot: int | None = None
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = {}


_DatedFacts = tuple[tuple[date, Fact], ...]
"""Facts, each with the day it counts towards."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes. Facts and revisions come with the day they count towards, each key at most once.

    ``over_allocations`` are hours whose members add up to more than the total, with the sum of the members, under the
    unattributed series. They replace the stored ones of the days ``is_over_allocated``.
    """

    snapshots: tuple[Snapshot, ...] = ()
    facts: _DatedFacts = ()
    revisions: tuple[tuple[date, Revision], ...] = ()
    days: tuple[CoverageRow, ...] = ()
    over_allocations: _DatedFacts = ()
    is_over_allocated: tuple[date, ...] = ()
    member_statuses: tuple[tuple[SeriesKey, MemberStatus, int | None], ...] = ()
    """Changes of a member's status, with the snapshot that decided each (None: the user did)."""
    learned: AccountTraits | None = None

    @property
    def series_keys(self) -> list[SeriesKey]:
        """The series of all rows, in the order they are met."""
        requested = [snapshot.window.series for snapshot in self.snapshots]
        return [*requested, *(fact.series for _, fact in (*self.facts, *self.over_allocations))]


class LoadCounts(NamedTuple):
    """Facts of totals and members that a commit inserted and changed; a deleted one counts as changed.

    Unattributed amounts are not counted, because they follow from the others.
    """

    inserted: int = 0
    changed: int = 0


def write(
    connection: Connection, key: RunKey, batch: Batch, series: Mapping[SeriesKey, int], at: datetime
) -> LoadCounts:
    """Write a batch in the transaction of ``connection``; ``series`` has the number of each of its series."""
    account_id, now = key.account_id, to_db_utc(at)
    _insert_responses(connection, account_id, batch.snapshots)
    snapshots = [_snapshot_row(item, key.run, series, now) for item in batch.snapshots]
    insert(connection, schema.snapshots, account_id, snapshots)
    _insert_revisions(connection, account_id, [revision_row(item, day, series) for day, item in batch.revisions], now)
    counts = _merge_facts(connection, account_id, batch.facts, series, now)
    rejections = [row for snapshot in batch.snapshots for row in rejection_rows(snapshot, series, at)]
    insert(connection, schema.rejections, account_id, rejections)
    write_days(connection, account_id, batch.days)
    if batch.is_over_allocated:
        delete_days(connection, schema.over_allocated_hours, account_id, batch.is_over_allocated)
    hours = [fact_row(fact, day, series) for day, fact in batch.over_allocations]
    insert(connection, schema.over_allocated_hours, account_id, hours)
    write_member_statuses(connection, account_id, batch.member_statuses, at)
    if batch.learned:
        _write_traits(connection, account_id, batch.learned, at)
    return counts


# ---------------------------------------------------------------- responses and snapshots

_INSERT_RESPONSES = f"""
    insert into internal.responses (account_id, hash, body)
    select :account_id, b.hash, b.body
      from ({unnest_select(columns_of(schema.responses))}) as b
     where not exists (select 1 from internal.responses as r where r.account_id = :account_id and r.hash = b.hash)
"""


def _insert_responses(connection: Connection, account_id: int, snapshots: Iterable[Snapshot]) -> None:
    bodies = {
        _hash(snapshot.body): snapshot.compressed_body or compress(snapshot.body)
        for snapshot in snapshots
        if snapshot.status is not None
    }
    if bodies:
        params = list_params(columns_of(schema.responses), bodies.items())
        connection.execute(text(_INSERT_RESPONSES), {"account_id": account_id, **params})


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

_FACT_COLUMNS: list[Column[Any]] = [*columns_of(schema.facts)[:-1], Column("is_delete", Boolean)]

_MERGE_FACTS = f"""
    merge into internal.facts as f
    using ({unnest_select(_FACT_COLUMNS)}) as b
       on f.account_id = :account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
    when matched and b.is_delete then delete
    when matched and (f.volume <> b.volume or f.money <> b.money)
         then update set volume = b.volume, money = b.money, snapshot_id = b.snapshot_id, loaded_at = :now
    when not matched and not b.is_delete
         then insert (account_id, series_id, day, hour_start, volume, money, snapshot_id, loaded_at)
              values (:account_id, b.series_id, b.day, b.hour_start, b.volume, b.money, b.snapshot_id, :now)
    returning %s, f.series_id
"""


def _merge_facts(
    connection: Connection, account_id: int, facts: _DatedFacts, series: Mapping[SeriesKey, int], now: datetime
) -> LoadCounts:
    if not facts:
        return LoadCounts()
    rows = [(*fact_row(fact, day, series), fact.is_delete) for day, fact in facts]
    params = {"account_id": account_id, "now": now, **list_params(_FACT_COLUMNS, rows)}
    done = connection.execute(text(_MERGE_FACTS % merge_action(connection)), params).all()
    unattributed = {number for key, number in series.items() if key.is_unattributed}
    actions = [action for action, number in done if number not in unattributed]
    inserted = actions.count("INSERT")
    return LoadCounts(inserted, len(actions) - inserted)


def fact_row(fact: Fact, day: date, series: Mapping[SeriesKey, int]) -> Row:
    """A row of ``over_allocated_hours``, or of ``facts`` without its ``loaded_at``."""
    return series[fact.series], day, to_db_utc(fact.hour_start), fact.volume, fact.money, fact.snapshot


_REVISION_COLUMNS = columns_of(schema.revisions)[:-3]

_INSERT_REVISIONS = f"""
    insert into internal.revisions (account_id, {names_of(columns_of(schema.revisions))})
    select :account_id, b.*, f.loaded_at, f.snapshot_id, :now
      from ({unnest_select(_REVISION_COLUMNS)}) as b
      left join internal.facts as f
        on f.account_id = :account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
"""


def _insert_revisions(connection: Connection, account_id: int, rows: Sequence[Row], now: datetime) -> None:
    """Before the facts are merged, because time and snapshot of the earlier values are read from them."""
    if rows:
        params = {"account_id": account_id, "now": now, **list_params(_REVISION_COLUMNS, rows)}
        connection.execute(text(_INSERT_REVISIONS), params)


def revision_row(item: Revision, day: date, series: Mapping[SeriesKey, int]) -> Row:
    """A row of ``revisions`` without what it takes from the earlier value and the commit."""
    hour = series[item.series], day, to_db_utc(item.hour_start)
    return *hour, *item.before, *item.after, item.cause.value, item.snapshot


# ---------------------------------------------------------------- coverage

_DAY_COLUMNS = columns_of(schema.day_coverage)

_MERGE_DAYS = f"""
    merge into internal.day_coverage as d
    using ({unnest_select(_DAY_COLUMNS)}) as b
       on d.account_id = :account_id and d.day = b.day
    when matched then update set {", ".join(f"{column.name} = b.{column.name}" for column in _DAY_COLUMNS[1:])}
    when not matched then insert (account_id, {names_of(_DAY_COLUMNS)})
         values (:account_id, {", ".join(f"b.{column.name}" for column in _DAY_COLUMNS)})
"""


def write_days(connection: Connection, account_id: int, days: Sequence[CoverageRow]) -> None:
    """Insert or update the coverage of days; each day at most once."""
    if days:
        params = list_params(_DAY_COLUMNS, [row.columns for row in days])
        connection.execute(text(_MERGE_DAYS), {"account_id": account_id, **params})


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
