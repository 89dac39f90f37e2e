"""Convert between the hour columns of the core and single records and facts, which are easier to read in tests."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

from etl.hour_values import FactValues, HourValues
from etl.models import HOUR, Fact, Measures, Record, SeriesKey, Snapshot, day_start
from etl.money import to_dollars, to_nanodollars
from etl.transform.reconcile import ReconciledDay, diff, single_facts


def hour_values(records: Iterable[Record], day: date, offset: int = 0) -> HourValues:
    first = day_start(day) + timedelta(seconds=offset)
    return HourValues.of({(one.hour_start - first) // HOUR: (one.volume, to_nanodollars(one.money)) for one in records})


def measures_by_hour(measures: Mapping[int, Measures]) -> HourValues:
    return HourValues.of({hour: (one.volume, to_nanodollars(one.money)) for hour, one in measures.items()})


def records_of(snapshot: Snapshot) -> tuple[Record, ...]:
    first = day_start(snapshot.window.day) + timedelta(seconds=snapshot.hour_offset_seconds or 0)
    pairs = ((hour, snapshot.values.at(hour)) for hour in snapshot.values.hours)
    return tuple(Record(first + hour * HOUR, volume, to_dollars(nanodollars)) for hour, (volume, nanodollars) in pairs)


def facts_of(day: ReconciledDay) -> dict[tuple[SeriesKey, datetime], Fact]:
    first = day.inputs.first_hour_start
    facts = (fact for series, values in day.facts.items() for fact in single_facts(series, values, first))
    return {(fact.series, fact.hour_start): fact for fact in facts}


def fact_values(facts: Iterable[Fact], first_hour_start: datetime) -> dict[SeriesKey, FactValues]:
    """Arrange a day's facts by series and hour."""
    by_series: dict[SeriesKey, list[tuple[int, int, int, int]]] = {}
    for fact in facts:
        hour = (fact.hour_start - first_hour_start) // HOUR
        by_series.setdefault(fact.series, []).append((hour, fact.volume, fact.nanodollars, fact.snapshot))
    return {series: FactValues.of(*zip(*rows, strict=True)) for series, rows in by_series.items()}


def written_facts(before: ReconciledDay, after: ReconciledDay) -> list[Fact]:
    """All facts that a commit writes."""
    changes, first = diff(before, after), after.inputs.first_hour_start
    new = (fact for series, values in changes.new.items() for fact in single_facts(series, values, first))
    return [*new, *changes.changed]
