"""Compare the members of a dimension with the total, hour by hour. Pure."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from operator import add, or_, sub
from typing import NamedTuple

from etl.hour_values import HOURS_PER_DAY, NO_VALUES, HourValues
from etl.models import Breakdown, Measures

ROUNDING_TOLERANCE = 1_000
"""Allowed difference per number of an hour, in nanodollars, because the API rounds to millionths of a dollar."""

_ZEROS = (0,) * HOURS_PER_DAY


class Allocation(NamedTuple):
    """What the members of a dimension add up to by hour, and how many of them have spend."""

    volumes: tuple[int, ...] = _ZEROS
    nanodollars: tuple[int, ...] = _ZEROS
    members: tuple[int, ...] = _ZEROS

    def replace_members(self, before: Iterable[HourValues], after: Iterable[HourValues]) -> "Allocation":
        """The sums after the values of some members have changed."""
        columns = zip(self, _sums(before), _sums(after), strict=True)
        return Allocation(*(tuple(map(add, map(sub, sums, old), new)) for sums, old, new in columns))


def _sums(members: Iterable[HourValues]) -> Allocation:
    filled = [
        one if one.is_complete else HourValues(*(tuple(value or 0 for value in column) for column in one))
        for one in members
        if not one.is_empty
    ]
    if not filled:
        return Allocation()
    volumes, nanodollars = zip(*filled, strict=True)
    has_spend = (map(bool, map(or_, *one)) for one in filled)
    return Allocation(*(tuple(map(sum, zip(*columns, strict=True))) for columns in (volumes, nanodollars, has_spend)))


@dataclass(frozen=True, slots=True)
class DimensionHours:
    """What a dimension's members explain of each hour of the total, and what they leave unattributed.

    ``unattributed`` has a value where the total has one.
    """

    allocation: Allocation
    unattributed: HourValues
    unexplained: frozenset[int]
    over_allocated: frozenset[int]


def break_down_hours(totals: HourValues, allocation: Allocation) -> DimensionHours:
    """Return the breakdown of each hour of the total."""
    volumes, nanodollars = map(list, totals)
    unexplained, over_allocated = set(), set()
    for hour, volume, money, members in zip(range(HOURS_PER_DAY), *allocation, strict=True):
        total_volume, total_money = volumes[hour], nanodollars[hour]
        if total_volume is None or total_money is None:
            continue
        left_volume, left_money = total_volume - volume, total_money - money
        tolerance = ROUNDING_TOLERANCE * (members + 1)
        if left_volume != 0 or abs(left_money) > tolerance:
            unexplained.add(hour)
            if members and (left_volume < 0 or left_money < -tolerance):
                over_allocated.add(hour)
                continue  # all of the total is unattributed
        volumes[hour], nanodollars[hour] = left_volume, left_money
    unattributed = HourValues(tuple(volumes), tuple(nanodollars))
    return DimensionHours(allocation, unattributed, frozenset(unexplained), frozenset(over_allocated))


def day_breakdown(hours: DimensionHours, complete: Set[int], *, has_total: bool) -> Breakdown:
    """Return the breakdown of a day. ``complete`` are the hours that had ended when the total was requested."""
    unexplained = hours.unexplained & complete
    unattributed_by_hour = {hour: hours.unattributed.at(hour) for hour in unexplained}
    return Breakdown(
        unattributed=Measures.of(*hours.unattributed.total),
        is_explained=has_total and not unexplained,
        is_over_allocated=bool(hours.over_allocated & complete),
        unattributed_by_hour=HourValues.of(unattributed_by_hour) if unattributed_by_hour else NO_VALUES,
    )
