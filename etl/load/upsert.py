"""One transaction for answers, readings, facts, revisions, rejections, beliefs and coverage: all of a commit, or none of it.

Rows travel as lists; one MERGE tells new, changed and unchanged facts apart, and an unchanged fact is not written.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from etl.models import (
    DayState,
    Dimension,
    Fact,
    Finding,
    MemberStatus,
    Revision,
    SeriesKey,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
)
from etl.warehouse.bulk_params import lists, unnested
from etl.warehouse.engine import merge_action


class CoverageRow(NamedTuple):
    """Coverage of one day: its verdict and status (failed, missing, open or final)."""

    day_state: DayState
    status: str

    @property
    def columns(self) -> tuple[object, ...]:
        """The row, in the order of its table's columns."""
        day_state = self.day_state
        fetched_at = None if day_state.total_requested_at is None else to_db_utc(day_state.total_requested_at)
        return (
            day_state.day,
            self.status,
            fetched_at,
            *day_state.total,
            *day_state.unattributed,
            day_state.is_explained,
            day_state.is_closed,
        )


class AccountTraits(NamedTuple):
    """What an account's first readings show: its grid, the first of them that held the last hour of the day asked for, and
    what a member of each cut that cannot exist gives."""

    grid: int | None = None
    reaches_end: int | None = None
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = {}


@dataclass(frozen=True, slots=True)
class Batch:
    """What is loaded together. ``facts`` and ``revisions`` come with the day they are booked on, each key at most once.

    ``over_allocations`` are the hours in which a cut's members exceed the total, under the cut's rest: what those members say
    together. They take the place of all that are held of the days ``is_over_allocated``.
    """

    snapshots: tuple[Snapshot, ...] = ()
    facts: tuple[tuple[date, Fact], ...] = ()
    revisions: tuple[tuple[date, Revision], ...] = ()
    days: tuple[CoverageRow, ...] = ()
    over_allocations: tuple[tuple[date, Fact], ...] = ()
    is_over_allocated: tuple[date, ...] = ()
    member_statuses: tuple[tuple[SeriesKey, MemberStatus, int | None], ...] = ()
    """A dimension's member, what is thought of it from now on, and the snapshot that decided it (None: the user did)."""
    learned: AccountTraits | None = None

    @property
    def series_keys(self) -> list[SeriesKey]:
        """Every filter that a row is of, in the order they are met."""
        read = [snapshot.window.series for snapshot in self.snapshots]
        return [*read, *(fact.series for _, fact in (*self.facts, *self.over_allocations))]


class LoadCounts(NamedTuple):
    """Facts of totals and members that a commit inserted and changed; one that fell to nothing counts as changed.

    Rests are not counted: they follow from the others.
    """

    inserted: int = 0
    changed: int = 0


class Environment(NamedTuple):
    """Whose rows are written, in which run."""

    account_id: int
    run: int


def to_db_utc(moment: datetime) -> datetime:
    """UTC without its zone, as columns hold it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def from_db_utc(moment: datetime) -> datetime:
    """A column's UTC with its zone, as the program thinks of it."""
    return moment.replace(tzinfo=UTC)


def write(
    connection: Connection, place: Environment, batch: Batch, series: Mapping[SeriesKey, int], at: datetime
) -> LoadCounts:
    """Writes a batch in the transaction of ``connection``; ``series`` holds a number for each of its filters."""
    _write_readings(connection, place, batch.snapshots, series, at)
    _write_revisions(connection, place, batch.revisions, series, at)
    counts = _write_facts(connection, place, batch.facts, series, at)
    _write_rejections(connection, place, batch.snapshots, series, at)
    write_days(connection, place.account_id, batch.days)
    _write_contradictions(connection, place, batch, series)
    _write_learned(connection, place, batch, at)
    return counts


# ---------------------------------------------------------------- rows from lists


def insert(
    connection: Connection, table: str, account_id: int, columns: Mapping[str, str], rows: Sequence[Sequence[object]]
) -> None:
    if rows:
        names = ", ".join(columns)
        connection.execute(
            text(
                f"insert into internal.{table} (account_id, {names}) select :account_id, {names} from ({unnested(columns)}) as b"
            ),
            {"account_id": account_id, **lists(columns, rows)},
        )


# ---------------------------------------------------------------- readings and their answers

_ANSWER = {"hash": "text", "body": "blob"}
_READING = {
    "snapshot_id": "number", "run": "number", "series_id": "number", "day": "day", "window_start": "time", "window_end": "time",
    "requested_at": "time", "committed_at": "time", "outcome": "text", "code": "text", "message": "text", "status": "number",
    "hash": "text",
}  # fmt: skip

_INSERT_ANSWERS = f"""
    insert into internal.responses (account_id, hash, body)
    select :account_id, b.hash, b.body
      from ({unnested(_ANSWER)}) as b
     where not exists (select 1 from internal.responses as a where a.account_id = :account_id and a.hash = b.hash)
"""


def _write_readings(
    connection: Connection,
    place: Environment,
    snapshots: Sequence[Snapshot],
    series: Mapping[SeriesKey, int],
    at: datetime,
) -> None:
    bodies = {
        _hash(snapshot.body): snapshot.compressed_body or compress(snapshot.body)
        for snapshot in snapshots
        if snapshot.status is not None
    }
    if bodies:
        rows = list(bodies.items())
        connection.execute(text(_INSERT_ANSWERS), {"account_id": place.account_id, **lists(_ANSWER, rows)})
    insert(
        connection,
        "snapshots",
        place.account_id,
        _READING,
        [
            (
                snapshot.number, place.run, series[snapshot.window.series], snapshot.window.day, to_db_utc(snapshot.window.start),
                to_db_utc(snapshot.window.end), to_db_utc(snapshot.requested_at), to_db_utc(at), snapshot.outcome.value, snapshot.code, snapshot.message,
                snapshot.status, None if snapshot.status is None else _hash(snapshot.body),
            )
            for snapshot in snapshots
        ],
    )  # fmt: skip


def compress(body: bytes) -> bytes:
    """An answer's body as the warehouse keeps it."""
    return zlib.compress(body)


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


REJECTION = {
    "snapshot_id": "number", "series_id": "number", "day": "day", "hour_start": "time", "reason": "text", "raw": "text",
    "seen_at": "time",
}  # fmt: skip


def _write_rejections(
    connection: Connection,
    place: Environment,
    snapshots: Sequence[Snapshot],
    series: Mapping[SeriesKey, int],
    at: datetime,
) -> None:
    rows = [row for snapshot in snapshots for row in rejection_rows(snapshot, series, at)]
    insert(connection, "rejections", place.account_id, REJECTION, rows)


def rejection_rows(snapshot: Snapshot, series: Mapping[SeriesKey, int], at: datetime) -> list[tuple[object, ...]]:
    """A snapshot's rejections as rows of ``REJECTION``; ``at`` is when the snapshot was committed."""
    return [
        (
            snapshot.number, series[snapshot.window.series], snapshot.window.day,
            None if rejection.hour_start is None else to_db_utc(rejection.hour_start), rejection.reason, rejection.raw, to_db_utc(at),
        )
        for rejection in snapshot.rejections
    ]  # fmt: skip


# ---------------------------------------------------------------- facts, and what they were before

FACT = {
    "series_id": "number",
    "day": "day",
    "hour_start": "time",
    "volume": "number",
    "money": "money",
    "snapshot_id": "number",
}

_MERGE_FACTS = f"""
    merge into internal.facts as f
    using ({unnested({**FACT, "gone": "flag"})}) as b
       on f.account_id = :account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
    when matched and b.gone then delete
    when matched and (f.volume <> b.volume or f.money <> b.money)
         then update set volume = b.volume, money = b.money, snapshot_id = b.snapshot_id, loaded_at = :at
    when not matched and not b.gone
         then insert (account_id, series_id, day, hour_start, volume, money, snapshot_id, loaded_at)
              values (:account_id, b.series_id, b.day, b.hour_start, b.volume, b.money, b.snapshot_id, :at)
    returning %s, f.series_id
"""


def _write_facts(
    connection: Connection,
    place: Environment,
    facts: Sequence[tuple[date, Fact]],
    series: Mapping[SeriesKey, int],
    at: datetime,
) -> LoadCounts:
    if not facts:
        return LoadCounts()
    rows = [(*fact_row(fact, day, series), fact.is_delete) for day, fact in facts]
    columns = {**FACT, "gone": "flag"}
    parameters = {"account_id": place.account_id, "at": to_db_utc(at), **lists(columns, rows)}
    unattributed_by_hour = {number for series, number in series.items() if series.is_unattributed}
    done = connection.execute(text(_MERGE_FACTS % merge_action(connection)), parameters).all()
    actions = [action for action, number in done if number not in unattributed_by_hour]
    inserted = actions.count("INSERT")
    return LoadCounts(inserted, len(actions) - inserted)


def fact_row(fact: Fact, day: date, series: Mapping[SeriesKey, int]) -> tuple[object, ...]:
    """A fact as a row of ``FACT``."""
    return series[fact.series], day, to_db_utc(fact.hour_start), fact.volume, fact.money, fact.snapshot


REVISION = {
    "series_id": "number", "day": "day", "hour_start": "time", "volume_before": "number", "money_before": "money",
    "volume_after": "number", "money_after": "money", "cause": "text", "snapshot_id": "number",
}  # fmt: skip

_INSERT_REVISIONS = f"""
    insert into internal.revisions (account_id, {", ".join(REVISION)}, loaded_before, snapshot_before, seen_at)
    select :account_id, {", ".join(f"b.{name}" for name in REVISION)}, f.loaded_at, f.snapshot_id, :at
      from ({unnested(REVISION)}) as b
      left join internal.facts as f
        on f.account_id = :account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
"""


def _write_revisions(
    connection: Connection,
    place: Environment,
    revisions: Sequence[tuple[date, Revision]],
    series: Mapping[SeriesKey, int],
    at: datetime,
) -> None:
    """Before the facts are merged: what they held, and since when, is read from them in the same statement."""
    if revisions:
        rows = [revision_row(row, day, series) for day, row in revisions]
        parameters = {"account_id": place.account_id, "at": to_db_utc(at), **lists(REVISION, rows)}
        connection.execute(text(_INSERT_REVISIONS), parameters)


def revision_row(row: Revision, day: date, series: Mapping[SeriesKey, int]) -> tuple[object, ...]:
    """A revision as a row of ``REVISION``."""
    return series[row.series], day, to_db_utc(row.hour_start), *row.before, *row.after, row.cause.value, row.snapshot


# ---------------------------------------------------------------- coverage, contradictions and beliefs

DAY = {
    "day": "day", "status": "text", "fetched_at": "time", "volume": "number", "money": "money", "unattributed_volume": "number",
    "unattributed_money": "money", "is_explained": "flag", "is_closed": "flag",
}  # fmt: skip

_MERGE_DAYS = f"""
    merge into internal.day_coverage as d
    using ({unnested(DAY)}) as b
       on d.account_id = :account_id and d.day = b.day
    when matched then update set {", ".join(f"{name} = b.{name}" for name in DAY if name != "day")}
    when not matched then insert (account_id, {", ".join(DAY)}) values (:account_id, {", ".join(f"b.{name}" for name in DAY)})
"""


def write_days(connection: Connection, account_id: int, days: Sequence[CoverageRow]) -> None:
    """Coverage as it stands now; each day at most once."""
    if days:
        connection.execute(text(_MERGE_DAYS), {"account_id": account_id, **lists(DAY, [row.columns for row in days])})


_FORGET_CONTRADICTIONS = """
    delete from internal.over_allocated_hours
     where account_id = :account_id and day in (select unnest(cast(:days as date[])))
"""


def _write_contradictions(
    connection: Connection, place: Environment, batch: Batch, series: Mapping[SeriesKey, int]
) -> None:
    if batch.is_over_allocated:
        parameters = {"account_id": place.account_id, "days": list(batch.is_over_allocated)}
        connection.execute(text(_FORGET_CONTRADICTIONS), parameters)
    rows = [fact_row(fact, day, series) for day, fact in batch.over_allocations]
    insert(connection, "over_allocated_hours", place.account_id, FACT, rows)


_NAME = {"dimension": "text", "member": "text", "status": "text", "snapshot_id": "number", "valid_from": "time"}
_LESSON = {"dimension": "text", "behaviour": "text", "code": "text", "valid_from": "time"}


class MemberStatusChange(NamedTuple):
    """What was thought of a filter from a moment on, and the snapshot that decided it (None: a person did)."""

    since: datetime
    series: SeriesKey
    member_status: MemberStatus
    snapshot: int | None


def load_member_statuses(connection: Connection, account_id: int) -> list[MemberStatusChange]:
    """What was ever thought of filters, in the order of time: the latest of a filter holds."""
    rows = connection.execute(
        text(
            "select dimension, member, status, snapshot_id, valid_from from internal.member_statuses where account_id = :a "
            "order by valid_from, snapshot_id nulls first"
        ),
        {"a": account_id},
    )
    return [
        MemberStatusChange(
            from_db_utc(at), SeriesKey(Dimension(dimension), member), MemberStatus(member_status), snapshot
        )
        for dimension, member, member_status, snapshot, at in rows
    ]


def write_member_statuses(
    connection: Connection,
    account_id: int,
    member_statuses: Iterable[tuple[SeriesKey, MemberStatus, int | None]],
    at: datetime,
) -> None:
    """Adds what is thought of filters from now on."""
    rows = [
        (series.dimension.value, series.member, member_status.value, snapshot, to_db_utc(at))
        for series, member_status, snapshot in member_statuses
    ]
    insert(connection, "member_statuses", account_id, _NAME, rows)


def last_commit(connection: Connection, account_id: int) -> datetime | None:
    """When the account's newest rows were committed; None: nothing was yet."""
    last = connection.execute(text(_LAST_COMMIT), {"a": account_id}).scalar_one()
    return None if last is None else from_db_utc(last)


def commit_time(now: datetime, last: datetime | None) -> datetime:
    """The time of a commit made now: never that of an earlier one or before it, even when the clock jumps."""
    return now if last is None else max(now, last + timedelta(microseconds=1))


_LAST_COMMIT = """
    select greatest((select max(committed_at) from internal.snapshots  where account_id = :a),
                    (select max(seen_at)      from internal.revisions where account_id = :a),
                    (select max(valid_from)   from internal.member_statuses     where account_id = :a),
                    (select max(valid_from)   from internal.unknown_name_behaviours   where account_id = :a))
"""


def _write_learned(connection: Connection, place: Environment, batch: Batch, at: datetime) -> None:
    write_member_statuses(connection, place.account_id, batch.member_statuses, at)
    if batch.learned:
        me = {"account_id": place.account_id}
        connection.execute(
            text(
                "update internal.accounts set hour_offset_seconds = :grid, full_day_from_snapshot = :full_day_from_snapshot where account_id = :account_id"
            ),
            {**me, "grid": batch.learned.grid, "full_day_from_snapshot": batch.learned.reaches_end},
        )
        write_unknown_name_behaviours(connection, place.account_id, batch.learned.unknown_name_behaviours, at)


def load_unknown_name_behaviours(
    connection: Connection, account_id: int
) -> list[tuple[datetime, Dimension, UnknownNameBehaviour]]:
    """Every lesson with the moment since when it holds, the latest last."""
    rows = connection.execute(
        text(
            "select valid_from, dimension, behaviour, code from internal.unknown_name_behaviours where account_id = :a order by valid_from"
        ),
        {"a": account_id},
    )
    return [
        (from_db_utc(at), Dimension(dimension), UnknownNameBehaviour(UnknownNameAnswer(answer), code))
        for at, dimension, answer, code in rows
    ]


def write_unknown_name_behaviours(
    connection: Connection,
    account_id: int,
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour],
    at: datetime,
) -> None:
    """Adds those that are news."""
    stored = {
        dimension: unknown_name_behaviour
        for _, dimension, unknown_name_behaviour in load_unknown_name_behaviours(connection, account_id)
    }
    news = [
        (dimension, unknown_name_behaviour)
        for dimension, unknown_name_behaviour in unknown_name_behaviours.items()
        if stored.get(dimension) != unknown_name_behaviour
    ]
    rows = [
        (dimension.value, unknown_name_behaviour.answer.value, unknown_name_behaviour.code, to_db_utc(at))
        for dimension, unknown_name_behaviour in news
    ]
    insert(connection, "unknown_name_behaviours", account_id, _LESSON, rows)


# ---------------------------------------------------------------- findings

_FINDING = {
    "run": "number", "check_name": "text", "severity": "text", "day": "day", "queue": "text", "message": "text", "seen_at": "time",
}  # fmt: skip


def write_findings(connection: Connection, place: Environment, findings: Sequence[Finding], at: datetime) -> None:
    """What a person should know about the numbers, kept with the run that saw it."""
    rows = [
        (place.run, row.check, row.severity.value, row.day, row.queue, row.message, to_db_utc(at)) for row in findings
    ]
    insert(connection, "findings", place.account_id, _FINDING, rows)
