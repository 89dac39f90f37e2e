"""Facts, revisions, contradictions and rejections of some days, made anew from their history; what was as it should be stays.

A day's rows are compared, how often each stands there too: only the tables and days that differ are written, in one transaction
a batch of days.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from etl.load.upsert import (
    DAY,
    FACT,
    REJECTION,
    REVISION,
    CoverageRow,
    fact_row,
    insert,
    rejection_rows,
    revision_row,
    to_db_utc,
)
from etl.models import Fact, Measures, Outcome, Revision, SeriesKey, Snapshot

Row = tuple[Any, ...]
"""A row in the order of its table's columns."""


@dataclass(frozen=True, slots=True)
class RebuiltDay:
    """A day as its answers say it: its row of coverage (None: it was never asked for), and its readings with their commits.

    ``facts`` come with the commit since which their value is believed, ``revisions`` with the commit that made them, and
    that and the snapshot of the earlier value (None where it was a zero, which no fact keeps).
    """

    day: date
    coverage: CoverageRow | None = None
    snapshots: tuple[tuple[Snapshot, datetime], ...] = ()
    facts: Sequence[tuple[Fact, datetime]] = ()
    revisions: Sequence[tuple[Revision, datetime, datetime | None, int | None]] = ()
    over_allocations: Sequence[Fact] = ()


class FactDifference(NamedTuple):
    """A fact that is not what its answers say; None: there is none."""

    day: date
    series: SeriesKey
    hour_start: datetime
    stored: Measures | None
    said: Measures | None


class Found(NamedTuple):
    """What was not as the answers say: facts by their values, and by table how many rows were there or missing wrongly."""

    facts: tuple[FactDifference, ...] = ()
    rows: Mapping[str, int] = {}


_HELD_SINCE = {"loaded_at": "time"}
_BEFORE = {"loaded_before": "time", "snapshot_before": "number", "seen_at": "time"}
_TABLES = {
    "facts": {**FACT, **_HELD_SINCE},
    "revisions": {**REVISION, **_BEFORE},
    "over_allocated_hours": FACT,
    "rejections": REJECTION,
    "day_coverage": DAY,
}


def series_keys(days: Iterable[RebuiltDay]) -> set[SeriesKey]:
    """Every filter that has a row in some days."""
    found: set[SeriesKey] = set()
    for day in days:
        found |= {fact.series for fact, _ in day.facts}
        found |= {revision.series for revision, *_ in day.revisions}
        found |= {fact.series for fact in day.over_allocations}
        found |= {snapshot.window.series for snapshot, _ in day.snapshots}
    return found


def rebuild(
    connection: Connection, account_id: int, days: Sequence[RebuiltDay], series: Mapping[SeriesKey, int]
) -> Found:
    """Writes what differs of some days in the transaction of ``connection``; says what that was."""
    wanted = [day.day for day in days]
    names = {number: series for series, number in series.items()}
    differences: list[FactDifference] = []
    rows: dict[str, int] = {}
    for table, columns in _TABLES.items():
        stored = _held(connection, account_id, table, columns, wanted)
        said = {day.day: Counter(_said(table, day, series)) for day in days}
        wrong = [day for day in wanted if stored[day] != said[day]]
        if not wrong:
            continue
        if table == "facts":
            differences = [one for day in wrong for one in _differences(day, stored[day], said[day], names)]
        rows[table] = sum(_wrong(stored[day], said[day]) for day in wrong)
        connection.execute(
            text(
                f"delete from internal.{table} where account_id = :a and day in (select unnest(cast(:days as date[])))"
            ),
            {"a": account_id, "days": wrong},
        )
        insert(connection, table, account_id, columns, [row for day in wrong for row in said[day]])
    rows["snapshots"] = _outcomes(connection, account_id, [snapshot for day in days for snapshot, _ in day.snapshots])
    return Found(tuple(differences), {table: count for table, count in rows.items() if count})


def _wrong(stored: Counter[Row], said: Counter[Row]) -> int:
    """Rows that were there wrongly or missing; one that was changed counts once."""
    return max((stored - said).total(), (said - stored).total())


def _held(
    connection: Connection, account_id: int, table: str, columns: Mapping[str, str], days: Collection[date]
) -> dict[date, Counter[Row]]:
    names = list(columns)
    statement = f"select {', '.join(names)} from internal.{table} where account_id = :a and day in (select unnest(cast(:days as date[])))"
    stored: dict[date, Counter[Row]] = {day: Counter() for day in days}
    for row in connection.execute(text(statement), {"a": account_id, "days": list(days)}):
        stored[row.day][tuple(row)] += 1
    return stored


def _said(table: str, rebuilt: RebuiltDay, series: Mapping[SeriesKey, int]) -> list[Row]:
    """A table's rows of one day, in the order of its columns."""
    day = rebuilt.day
    match table:
        case "facts":
            return [(*fact_row(fact, day, series), to_db_utc(loaded_at)) for fact, loaded_at in rebuilt.facts]
        case "revisions":
            return [
                (
                    *revision_row(row, day, series),
                    None if loaded is None else to_db_utc(loaded),
                    snapshot,
                    to_db_utc(seen_at),
                )
                for row, seen_at, loaded, snapshot in rebuilt.revisions
            ]
        case "over_allocated_hours":
            return [fact_row(fact, day, series) for fact in rebuilt.over_allocations]
        case "day_coverage":
            return [rebuilt.coverage.columns] if rebuilt.coverage else []
        case _:
            return [
                row
                for snapshot, committed_at in rebuilt.snapshots
                for row in rejection_rows(snapshot, series, committed_at)
            ]


def _differences(
    day: date, stored: Iterable[Row], said: Iterable[Row], names: Mapping[int, SeriesKey]
) -> Iterable[FactDifference]:
    """Facts whose value differs; one that differs in its reading or time alone is counted, not listed."""

    def values(rows: Iterable[Row]) -> dict[tuple[int, datetime], Measures]:
        return {(number, hour_start): Measures(volume, money) for number, _, hour_start, volume, money, *_ in rows}

    before, after = values(stored), values(said)
    for number, hour_start in sorted(before.keys() | after.keys()):
        key = number, hour_start
        if before.get(key) != after.get(key):
            yield FactDifference(day, names[number], hour_start, before.get(key), after.get(key))


def _outcomes(connection: Connection, account_id: int, snapshots: Sequence[Snapshot]) -> int:
    """Readings of which this program thinks otherwise than the one that loaded them."""
    columns = {"snapshot_id": "number", "outcome": "text", "code": "text", "message": "text"}
    stored = {
        row.snapshot_id: tuple(row)
        for row in connection.execute(
            text(
                "select snapshot_id, outcome, code, message from internal.snapshots "
                "where account_id = :a and day in (select unnest(cast(:days as date[])))"
            ),
            {"a": account_id, "days": sorted({snapshot.window.day for snapshot in snapshots})},
        )
    }
    changed = [
        row
        for snapshot in snapshots
        if snapshot.outcome in (Outcome.GOOD, Outcome.PARTIAL, Outcome.BROKEN)
        and (row := (snapshot.number, snapshot.outcome.value, snapshot.code, snapshot.message))
        != stored[snapshot.number]
    ]
    for number, outcome, code, message in changed:
        connection.execute(
            text(
                f"update internal.snapshots set {', '.join(f'{name} = :{name}' for name in columns if name != 'snapshot_id')} "
                "where account_id = :a and snapshot_id = :snapshot_id"
            ),
            {"a": account_id, "snapshot_id": number, "outcome": outcome, "code": code, "message": message},
        )
    return len(changed)
