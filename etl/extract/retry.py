"""Decide whether to retry a request and how long to wait first. Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from etl.models import ErrorScope
from etl.responses import ApiError, InvalidResponse, ParsedResponse, SuccessPayload

MAX_ATTEMPTS = 6
BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
API_ERROR_SECONDS = 5.0
"""The wait before the only retry of an API error: the vendor bans clients that repeat an error."""
MAX_RETRY_AFTER_SECONDS = 300.0


def retry_delay(
    reply: ParsedResponse,
    status: int | None,
    *,
    attempt: int,
    rejected_attempts: int,
    jitter: float,
    retry_after: float | None,
    final_codes: frozenset[str],
    is_usable: bool,
) -> float | None:
    """Return the seconds until the retry, or None if ``reply`` is final.

    ``attempt`` requests were sent so far; ``rejected_attempts`` of them returned an API error or unusable records.
    ``jitter`` is in [0, 1). ``final_codes`` are error codes that are not retried. ``is_usable``: all records are valid.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    minimum = retry_after or 0.0
    if isinstance(reply, SuccessPayload):
        return None if is_usable or rejected_attempts > 1 else max(API_ERROR_SECONDS, minimum)
    if isinstance(reply, ApiError) and reply.scope is not ErrorScope.TRANSIENT:
        is_final = reply.scope is not ErrorScope.WINDOW or reply.code in final_codes or rejected_attempts > 1
        return None if is_final else max(API_ERROR_SECONDS, minimum)
    if isinstance(reply, InvalidResponse) and _is_final(status):
        return None
    return max(backoff(attempt, jitter), minimum)


def _is_final(status: int | None) -> bool:
    """True for a redirect, or a 4xx other than 408 and 429: the same request would get the same response."""
    return status is not None and 300 <= status < 500 and status not in {408, 429}


def backoff(attempt: int, jitter: float) -> float:
    """Return the seconds to wait after the ``attempt``-th failure: they double, and ``jitter`` takes off up to half."""
    return min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 16)) * (1.0 - jitter / 2)


def retry_after_seconds(text: str, now: datetime) -> float | None:
    """Return the ``Retry-After`` header (seconds or an HTTP date), at most MAX_RETRY_AFTER_SECONDS; None if invalid."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return MAX_RETRY_AFTER_SECONDS if len(text) > 9 else min(float(text), MAX_RETRY_AFTER_SECONDS)
    date = http_date(text)
    return None if date is None else min(max((date - now).total_seconds(), 0.0), MAX_RETRY_AFTER_SECONDS)


def http_date(text: str) -> datetime | None:
    """Return an HTTP date (``Date``, ``Retry-After``) as aware UTC, or None if it is invalid."""
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
