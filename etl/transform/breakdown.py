"""Compare the members of a dimension with the total, hour by hour. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from etl.models import ZERO_MEASURES, Breakdown, Measures, SeriesKey, SourcedMeasures
from etl.transform.hours import Hours

ROUNDING_TOLERANCE = Decimal("0.000001")
"""Each number of an hour may be off by half of the API's last place, and so may their sum, once per number."""


class HourBreakdown(NamedTuple):
    """What a dimension's members explain of one hour of the total, and what they leave unattributed."""

    allocated: Measures
    unattributed: Measures
    is_explained: bool
    is_over_allocated: bool


def sum_measures(values: Iterable[Measures]) -> Measures:
    volume, money = 0, Decimal(0)
    for value in values:
        volume += value.volume
        money += value.money
    return Measures(volume, money)


def break_down_hours(totals: Hours, members: Mapping[SeriesKey, Hours]) -> dict[datetime, HourBreakdown]:
    """Return the breakdown of each hour of the total."""
    values: dict[datetime, list[Measures]] = {hour: [] for hour in totals}
    for hours in members.values():
        for hour, source in hours.items():
            if source.value != ZERO_MEASURES and hour in values:
                values[hour].append(source.value)
    return {hour: _break_down(total.value, values[hour]) for hour, total in totals.items()}


def _break_down(total: Measures, values: Sequence[Measures]) -> HourBreakdown:
    allocated = sum_measures(values)
    unattributed = Measures(total.volume - allocated.volume, total.money - allocated.money)
    tolerance = ROUNDING_TOLERANCE * (len(values) + 1)
    is_explained = unattributed.volume == 0 and abs(unattributed.money) <= tolerance
    exceeds_total = unattributed.volume < 0 or unattributed.money < -tolerance
    is_over_allocated = bool(values) and not is_explained and exceeds_total
    return HourBreakdown(allocated, total if is_over_allocated else unattributed, is_explained, is_over_allocated)


def day_breakdown(
    by_hour: Mapping[datetime, HourBreakdown], complete: Sequence[datetime], *, has_total: bool
) -> Breakdown:
    """Return the breakdown of a day. ``complete`` are the hours that had ended when the total was requested."""
    return Breakdown(
        unattributed=sum_measures(breakdown.unattributed for breakdown in by_hour.values()),
        is_explained=has_total and all(by_hour[hour].is_explained for hour in complete),
        is_over_allocated=any(by_hour[hour].is_over_allocated for hour in complete),
        unattributed_by_hour={hour: by_hour[hour].unattributed for hour in complete if not by_hour[hour].is_explained},
    )


def with_spend(members: Mapping[SeriesKey, Hours], hour: datetime) -> Iterator[tuple[SeriesKey, SourcedMeasures]]:
    """Yield the members that have spend in an hour."""
    for series, hours in members.items():
        source = hours.get(hour)
        if source and source.value != ZERO_MEASURES:
            yield series, source
