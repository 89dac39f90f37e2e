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

from etl.load.upsert import DAY, FACT, REJECTION, REVISION, DayRow, fact_row, insert, naive, rejection_rows, revision_row
from etl.records import Fact, Filter, Outcome, Reading, Revision, Value

Row = tuple[Any, ...]
"""A row in the order of its table's columns."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A day as its answers say it: its row of coverage (None: it was never asked for), and its readings with their commits.

    ``facts`` come with the commit since which their value is believed, ``revisions`` with the commit that made them, and
    that and the reading of the earlier value (None where it was a zero, which no fact keeps).
    """

    day: date
    coverage: DayRow | None = None
    readings: tuple[tuple[Reading, datetime], ...] = ()
    facts: Sequence[tuple[Fact, datetime]] = ()
    revisions: Sequence[tuple[Revision, datetime, datetime | None, int | None]] = ()
    contradictions: Sequence[Fact] = ()


class Difference(NamedTuple):
    """A fact that is not what its answers say; None: there is none."""

    day: date
    filter: Filter
    hour_start: datetime
    held: Value | None
    said: Value | None


class Found(NamedTuple):
    """What was not as the answers say: facts by their values, and by table how many rows were there or missing wrongly."""

    facts: tuple[Difference, ...] = ()
    rows: Mapping[str, int] = {}


_HELD_SINCE = {"loaded_at": "time"}
_BEFORE = {"loaded_before": "time", "reading_before": "number", "seen_at": "time"}
_TABLES = {
    "facts": {**FACT, **_HELD_SINCE},
    "revisions": {**REVISION, **_BEFORE},
    "contradictions": FACT,
    "rejections": REJECTION,
    "days": DAY,
}


def filters(days: Iterable[Rebuilt]) -> set[Filter]:
    """Every filter that has a row in some days."""
    found: set[Filter] = set()
    for day in days:
        found |= {fact.filter for fact, _ in day.facts}
        found |= {revision.filter for revision, *_ in day.revisions}
        found |= {fact.filter for fact in day.contradictions}
        found |= {reading.window.filter for reading, _ in day.readings}
    return found


def rebuild(connection: Connection, account_id: int, days: Sequence[Rebuilt], series: Mapping[Filter, int]) -> Found:
    """Writes what differs of some days in the transaction of ``connection``; says what that was."""
    wanted = [day.day for day in days]
    names = {number: filter for filter, number in series.items()}
    differences: list[Difference] = []
    rows: dict[str, int] = {}
    for table, columns in _TABLES.items():
        held = _held(connection, account_id, table, columns, wanted)
        said = {day.day: Counter(_said(table, day, series)) for day in days}
        wrong = [day for day in wanted if held[day] != said[day]]
        if not wrong:
            continue
        if table == "facts":
            differences = [one for day in wrong for one in _differences(day, held[day], said[day], names)]
        rows[table] = sum(_wrong(held[day], said[day]) for day in wrong)
        connection.execute(
            text(f"delete from {table} where account_id = :a and day in (select unnest(cast(:days as date[])))"),
            {"a": account_id, "days": wrong},
        )
        insert(connection, table, account_id, columns, [row for day in wrong for row in said[day]])
    rows["readings"] = _outcomes(connection, account_id, [reading for day in days for reading, _ in day.readings])
    return Found(tuple(differences), {table: count for table, count in rows.items() if count})


def _wrong(held: Counter[Row], said: Counter[Row]) -> int:
    """Rows that were there wrongly or missing; one that was changed counts once."""
    return max((held - said).total(), (said - held).total())


def _held(
    connection: Connection, account_id: int, table: str, columns: Mapping[str, str], days: Collection[date]
) -> dict[date, Counter[Row]]:
    names = list(columns)
    statement = f"select {', '.join(names)} from {table} where account_id = :a and day in (select unnest(cast(:days as date[])))"
    held: dict[date, Counter[Row]] = {day: Counter() for day in days}
    for row in connection.execute(text(statement), {"a": account_id, "days": list(days)}):
        held[row.day][tuple(row)] += 1
    return held


def _said(table: str, rebuilt: Rebuilt, series: Mapping[Filter, int]) -> list[Row]:
    """A table's rows of one day, in the order of its columns."""
    day = rebuilt.day
    match table:
        case "facts":
            return [(*fact_row(fact, day, series), naive(loaded_at)) for fact, loaded_at in rebuilt.facts]
        case "revisions":
            return [
                (*revision_row(row, day, series), None if loaded is None else naive(loaded), reading, naive(seen_at))
                for row, seen_at, loaded, reading in rebuilt.revisions
            ]
        case "contradictions":
            return [fact_row(fact, day, series) for fact in rebuilt.contradictions]
        case "days":
            return [rebuilt.coverage.columns] if rebuilt.coverage else []
        case _:
            return [row for reading, committed_at in rebuilt.readings for row in rejection_rows(reading, series, committed_at)]


def _differences(day: date, held: Iterable[Row], said: Iterable[Row], names: Mapping[int, Filter]) -> Iterable[Difference]:
    """Facts whose value differs; one that differs in its reading or time alone is counted, not listed."""

    def values(rows: Iterable[Row]) -> dict[tuple[int, datetime], Value]:
        return {(number, hour_start): Value(volume, money) for number, _, hour_start, volume, money, *_ in rows}

    before, after = values(held), values(said)
    for number, hour_start in sorted(before.keys() | after.keys()):
        key = number, hour_start
        if before.get(key) != after.get(key):
            yield Difference(day, names[number], hour_start, before.get(key), after.get(key))


def _outcomes(connection: Connection, account_id: int, readings: Sequence[Reading]) -> int:
    """Readings of which this program thinks otherwise than the one that loaded them."""
    columns = {"reading": "number", "outcome": "text", "code": "text", "message": "text"}
    held = {
        row.reading: tuple(row)
        for row in connection.execute(
            text(
                "select reading, outcome, code, message from readings "
                "where account_id = :a and day in (select unnest(cast(:days as date[])))"
            ),
            {"a": account_id, "days": sorted({reading.window.day for reading in readings})},
        )
    }
    changed = [
        row
        for reading in readings
        if reading.outcome in (Outcome.GOOD, Outcome.PARTIAL, Outcome.BROKEN)
        and (row := (reading.number, reading.outcome.value, reading.code, reading.message)) != held[reading.number]
    ]
    for number, outcome, code, message in changed:
        connection.execute(
            text(
                f"update readings set {', '.join(f'{name} = :{name}' for name in columns if name != 'reading')} "
                "where account_id = :a and reading = :reading"
            ),
            {"a": account_id, "reading": number, "outcome": outcome, "code": code, "message": message},
        )
    return len(changed)
