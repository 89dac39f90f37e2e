from datetime import UTC, datetime

import pytest

from etl.extract.retry import MAX_ATTEMPTS, backoff, http_date, retry_after_seconds, retry_delay
from etl.models import ErrorScope
from etl.responses import ApiError, InvalidResponse, ParsedResponse, SuccessPayload, TransportError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONNECTION_RESET = TransportError("reset", "")
HTML_PAGE = InvalidResponse("html", "")


def api_error(scope: ErrorScope, code: str = "ERROR_X") -> ApiError:
    return ApiError(code, "", scope)


def delay(
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
        (CONNECTION_RESET, None),
        (HTML_PAGE, 200),
        (HTML_PAGE, 408),
        (HTML_PAGE, 429),
        (HTML_PAGE, 500),
        (HTML_PAGE, 503),
        (api_error(ErrorScope.TRANSIENT, "ERROR_NO_SLOT_AVAILABLE"), 200),
    ],
)
def test_temporary_failures_are_retried_up_to_six_requests(reply: ParsedResponse, status: int | None) -> None:
    delays = [delay(reply, status, attempt, rejected_attempts=attempt) for attempt in range(1, MAX_ATTEMPTS + 1)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, None]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (SuccessPayload(()), 200),
        (HTML_PAGE, 302),
        (HTML_PAGE, 400),
        (HTML_PAGE, 403),
        (HTML_PAGE, 404),
        (api_error(ErrorScope.ACCOUNT), 200),
        (api_error(ErrorScope.ACCOUNT), 503),
        (api_error(ErrorScope.SERIES), 200),
    ],
)
def test_permanent_results_are_not_retried(reply: ParsedResponse, status: int) -> None:
    assert delay(reply, status, rejected_attempts=1, retry_after=5.0) is None


def test_an_api_error_is_retried_once_after_five_seconds() -> None:
    assert delay(api_error(ErrorScope.WINDOW), rejected_attempts=1) == 5.0
    assert delay(api_error(ErrorScope.WINDOW), attempt=4, rejected_attempts=1) == 5.0
    assert delay(api_error(ErrorScope.WINDOW), attempt=2, rejected_attempts=2) is None


def test_unusable_records_are_retried_once_after_five_seconds() -> None:
    assert delay(SuccessPayload(()), rejected_attempts=1, is_usable=False) == 5.0
    assert delay(SuccessPayload(()), attempt=4, rejected_attempts=1, is_usable=False) == 5.0
    assert delay(SuccessPayload(()), attempt=2, rejected_attempts=2, is_usable=False) is None
    assert delay(SuccessPayload(()), attempt=MAX_ATTEMPTS, rejected_attempts=1, is_usable=False) is None


def test_a_final_error_code_is_not_retried() -> None:
    assert delay(api_error(ErrorScope.WINDOW), rejected_attempts=1, final_codes=frozenset({"ERROR_X"})) is None


def test_retry_after_only_lengthens_the_delay() -> None:
    assert delay(HTML_PAGE, 429, retry_after=30.0) == 30.0
    assert delay(HTML_PAGE, 429, attempt=4, retry_after=0.0) == 8.0
    assert delay(api_error(ErrorScope.WINDOW), 429, rejected_attempts=1, retry_after=30.0) == 30.0


def test_backoff_doubles_up_to_its_maximum_and_jitter_halves_it_at_most() -> None:
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
def test_retry_after_is_seconds_or_a_date_and_at_most_five_minutes(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(text, NOW) == seconds


def test_an_http_date_is_read_as_utc() -> None:
    assert http_date("Thu, 01 Jan 2026 00:00:00 GMT") == NOW
    assert http_date("yesterday") is None


def test_the_statuses_from_300_to_499_are_permanent_but_408_and_429() -> None:
    final = [status for status in range(100, 600) if delay(HTML_PAGE, status) is None]
    assert final == [status for status in range(300, 500) if status not in (408, 429)]


def test_only_a_response_with_a_final_status_is_final() -> None:
    for status, is_retried in (
        (None, True),
        (299, True),
        (300, False),
        (408, True),
        (429, True),
        (499, False),
        (500, True),
    ):
        assert (delay(InvalidResponse("bad", "bad"), status) is not None) is is_retried, status


def test_a_transport_error_is_retried_whatever_its_status() -> None:
    assert delay(CONNECTION_RESET, 404) is not None
