"""How members of a dimension are compared with the total."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from etl.models import Measures, SourcedMeasures, queue
from etl.transform.breakdown import break_down_hours, day_breakdown

HOUR = datetime(2026, 11, 2, 8, tzinfo=UTC)


def source(money: str, volume: int = 1) -> SourcedMeasures:
    return SourcedMeasures(Measures(volume, Decimal(money)), 1, HOUR)


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
    hours = {queue(f"Q{number}"): {HOUR: source(money)} for number, money in enumerate(members)}
    breakdown = break_down_hours({HOUR: source(total, volume=len(members))}, hours)[HOUR]
    assert breakdown.is_explained == is_explained
    assert not breakdown.is_over_allocated


def test_members_that_exceed_the_total_leave_all_of_it_unattributed() -> None:
    breakdown = break_down_hours({HOUR: source("1.0")}, {queue("A"): {HOUR: source("1.1")}})[HOUR]
    assert breakdown.is_over_allocated
    assert breakdown.unattributed == Measures(1, Decimal("1.0"))
    day = day_breakdown({HOUR: breakdown}, [HOUR], has_total=True)
    assert (day.is_over_allocated, day.is_explained) == (True, False)


def test_a_day_without_a_total_is_never_explained() -> None:
    assert not day_breakdown({}, [], has_total=False).is_explained
