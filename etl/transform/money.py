"""Exact numbers out of what JSON gave. The only place that rounds: once, half-even, to nine places."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

SCALE = 9
"""Places after the point. More is normal in answers: a server's float noise."""

_INTEGER_DIGITS = 9  # DECIMAL(18, 9)
_BIGINT = 2**63
_PLACE = Decimal(1).scaleb(-SCALE)
_ZERO = Decimal(0).quantize(_PLACE)
# Own context: the thread's could have been changed. 19 digits hold every quotient below, carry included.
_CONTEXT = Context(prec=_INTEGER_DIGITS + SCALE + 1, rounding=ROUND_HALF_EVEN)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def parse_decimal(value: object) -> Decimal | None:
    """An int, a Decimal or a numeric text (spaces around it allowed) as the same Decimal, unrounded; None for all else.

    All else includes floats and booleans, NaN and infinity, digits of other scripts and ``1_000``.
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
    """US dollars with exactly nine places; None: not a number, or beyond DECIMAL(18, 9)."""
    found = parse_decimal(value)
    if found is None or (found and found.adjusted() >= _INTEGER_DIGITS):
        return None
    # Below half of the last place, however far: asking the exponent keeps 1e-999999999 as fast as 1.
    if not found or found.adjusted() < -SCALE - 1:
        return _ZERO
    rounded = found.quantize(_PLACE, context=_CONTEXT)
    if rounded.adjusted() >= _INTEGER_DIGITS:
        return None
    return rounded or _ZERO  # no negative zero


def parse_int(value: object) -> int | None:
    """A whole number within BIGINT (tasks, Unix seconds); None for anything with a fraction or beyond."""
    if type(value) is int:  # as nearly all are
        return value if -_BIGINT <= value < _BIGINT else None
    found = parse_decimal(value)
    if found is None or (found and not 0 <= found.adjusted() < 20):
        return None
    if found != found.to_integral_value():
        return None
    return int(found) if -_BIGINT <= found < _BIGINT else None
