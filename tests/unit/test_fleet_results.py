"""Results of one account and of several: order, exit code, summaries, plans."""

from datetime import UTC, date, datetime
from decimal import Decimal

from etl.errors import AccountRejectedError, UsageError
from etl.models import Finding, Severity
from etl.sync.fleet import least_recent_first
from etl.sync.results import AccountOutcome, FleetResult, RequestPlan, SyncResult
from etl.sync.summary import format_fleet_plan, format_fleet_result, format_plan, format_result, total_counts

NOTE = Finding("one", Severity.INFO, "as expected")
WARNING = Finding("two", Severity.WARNING, "look at this")


def at(day: int) -> datetime:
    return datetime(2026, 11, day, tzinfo=UTC)


def outcome(name: str, code: int = 0, **fields: object) -> AccountOutcome:
    return AccountOutcome(name, code, result=SyncResult(name, code, **fields))  # type: ignore[arg-type]  # by name


# ---------------------------------------------------------------- order


def test_accounts_never_synced_come_first_then_the_least_recent() -> None:
    last_syncs = {"a": at(22), "b": at(20), "d": at(21)}
    assert least_recent_first(["a", "b", "c", "d", "e"], last_syncs) == ["c", "e", "b", "d", "a"]


def test_equal_waits_keep_the_order_of_the_toml() -> None:
    assert least_recent_first(["z", "y", "x"], {}) == ["z", "y", "x"]
    assert least_recent_first(["z", "y", "x"], dict.fromkeys("xyz", at(22))) == ["z", "y", "x"]


# ---------------------------------------------------------------- one account


def test_a_summary_has_period_requests_spend_and_new_values() -> None:
    result = SyncResult(
        "default",
        0,
        seconds=10.24,
        requests=817,
        retries=2,
        lower_bound=800,
        days=211,
        first_day=date(2026, 4, 30),
        last_day=date(2026, 11, 26),
        money=Decimal("17210.82"),
        hourly_values_new=13_204,
    )
    assert list(format_result(result)) == [
        "Synced default: 2026-04-30 to 2026-11-26 (211 days), 817 requests (2 retries), 10.2 s",
        "  $17,210.82 spent on the days read",
        "  13,204 new hourly values, 0 changed",
        "next: anticaptcha-etl status",
    ]
    assert list(format_result(result, verbose=True))[1] == "  1.02 times the 800 requests needed at least"


def test_a_summary_names_what_failed_and_what_is_left() -> None:
    result = SyncResult("a", 1, days=1, requests=1, rejections=1, windows_failed=2, windows_left=3, findings=(NOTE,))
    assert list(format_result(result)) == [
        "Partly synced a: 1 day, 1 request, 0.0 s",
        "  $0.00 spent on the days read",
        "  0 new hourly values, 0 changed",
        "  1 record rejected; the view spending_rejections has the reasons",
        "  2 windows failed; the next sync requests them again (see anticaptcha-etl status)",
        "  at least 3 days left for the next sync",
        "  note: as expected",
        "next: anticaptcha-etl sync",
    ]


def test_the_next_command_follows_from_the_exit_code() -> None:
    last = [list(format_result(SyncResult("a", code)))[-1] for code in (0, 1, 5)]
    assert last == [f"next: anticaptcha-etl {name}" for name in ("status", "sync", "check")]


# ---------------------------------------------------------------- several accounts

SHOP = outcome(
    "shop",
    days=31,
    requests=1040,
    hourly_values_new=12000,
    hourly_values_changed=3,
    money=Decimal("1234.567"),
    findings=(NOTE,),
)
LAB = outcome(
    "lab",
    1,
    days=2,
    requests=60,
    windows_failed=2,
    money=Decimal("0.5"),
    findings=(WARNING,),
    messages=("stopped: why",),
)
REFUSED = AccountOutcome("old", 3, problem=AccountRejectedError("the API refused the account: gone", "fix it"))
CRASHED = AccountOutcome("odd", 1, crash=ZeroDivisionError())
FLEET = FleetResult((SHOP, LAB, REFUSED, CRASHED))


def test_each_account_has_a_row_and_its_problems_below_the_table() -> None:
    assert list(format_fleet_result(FLEET, FLEET.exit_code)) == [
        "account     exit code  days  requests     new  changed       USD",
        "shop                0    31     1,040  12,000        3  1,234.57",
        "lab                 1     2        60       0        0      0.50",
        "old                 3",
        "odd                 1",
        "4 accounts          3    33     1,100  12,000        3  1,235.07",
        "lab: 2 windows failed; the next sync requests them again (see anticaptcha-etl status)",
        "lab: stopped: why",
        "lab: warning: look at this",
        "old: error: the API refused the account: gone",
        "old: hint: fix it",
        "odd: error: internal error; the log has the traceback",
        "next: anticaptcha-etl doctor --account old",
    ]


def test_only_attention_leaves_out_accounts_without_problems() -> None:
    shown = list(format_fleet_result(FLEET, 3, only_attention=True))
    assert not [line for line in shown if line.startswith("shop")]
    assert [line.split()[0] for line in shown[1:4]] == ["lab", "old", "odd"]


def test_the_next_command_of_several_accounts_follows_from_the_exit_code() -> None:
    last = {code: list(format_fleet_result(FleetResult((outcome("a", code),)), code))[-1] for code in (0, 1, 5)}
    assert last == {
        code: f"next: anticaptcha-etl {name}" for code, name in ((0, "status"), (1, "sync --all"), (5, "check"))
    }
    not_published = list(format_fleet_result(FleetResult((outcome("a"),)), 4))
    assert not_published[-1] == "next: anticaptcha-etl doctor"


def test_an_interrupt_wins_and_lists_the_accounts_that_did_not_start() -> None:
    fleet = FleetResult((outcome("a"),), tuple(f"b{number}" for number in range(12)), was_interrupted=True)
    assert fleet.exit_code == 130
    assert list(format_fleet_result(fleet, 130))[2:] == [
        "13 accounts        130     0         0    0        0  0.00",
        "not started: b0, b1, b2, b3, b4, b5, b6, b7, b8, b9 and 2 more",
        "next: anticaptcha-etl sync --all",
    ]


def test_no_accounts_is_success() -> None:
    assert FleetResult(()).exit_code == 0
    assert list(format_fleet_result(FleetResult(()), 0))[1].startswith("0 accounts")


def test_totals_have_the_names_of_one_result() -> None:
    totals = total_counts(FLEET.results)
    assert (totals["requests"], totals["windows_failed"], totals["money"]) == (1100, 2, Decimal("1235.067"))
    assert all(hasattr(SHOP.result, name) for name in totals)


# ---------------------------------------------------------------- plans


def test_a_plan_says_when_some_days_need_no_request() -> None:
    lines = [list(format_plan(RequestPlan("a", days, 94, None, None, None, ("a note",)))) for days in (101, 94)]
    assert lines[0] == [
        "Plan for a: 101 days to check; some need no request",
        "  requests  at least 94",
        "  note: a note",
        "next: anticaptcha-etl sync",
    ]
    assert lines[1][0] == "Plan for a: 94 days to check"


def test_a_fleet_plan_has_each_account_and_the_total_at_the_shared_rate() -> None:
    plans = [RequestPlan("a", 10, 600, 900, 2.0, 3.0), RequestPlan("b", 5, 600, 600, 2.0, 2.0)]
    failed = [AccountOutcome("c", 2, problem=UsageError("no such day", "fix it"))]
    assert list(format_fleet_plan(plans, failed, 5))[-7:] == [
        "  minutes   2.0 at the current --rate",
        "c: error: no such day",
        "c: hint: fix it",
        "Total for 2 accounts: 15 days to check",
        "  requests  1,200 to 1,500",
        "  minutes   4.0 to 5.0 at the current --rate",
        "next: anticaptcha-etl sync --all",
    ]
    unknown = [*plans, RequestPlan("d", 5, 5, None, None, None)]
    assert "  requests  at least 1,205" in list(format_fleet_plan(unknown, (), 0))
