"""What is usual for a series of hours, and what is far off. Pure; money is in nanodollars, the last hour is the newest.

A window of 1, 3 or 24 hours is compared with the same hours of the week, and those an hour earlier and later, in the 8
weeks before. It is high if it exceeds the largest of these samples by a factor, and by as much as that one exceeds
their median; low if it is a tenth of the smallest. A series that is idle in three of ten hours has no such habit: it is
high only if it exceeds all windows of the 8 weeks. The factors come from a backtest: docs/explanation/alerts.md.
"""

from collections.abc import Sequence
from itertools import accumulate
from statistics import median
from typing import NamedTuple

WEEK = 168
WEEKS = 8
MIN_WEEKS = 3
"""With fewer weeks nothing is known to be usual."""

FACTORS = {1: 2.0, 3: 1.8, 24: 1.6}
"""By the hours of a window: how far it must exceed the largest sample."""

IRREGULAR_FACTOR = 1.25
MAX_IDLE = 0.3
MIN_TASKS = 20
"""The price of an hour with fewer tasks depends on rounding and chance."""
LASTING_DAYS = 6
LOW_HOURS = 3
LOW_SHARE = 0.1


class Anomaly(NamedTuple):
    """A window that ends with the hour at ``last``; the samples were from ``lowest`` to ``highest``."""

    last: int
    hours: int
    money: int
    lowest: int
    highest: int

    @property
    def excess(self) -> int:
        """How far the window is outside its samples."""
        return max(self.money - self.highest, self.lowest - self.money)


def find_anomalies(money: Sequence[int], recent: int, floor: int) -> list[Anomaly]:
    """Windows that end in the ``recent`` last hours and are at least ``floor`` outside what is usual."""
    until = [0, *accumulate(money)]
    found = []
    for last in range(max(0, len(money) - recent), len(money)):
        for hours in FACTORS:
            anomaly = _compare(money, until, last, hours)
            if anomaly and anomaly.excess >= floor:
                found.append(anomaly)
                break
    return found


def _compare(money: Sequence[int], until: Sequence[int], last: int, hours: int) -> Anomaly | None:
    def window(end: int) -> int:
        return until[end + 1] - until[end + 1 - hours]

    ends = [last - WEEK * week + shift for week in range(1, WEEKS + 1) for shift in (-1, 0, 1)]
    samples = [window(end) for end in ends if end + 1 >= hours]
    if len(samples) < 3 * MIN_WEEKS:
        return None
    value, lowest, highest = window(last), min(samples), max(samples)
    limit = max(FACTORS[hours] * highest, 2 * highest - median(samples))
    first = max(0, last - hours - WEEKS * WEEK)
    before = money[first : last - hours + 1]
    if sum(one <= 0 for one in before) > MAX_IDLE * len(before):
        if value <= limit:  # the slower comparison cannot change this
            return None
        highest = max(highest, *(window(end) for end in range(first + hours - 1, last - hours + 1)))
        return Anomaly(last, hours, value, lowest, highest) if value > IRREGULAR_FACTOR * highest else None
    if value > limit or (hours == LOW_HOURS and value < LOW_SHARE * lowest):
        return Anomaly(last, hours, value, lowest, highest)
    return None


class PriceJump(NamedTuple):
    """Price per 1000 tasks in nanodollars: in the hour at ``last``, and usually."""

    last: int
    price: float
    usual: float


def find_price_jump(money: Sequence[int], volumes: Sequence[int], recent: int, percent: float) -> PriceJump | None:
    """The largest change, by ``percent`` or more, of an hour's price against the median hour of the 4 weeks before."""
    pairs = zip(money, volumes, strict=True)
    prices = [1000 * paid / tasks if tasks >= MIN_TASKS and paid > 0 else None for paid, tasks in pairs]
    first = max(0, len(prices) - recent)
    usual = [price for price in prices[max(0, first - 4 * WEEK) : first] if price is not None]
    if len(usual) < MIN_WEEKS * 24:
        return None
    normal, worst = median(usual), None
    for last in range(first, len(prices)):
        price = prices[last]
        if price is None:
            continue
        is_larger = worst is None or abs(price - normal) > abs(worst.price - normal)
        if abs(price / normal - 1) * 100 >= percent and is_larger:
            worst = PriceJump(last, price, normal)
    return worst


def expected_days(days: Sequence[int], weekdays: Sequence[int], ahead: Sequence[int]) -> list[float] | None:
    """Expected spend of coming days with the weekdays ``ahead``, from complete days in order, the newest last.

    Each counts as the median of its weekday. If six of the last 7 days were all above or all below theirs, it is
    multiplied by their median ratio: a lasting change counts after six days, and a single day never. None if a weekday
    is not known.
    """
    usual = {weekday: median(of) for weekday in {*weekdays} if (of := _of(days, weekdays, weekday))}
    if not days or not {*ahead} <= usual.keys():
        return None
    ratios = [
        day / usual[weekday] for day, weekday in list(zip(days, weekdays, strict=True))[-7:] if usual[weekday] > 0
    ]
    is_lasting = max(sum(one > 1 for one in ratios), sum(one < 1 for one in ratios)) >= LASTING_DAYS
    level = median(ratios) if is_lasting else 1.0
    return [usual[weekday] * level for weekday in ahead]


def _of(days: Sequence[int], weekdays: Sequence[int], weekday: int) -> list[int]:
    return [day for day, one in zip(days, weekdays, strict=True) if one == weekday]
