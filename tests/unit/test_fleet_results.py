"""What several accounts come to: their order, their one exit code, and what is said of them."""

import logging
from datetime import UTC, datetime
from decimal import Decimal

from etl import logging_setup, progress
from etl.errors import AccountRejectedError, UsageError
from etl.models import Finding, Severity
from etl.sync.results import AccountOutcome, FleetProgress, FleetResult, Forecast, Summary
from etl.sync.fleet import order
from etl.sync.summary import format_fleet_plan, format_fleet_result, sums

NOTE = Finding("one", Severity.NOTE, "as it should be")
WARNING = Finding("two", Severity.WARNING, "look at this")


def at(day: int) -> datetime:
    return datetime(2026, 11, day, tzinfo=UTC)


def good(name: str, code: int = 0, **more: object) -> AccountOutcome:
    return AccountOutcome(name, code, summary=Summary(name, code, **more))  # type: ignore[arg-type]  # by name


# ---------------------------------------------------------------- the order


def test_who_never_finished_a_sync_is_first_and_then_who_has_waited_longest() -> None:
    finished = {"a": at(22), "b": at(20), "d": at(21)}
    assert order(["a", "b", "c", "d", "e"], finished) == ["c", "e", "b", "d", "a"]


def test_who_has_waited_equally_long_goes_as_the_toml_has_it() -> None:
    assert order(["z", "y", "x"], {}) == ["z", "y", "x"]
    assert order(["z", "y", "x"], dict.fromkeys("xyz", at(22))) == ["z", "y", "x"]


# ---------------------------------------------------------------- the end

SHOP = good(
    "shop", days=31, requests=1040, facts_inserted=12000, facts_changed=3, money=Decimal("1234.567"), findings=(NOTE,)
)
LAB = good(
    "lab",
    1,
    days=2,
    requests=60,
    windows_failed=2,
    money=Decimal("0.5"),
    findings=(WARNING,),
    messages=("stopped: why",),
)
REFUSED = AccountOutcome("old", 3, problem=AccountRejectedError("the API refused the account: gone", "mend it"))
INTERNAL_ERROR = AccountOutcome("odd", 1, defect=ZeroDivisionError())
ALL = FleetResult((SHOP, LAB, REFUSED, INTERNAL_ERROR))


def test_every_account_has_a_row_and_what_is_to_be_told_stands_below_with_its_name() -> None:
    assert list(format_fleet_result(ALL, ALL.exit_code)) == [
        "account     exit code  days  requests     new  changed  USD read",
        "shop                0    31     1,040  12,000        3  1,234.57",
        "lab                 1     2        60       0        0      0.50",
        "old                 3",
        "odd                 1",
        "4 accounts          3    33     1,100  12,000        3  1,235.07",
        "lab: failed    2 windows; the next sync asks them again; see: anticaptcha-etl status",
        "lab: stopped: why",
        "lab: warning: look at this",
        "old: error: the API refused the account: gone",
        "old: what now: mend it",
        "odd: error: a defect of the program; its log has the traceback",
        "next: anticaptcha-etl doctor --account old",
    ]


def test_who_wants_nobody_is_left_out_where_only_those_are_to_be_shown_who_do() -> None:
    shown = list(format_fleet_result(ALL, 3, wanting_alone=True))
    assert not [line for line in shown if line.startswith("shop")]
    assert [line.split()[0] for line in shown[1:4]] == ["lab", "old", "odd"]


def test_the_next_command_follows_from_the_exit_code() -> None:
    ends = {code: list(format_fleet_result(FleetResult((good("a", code),)), code))[-1] for code in (0, 1, 5)}
    assert ends == {
        code: f"next: anticaptcha-etl {name}" for code, name in ((0, "status"), (1, "sync --all"), (5, "check"))
    }
    assert (
        list(format_fleet_result(FleetResult((good("a"),)), 4))[-1] == "next: anticaptcha-etl doctor"
    )  # not published


def test_an_interrupt_is_the_gravest_and_tells_who_did_not_begin() -> None:
    together = FleetResult((good("a"),), tuple(f"b{number}" for number in range(12)), was_interrupted=True)
    assert together.exit_code == 130
    assert list(format_fleet_result(together, 130))[2:] == [
        "13 accounts        130     0         0    0        0      0.00",
        "not begun: b0, b1, b2, b3, b4, b5, b6, b7, b8, b9 and 2 more",
        "next: anticaptcha-etl sync --all",
    ]


def test_no_account_at_all_is_no_trouble() -> None:
    assert FleetResult(()).exit_code == 0
    assert list(format_fleet_result(FleetResult(()), 0))[1].startswith("0 accounts")


def test_sums_have_the_names_of_one_summary() -> None:
    summed = sums(ALL.summaries)
    assert (summed["requests"], summed["windows_failed"], summed["money"]) == (1100, 2, Decimal("1235.067"))
    assert all(hasattr(SHOP.summary, name) for name in summed)


# ---------------------------------------------------------------- the plan


def test_a_plan_has_each_account_and_their_sum_at_the_one_rate() -> None:
    forecasts = [Forecast("a", 10, 600, 900, 2.0, 3.0), Forecast("b", 5, 600, 600, 2.0, 2.0)]
    failed = [AccountOutcome("c", 2, problem=UsageError("no such day", "mend it"))]
    assert list(format_fleet_plan(forecasts, failed, 5))[-7:] == [
        "  minutes   2.0 at the present --rate",
        "c: error: no such day",
        "c: what now: mend it",
        "2 accounts: 15 days to look at",
        "  requests  1,200 to 1,500",
        "  minutes   4.0 to 5.0 at the present --rate",
        "next: anticaptcha-etl sync --all",
    ]
    unknown = [*forecasts, Forecast("d", 5, 5, None, None, None)]
    assert "  requests  at least 1,205" in list(format_fleet_plan(unknown, (), 0))


# ---------------------------------------------------------------- meanwhile


def test_progress_of_all_is_one_sentence() -> None:
    assert progress.describe_all(FleetProgress(3, 12, 1234, 1, Decimal("12.345"))) == (
        "3 of 12 accounts · 1,234 requests · 1 row · $12.34"
    )


def test_a_text_line_of_an_account_beside_others_says_whose_it_is() -> None:
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "held", "created": 0.0})
    logging_setup.about(account="shop", run=1)
    try:
        assert logging_setup.TextFormatter(fleet=True).format(record) == "1970-01-01T00:00:00Z info     [shop] held"
        assert logging_setup.TextFormatter().format(record) == "1970-01-01T00:00:00Z info     held"
        logging_setup.about()
        assert logging_setup.TextFormatter(fleet=True).format(record) == "1970-01-01T00:00:00Z info     held"
    finally:
        logging_setup.about()
