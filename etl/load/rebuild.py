"""Rewrite the rows of some days from their snapshots; rows that are right stay as they are.

Rows are compared as multisets, so that a duplicate counts as a difference. Only the tables and days that differ are
written.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, text

from etl.load.rows import Row, columns_of, delete_days, insert, names_of, to_db_utc, to_db_utc_or_none
from etl.load.upsert import CoverageRow, fact_row, rejection_rows, revision_row
from etl.models import Fact, Measures, Outcome, Revision, SeriesKey, Snapshot
from etl.warehouse import schema


@dataclass(frozen=True, slots=True)
class RebuiltDay:
    """A day as its responses say it is: its coverage (None: it was never requested) and its snapshots with commit
    times.

    ``facts`` come with the commit time of their value. ``revisions`` come with their own commit time, and the commit
    time and snapshot of the earlier value (None: it was zero and had no row).
    """

    day: date
    coverage: CoverageRow | None = None
    snapshots: tuple[tuple[Snapshot, datetime], ...] = ()
    facts: Sequence[tuple[Fact, datetime]] = ()
    revisions: Sequence[tuple[Revision, datetime, datetime | None, int | None]] = ()
    over_allocations: Sequence[Fact] = ()


class FactDifference(NamedTuple):
    """A stored fact and what the responses say; None: no fact."""

    day: date
    series: SeriesKey
    hour_start: datetime
    stored: Measures | None
    said: Measures | None


class Found(NamedTuple):
    """Facts with another value, and by table the number of rows that were wrong or missing."""

    facts: tuple[FactDifference, ...] = ()
    rows: Mapping[str, int] = {}


_WHERE_DAYS = "where account_id = :a and day in (select unnest(cast(:days as date[])))"

_TABLES = (schema.facts, schema.revisions, schema.over_allocated_hours, schema.rejections, schema.day_coverage)


def series_keys(days: Iterable[RebuiltDay]) -> set[SeriesKey]:
    """Every series that has a row on one of the days."""
    found: set[SeriesKey] = set()
    for day in days:
        found.update(fact.series for fact, _ in day.facts)
        found.update(revision.series for revision, *_ in day.revisions)
        found.update(fact.series for fact in day.over_allocations)
        found.update(snapshot.window.series for snapshot, _ in day.snapshots)
    return found


def rebuild(
    connection: Connection, account_id: int, days: Sequence[RebuiltDay], series: Mapping[SeriesKey, int]
) -> Found:
    """Write what differs on some days in the transaction of ``connection``; return the differences."""
    differences: list[FactDifference] = []
    rows: dict[str, int] = {}
    for table in _TABLES:
        stored = _stored_rows(connection, account_id, table, [day.day for day in days])
        expected = {day.day: Counter(_expected_rows(table, day, series)) for day in days}
        wrong = [day for day in expected if stored[day] != expected[day]]
        if not wrong:
            continue
        if table is schema.facts:
            keys = {number: key for key, number in series.items()}
            differences = [item for day in wrong for item in _differences(day, stored[day], expected[day], keys)]
        rows[table.name] = sum(_count_wrong(stored[day], expected[day]) for day in wrong)
        delete_days(connection, table, account_id, wrong)
        insert(connection, table, account_id, [row for day in wrong for row in expected[day].elements()])
    snapshots = [snapshot for day in days for snapshot, _ in day.snapshots]
    if changed := _update_outcomes(connection, account_id, snapshots):
        rows[schema.snapshots.name] = changed
    return Found(tuple(differences), rows)


def _count_wrong(stored: Counter[Row], expected: Counter[Row]) -> int:
    """Rows that are wrong or missing; a changed one counts once."""
    return max((stored - expected).total(), (expected - stored).total())


def _stored_rows(
    connection: Connection, account_id: int, table: Table, days: Collection[date]
) -> dict[date, Counter[Row]]:
    select = f"select {names_of(columns_of(table))} from {table} {_WHERE_DAYS}"
    stored: dict[date, Counter[Row]] = {day: Counter() for day in days}
    for row in connection.execute(text(select), {"a": account_id, "days": list(days)}):
        stored[row.day][tuple(row)] += 1
    return stored


def _expected_rows(table: Table, rebuilt: RebuiltDay, series: Mapping[SeriesKey, int]) -> list[Row]:
    day = rebuilt.day
    if table is schema.facts:
        return [(*fact_row(fact, day, series), to_db_utc(loaded_at)) for fact, loaded_at in rebuilt.facts]
    if table is schema.revisions:
        return [
            (*revision_row(item, day, series), to_db_utc_or_none(loaded_before), snapshot_before, to_db_utc(seen_at))
            for item, seen_at, loaded_before, snapshot_before in rebuilt.revisions
        ]
    if table is schema.over_allocated_hours:
        return [fact_row(fact, day, series) for fact in rebuilt.over_allocations]
    if table is schema.day_coverage:
        return [rebuilt.coverage.columns] if rebuilt.coverage else []
    return [row for snapshot, at in rebuilt.snapshots for row in rejection_rows(snapshot, series, at)]


def _differences(
    day: date, stored: Iterable[Row], expected: Iterable[Row], keys: Mapping[int, SeriesKey]
) -> Iterable[FactDifference]:
    """Facts whose value differs. One that differs only in its snapshot or time is counted, not listed."""
    before, after = _measures(stored), _measures(expected)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            number, hour_start = key
            yield FactDifference(day, keys[number], hour_start, before.get(key), after.get(key))


def _measures(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[int, datetime], Measures]:
    """The values of rows of ``facts`` by series number and hour."""
    return {(number, hour_start): Measures(volume, money) for number, _, hour_start, volume, money, *_ in rows}


_UPDATE_OUTCOME = """
    update internal.snapshots
       set outcome = :outcome, code = :code, message = :message
     where account_id = :a and snapshot_id = :snapshot_id
"""


def _update_outcomes(connection: Connection, account_id: int, snapshots: Sequence[Snapshot]) -> int:
    """Update snapshots that this version parses to another outcome than the version that loaded them."""
    select = f"select snapshot_id, outcome, code, message from internal.snapshots {_WHERE_DAYS}"
    params = {"a": account_id, "days": sorted({snapshot.window.day for snapshot in snapshots})}
    stored = {number: tuple(outcome) for number, *outcome in connection.execute(text(select), params)}
    changed = []
    for item in snapshots:
        row = {"outcome": item.outcome.value, "code": item.code, "message": item.message}
        if item.outcome is not Outcome.API_ERROR and tuple(row.values()) != stored[item.number]:
            changed.append({"a": account_id, "snapshot_id": item.number, **row})
    if changed:
        connection.execute(text(_UPDATE_OUTCOME), changed)
    return len(changed)
