"""The progress line, log lines and their formats."""

import json
import logging
import sys
from contextvars import Context
from datetime import date
from decimal import Decimal
from io import StringIO

import pytest

from etl import logging_setup, progress
from etl.sync.results import FleetProgress, Progress


def progress_after(days: int) -> Progress:
    return Progress(
        day=date(2026, 3, 1),
        days_done=days,
        days_planned=120,
        requests=1234,
        seconds=300,
        hourly_values=20_000,
        money=Decimal("12.345"),
        seconds_left=90,
    )


def test_progress_shows_days_done_rate_and_remaining_time() -> None:
    assert progress.describe(progress_after(30)) == (
        "back to 2026-03-01 · 30 of 120 days (25 %) · 1,234 requests (4.1/s) · 20,000 new values · $12.34 · about 2 min left"
    )
    assert progress.describe(Progress(days_done=1, days_planned=1, requests=1, hourly_values=1)) == (
        "1 of 1 day (100 %) · 1 request · 1 new value · $0.00"
    )


def test_progress_says_that_it_is_still_searching_for_the_first_day() -> None:
    searching = Progress(day=date(2026, 3, 1), days_done=30, requests=150, seconds=30)
    assert progress.describe(searching) == (
        "back to 2026-03-01 · 30 days · 150 requests (5.0/s) · 0 new values · $0.00 · still searching for the first day"
    )


def test_progress_counts_days_without_spend_at_the_end_of_the_search() -> None:
    searching = Progress(days_done=30, requests=150, days_without_spend=12, empty_days=90)
    assert progress.describe(searching).endswith(" · 12 of 90 days without spend")


def test_progress_of_several_accounts_is_one_line() -> None:
    fleet = FleetProgress(3, 12, requests=1234, seconds=100, hourly_values=1, money=Decimal("12.345"))
    assert progress.describe_fleet(fleet) == "3 of 12 accounts · 1,234 requests (12.3/s) · 1 new value · $12.34"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_a_duration_has_the_unit_people_would_use(seconds: float, text: str) -> None:
    assert progress.format_duration(seconds) == text


def test_log_lines_appear_above_the_progress_line_and_erase_removes_it() -> None:
    terminal = StringIO()
    line = progress.ProgressLine(terminal)
    line.write("before\n")
    line.draw("30 days")
    line.write("a warning\n")
    line.erase()
    line.erase()
    assert terminal.getvalue() == "before\n\r\x1b[2K30 days\r\x1b[2Ka warning\n30 days\r\x1b[2K"


def test_the_progress_line_is_drawn_at_most_ten_times_a_second() -> None:
    times = iter([0.0, 0.0, 0.0, 0.05, 0.1, 0.1])
    terminal = StringIO()
    report = progress.terminal_reporter(progress.ProgressLine(terminal), lambda: next(times), progress.describe)
    for days in (1, 2, 3):
        report(progress_after(days))
    assert [days for days in (1, 2, 3) if f" {days} of" in terminal.getvalue()] == [1, 3]


def test_a_sync_of_five_minutes_logs_six_progress_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    report = progress.log_reporter(lambda: now[0], progress.describe, lambda current: current.days_done)
    logged_at: list[int] = []
    with caplog.at_level(logging.INFO, "etl"):
        for second in range(301):
            now[0] = float(second)
            report(progress_after(second))
            if len(caplog.records) > len(logged_at):
                logged_at.append(second)
    assert logged_at == [10, 30, 70, 130, 190, 250]
    assert all("left" in message for message in caplog.messages)


def test_no_line_is_logged_while_nothing_progresses(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    report = progress.log_reporter(lambda: now[0], progress.describe, lambda current: current.days_done)
    with caplog.at_level(logging.INFO, "etl"):
        for second in range(100):
            now[0] = float(second)
            report(progress_after(7))
    assert len(caplog.records) == 1


def test_text_lines_have_utc_times_and_json_lines_extras_and_traceback() -> None:
    fields = {"name": "etl.x", "levelname": "WARNING", "msg": "%d left", "args": (3,), "created": 0.0}
    record = logging.makeLogRecord({**fields, "window": date(2026, 3, 1)})
    assert logging_setup.TextFormatter().format(record) == "1970-01-01T00:00:00Z warning  3 left"
    assert json.loads(Context().run(logging_setup.JsonFormatter().format, record)) == {
        "time": "1970-01-01T00:00:00Z",
        "level": "warning",
        "logger": "etl.x",
        "message": "3 left",
        "window": "2026-03-01",
    }
    try:
        raise ValueError("bad")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert json.loads(logging_setup.JsonFormatter().format(record))["exception"].endswith("ValueError: bad")


def test_text_lines_name_the_account_only_when_several_are_synced() -> None:
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "loaded", "created": 0.0})

    def formatted(*, fleet: bool) -> str:
        return logging_setup.TextFormatter(fleet=fleet).format(record)

    def check() -> None:
        logging_setup.bind_log_context(account="shop", run=1)
        assert formatted(fleet=True) == "1970-01-01T00:00:00Z info     [shop] loaded"
        assert formatted(fleet=False) == "1970-01-01T00:00:00Z info     loaded"
        logging_setup.bind_log_context()
        assert formatted(fleet=True) == "1970-01-01T00:00:00Z info     loaded"

    Context().run(check)
