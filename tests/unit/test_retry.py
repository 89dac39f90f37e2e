from datetime import UTC, datetime

import pytest

from etl.extract.retry import MAX_ATTEMPTS, backoff, http_date, retry_after_seconds, retry_delay
from etl.models import ErrorScope
from etl.responses import ApiError, InvalidResponse, ParsedResponse, SuccessPayload, TransportError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = TransportError("reset", "")
PAGE = InvalidResponse("html", "")


def refusal(effect: ErrorScope, code: str = "ERROR_X") -> ApiError:
    return ApiError(code, "", effect)


def ask_again(
    reply: ParsedResponse,
    status: int | None = 200,
    attempt: int = 1,
    rejected_attempts: int = 0,
    retry_after: float | None = None,
    final_codes: frozenset[str] = frozenset(),
    is_usable: bool = True,
) -> float | None:
    return retry_delay(
        reply,
        status,
        attempt=attempt,
        rejected_attempts=rejected_attempts,
        jitter=0.0,
        retry_after=retry_after,
        final_codes=final_codes,
        is_usable=is_usable,
    )


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (BROKEN, None),
        (PAGE, 200),
        (PAGE, 408),
        (PAGE, 429),
        (PAGE, 500),
        (PAGE, 503),
        (refusal(ErrorScope.TRANSIENT, "ERROR_NO_SLOT_AVAILABLE"), 200),
    ],
)
def test_trouble_on_the_way_is_waited_out_six_requests_long(reply: ParsedResponse, status: int | None) -> None:
    waits = [ask_again(reply, status, attempt, rejected_attempts=attempt) for attempt in range(1, MAX_ATTEMPTS + 1)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, None]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (SuccessPayload(()), 200),
        (PAGE, 302),
        (PAGE, 400),
        (PAGE, 403),
        (PAGE, 404),
        (refusal(ErrorScope.ACCOUNT), 200),
        (refusal(ErrorScope.ACCOUNT), 503),
        (refusal(ErrorScope.SERIES), 200),
    ],
)
def test_what_would_come_again_is_not_asked_again(reply: ParsedResponse, status: int) -> None:
    assert ask_again(reply, status, rejected_attempts=1, retry_after=5.0) is None


def test_an_api_error_gets_one_spaced_retry_whatever_came_between() -> None:
    assert ask_again(refusal(ErrorScope.WINDOW), rejected_attempts=1) == 5.0
    assert ask_again(refusal(ErrorScope.WINDOW), attempt=4, rejected_attempts=1) == 5.0
    assert ask_again(refusal(ErrorScope.WINDOW), attempt=2, rejected_attempts=2) is None


def test_records_that_cannot_be_used_get_one_spaced_retry_whatever_came_between() -> None:
    assert ask_again(SuccessPayload(()), rejected_attempts=1, is_usable=False) == 5.0
    assert ask_again(SuccessPayload(()), attempt=4, rejected_attempts=1, is_usable=False) == 5.0
    assert ask_again(SuccessPayload(()), attempt=2, rejected_attempts=2, is_usable=False) is None
    assert ask_again(SuccessPayload(()), attempt=MAX_ATTEMPTS, rejected_attempts=1, is_usable=False) is None


def test_a_final_codes_code_is_final_at_once() -> None:
    assert ask_again(refusal(ErrorScope.WINDOW), rejected_attempts=1, final_codes=frozenset({"ERROR_X"})) is None


def test_the_servers_own_wish_only_lengthens_the_wait() -> None:
    assert ask_again(PAGE, 429, retry_after=30.0) == 30.0
    assert ask_again(PAGE, 429, attempt=4, retry_after=0.0) == 8.0
    assert ask_again(refusal(ErrorScope.WINDOW), 429, rejected_attempts=1, retry_after=30.0) == 30.0


def test_backoff_doubles_up_to_its_cap_and_jitter_takes_off_at_most_half() -> None:
    assert [backoff(n, 0.0) for n in (1, 2, 6, 7, 8, 10_000)] == [1.0, 2.0, 32.0, 60.0, 60.0, 60.0]
    assert backoff(1, 0.999) == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("301", 300.0),
        ("9" * 5_000, 300.0),
        ("-5", None),
        ("1.5", None),
        ("\u0665", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
        ("Thu, 01 Jan 2026 01:00:30 +0100", 30.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 300.0),
        ("Thu, 99 Jan 2026 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None),
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_absurd(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(text, NOW) == seconds


def test_an_http_date_is_aware_utc() -> None:
    assert http_date("Thu, 01 Jan 2026 00:00:00 GMT") == NOW
    assert http_date("yesterday") is None
