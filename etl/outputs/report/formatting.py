"""Numbers and dates as people read them."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal

from etl.outputs.status import to_ranges

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

_CENT = Decimal("0.01")
_MAX_RANGES = 8


def exact(value: Decimal | int) -> str:
    """All digits of a number."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def usd(value: Decimal) -> str:
    """Dollars to the cent, rounded half to even. Less than a cent keeps all its digits, so it never looks like zero."""
    size = abs(value)
    return _sign(value) + (f"${size.normalize():f}" if 0 < size < _CENT else f"${size:,.2f}")


def price(value: Decimal) -> str:
    return f"{_sign(value)}${abs(value):,.4f}"


def change(percent: Decimal) -> str:
    """A change in percent with its sign."""
    return f"{'+' if percent > 0 else _sign(percent)}{abs(percent):,.1f} %"


def _sign(value: Decimal) -> str:
    return MINUS if value < 0 else ""


def share(part: Decimal, whole: Decimal) -> str:
    """The part in percent; empty if the whole is not positive."""
    return f"{part * 100 / whole:.1f} %" if whole > 0 else ""


def long_date(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def moment(time: datetime) -> str:
    return f"{long_date(time.date())}, {time:%H:%M} UTC"


def hour(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def date_ranges(days: Iterable[date]) -> str:
    """Days as ranges. Of many ranges only the newest are listed."""
    ranges = to_ranges(days)
    listed = ", ".join(
        long_date(days.first) if days.first == days.last else f"{long_date(days.first)} to {long_date(days.last)}"
        for days in ranges[-_MAX_RANGES:]
    )
    older = len(ranges) - _MAX_RANGES
    return f"{listed}, and {count(older, 'older range')}" if older > 0 else listed
