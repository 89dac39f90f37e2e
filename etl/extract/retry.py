"""Whether to ask again and how long to wait first: clamped numbers from plain arguments."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from etl.models import ErrorScope
from etl.responses import ApiError, InvalidResponse, ParsedResponse, SuccessPayload

MAX_ATTEMPTS = 6
BASE = 1.0
CAP = 60.0
API_ERROR_DELAY = 5.0
"""Seconds before the one retry that an API error gets: the vendor bans who repeats an error over and over."""
MAX_RETRY_AFTER = 300.0


def retry_delay(
    reply: ParsedResponse,
    status: int | None,
    *,
    attempt: int,
    refusals: int,
    jitter: float,
    retry_after: float | None,
    settled: frozenset[str],
    is_sound: bool,
) -> float | None:
    """Seconds until the window is asked again; None: ``reply`` is the last word.

    ``attempt`` requests were sent so far, ``refusals`` of them were answered with an API error or with unsound records.
    ``jitter`` is in [0, 1). ``settled`` are error codes known to be final. ``is_sound``: whether all its records can
    be used.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    asked_for = retry_after or 0.0
    if isinstance(reply, SuccessPayload):
        return None if is_sound or refusals > 1 else max(API_ERROR_DELAY, asked_for)
    if isinstance(reply, ApiError) and reply.scope is not ErrorScope.TRANSIENT:
        final = reply.scope is not ErrorScope.WINDOW or reply.code in settled or refusals > 1
        return None if final else max(API_ERROR_DELAY, asked_for)
    if isinstance(reply, InvalidResponse) and _is_final(status):
        return None
    return max(backoff(attempt, jitter), asked_for)


def _is_final(status: int | None) -> bool:
    """A redirect, or a 4xx that says nothing about time: the same request would get the same reply."""
    return status is not None and 300 <= status < 500 and status not in {408, 429}


def backoff(attempt: int, jitter: float) -> float:
    """Seconds after the ``attempt``-th failure: doubling from BASE to CAP, of which ``jitter`` takes off up to half."""
    return min(CAP, BASE * 2.0 ** min(attempt - 1, 16)) * (1.0 - jitter / 2)


def retry_after_seconds(text: str, now: datetime) -> float | None:
    """The ``Retry-After`` header, seconds or an HTTP date, in [0, RETRY_AFTER_CAP]; None where it makes no sense."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return MAX_RETRY_AFTER if len(text) > 9 else min(float(text), MAX_RETRY_AFTER)
    date = http_date(text)
    return None if date is None else min(max((date - now).total_seconds(), 0.0), MAX_RETRY_AFTER)


def http_date(text: str) -> datetime | None:
    """An HTTP date (``Date``, ``Retry-After``) as aware UTC; None where it is not one."""
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
