"""How members of a dimension are compared with the total."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from etl.hour_values import NO_VALUES, HourValues
from etl.models import Measures
from etl.money import to_nanodollars
from etl.transform.breakdown import Allocation, DimensionHours, break_down_hours, day_breakdown

HOUR = 8


def values(money: str, volume: int = 1) -> HourValues:
    return HourValues.of({HOUR: (volume, to_nanodollars(Decimal(money)))})


def break_down(total: HourValues, members: Sequence[HourValues]) -> DimensionHours:
    allocation = Allocation()
    for member in members:
        allocation = allocation.replace_members([NO_VALUES], [member])
    return break_down_hours(total, allocation)


@pytest.mark.parametrize(
    ("total", "members", "is_explained"),
    [
        ("1.0", ["0.999998"], True),  # the total and the member may each be off by half of the API's last place
        ("1.0", ["0.9999979"], False),
        ("1.0", ["1.000002"], True),
        ("3.0", ["1.0", "1.999997"], True),
        ("3.0", ["1.0", "1.9999969"], False),
    ],
)
def test_the_total_and_each_member_may_be_rounded_by_one_millionth(
    total: str, members: Sequence[str], is_explained: bool
) -> None:
    hours = break_down(values(total, volume=len(members)), [values(money) for money in members])
    assert (HOUR not in hours.unexplained) == is_explained
    assert not hours.over_allocated


def test_a_member_whose_values_change_counts_only_with_the_new_ones() -> None:
    first, later = values("1.0"), values("0.25", 3)
    allocation = Allocation().replace_members([], [first]).replace_members([first], [later])
    assert (allocation.volumes[HOUR], allocation.nanodollars[HOUR], allocation.members[HOUR]) == (3, 250_000_000, 1)
    assert allocation.replace_members([later], [NO_VALUES]) == Allocation()


def test_members_that_exceed_the_total_leave_all_of_it_unattributed() -> None:
    hours = break_down(values("1.0"), [values("1.1")])
    assert hours.over_allocated == {HOUR}
    assert hours.unattributed == values("1.0")
    day = day_breakdown(hours, {HOUR}, has_total=True)
    assert (day.is_over_allocated, day.is_explained) == (True, False)
    assert day.unattributed == Measures(1, Decimal("1.0"))


def test_a_day_without_a_total_is_never_explained() -> None:
    assert not day_breakdown(break_down(NO_VALUES, []), set(), has_total=False).is_explained
