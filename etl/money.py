"""Exact numbers from JSON values. The only place that rounds: once, half-even, to nine places."""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

SCALE = 9
"""Places after the point. Responses often have more: float noise of the server."""

_INTEGER_DIGITS = 9  # DECIMAL(18, 9)
_LIMIT = 10 ** (_INTEGER_DIGITS + SCALE)
_BIGINT = 2**63
_PLACE = Decimal(1).scaleb(-SCALE)
_ZERO = Decimal(0).quantize(_PLACE)
# Our own context, since the thread's may have been changed. 19 digits are enough for every result below.
_CONTEXT = Context(prec=_INTEGER_DIGITS + SCALE + 1, rounding=ROUND_HALF_EVEN)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def parse_decimal(value: object) -> Decimal | None:
    """Return an int, a Decimal or a numeric string (spaces around it allowed) as an unrounded Decimal, otherwise None.

    Floats, booleans, NaN, infinity, digits of other scripts and ``1_000`` are not numbers.
    """
    if isinstance(value, str):
        return _from_text(value.strip(" "))
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    found = Decimal(value)
    return found if found.is_finite() else None


def _from_text(text: str) -> Decimal | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return None


def parse_money(value: object) -> Decimal | None:
    """Return US dollars with exactly nine places; None if it is no number or beyond DECIMAL(18, 9)."""
    found = parse_decimal(value)
    if found is None or (found and found.adjusted() >= _INTEGER_DIGITS):
        return None
    # Below half of the last place: checking the exponent avoids expanding 1e-999999999.
    if not found or found.adjusted() < -SCALE - 1:
        return _ZERO
    rounded = found.quantize(_PLACE, context=_CONTEXT)
    if rounded.adjusted() >= _INTEGER_DIGITS:
        return None
    return rounded or _ZERO  # no negative zero


def round_to_nanodollars(amounts: Iterable[int | Decimal]) -> tuple[int, ...] | None:
    """Return finite US dollars as billionths, rounded like ``parse_money``; None if one is beyond DECIMAL(18, 9)."""
    try:
        rounded = [Decimal(amount).quantize(_PLACE, context=_CONTEXT) for amount in amounts]
    except InvalidOperation:  # more digits than the context has
        return None
    nanodollars = tuple(int(amount.scaleb(SCALE, _CONTEXT)) for amount in rounded)
    return nanodollars if all(-_LIMIT < amount < _LIMIT for amount in nanodollars) else None


def to_dollars(nanodollars: int) -> Decimal:
    """Return US dollars with nine places."""
    return Decimal(nanodollars).scaleb(-SCALE)


def to_nanodollars(money: Decimal) -> int:
    """Return billionths of a US dollar. ``money`` has at most nine places."""
    return int(money.scaleb(SCALE))


def parse_int(value: object) -> int | None:
    """Return a whole number within BIGINT (tasks, Unix seconds), otherwise None."""
    if type(value) is int:  # nearly always
        return value if -_BIGINT <= value < _BIGINT else None
    found = parse_decimal(value)
    if found is None or (found and not 0 <= found.adjusted() < 20):
        return None
    if found != found.to_integral_value():
        return None
    return int(found) if -_BIGINT <= found < _BIGINT else None
