"""Format the results of ``sync`` and ``plan`` for people: for one account, and for several."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from etl.errors import ChecksFailedError, InterruptedRunError

if TYPE_CHECKING:
    from etl.sync.results import AccountOutcome, FleetResult, RequestPlan, SyncResult

NAME = "anticaptcha-etl"

MAX_SHOWN = 10
"""Accounts listed by name in one line."""

TOTAL_FIELDS = (
    "days", "requests", "retries", "windows_good", "windows_failed", "windows_left", "facts_inserted", "facts_changed",
    "facts_unchanged", "hourly_values_new", "hourly_values_changed", "rejections",
)  # fmt: skip
"""Fields of SyncResult that are added up over accounts."""


def count(number: int, noun: str) -> str:
    """Return ``1 day``, ``2,000 days``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ---------------------------------------------------------------- one account


def format_result(result: "SyncResult", *, verbose: bool = False) -> Iterator[str]:
    """Describe one account's sync, and name the next command."""
    verb = "Partly synced" if result.windows_failed or result.windows_left else "Synced"
    verb = verb if result.days or not result.windows_failed else "Nothing synced for"
    days = count(result.days, "day")
    period = f"{result.first_day} to {result.last_day} ({days})" if result.first_day else days
    retries = f" ({count(result.retries, 'retry').replace('retrys', 'retries')})" if result.retries else ""
    yield f"{verb} {result.account}: {period}, {count(result.requests, 'request')}{retries}, {result.seconds:.1f} s"
    if verbose and result.lower_bound:
        yield f"  {result.requests / result.lower_bound:.2f} times the {result.lower_bound:,} requests needed at least"
    if result.days:
        yield f"  ${result.money:,.2f} spent on the days read"
        unchanged = f", {result.facts_unchanged:,} confirmed" if result.facts_unchanged else ""
        new = count(result.hourly_values_new, "new hourly value")
        yield f"  {new}, {result.hourly_values_changed:,} changed{unchanged}"
    yield from (f"  {line}" for line in _format_issues(result))
    yield from (f"  {finding.severity}: {finding.message}" for finding in result.findings)
    yield f"next: {NAME} { {1: 'sync', ChecksFailedError.exit_code: 'check'}.get(result.exit_code, 'status') }"


def _format_issues(result: "SyncResult") -> Iterator[str]:
    if result.rejections:
        yield f"{count(result.rejections, 'record')} rejected; the view spending_rejections has the reasons"
    if result.windows_failed:
        yield f"{count(result.windows_failed, 'window')} failed; the next sync requests them again (see {NAME} status)"
    if result.windows_left:
        yield f"at least {count(result.windows_left, 'day')} left for the next sync"
    yield from result.messages


def format_plan(plan: "RequestPlan") -> Iterator[str]:
    """Describe what one account's sync would request, and name the command that does it."""
    yield from _format_estimate(plan)
    yield f"next: {NAME} sync"


def _format_estimate(plan: "RequestPlan") -> Iterator[str]:
    some = "; some need no request" if plan.at_least < plan.days else ""
    yield f"Plan for {plan.account}: {count(plan.days, 'day')} to check{some}"
    yield f"  requests  {_range(plan.at_least, plan.at_most, '{:,}')}"
    if plan.minutes_at_least is not None:
        yield f"  minutes   {_range(plan.minutes_at_least, plan.minutes_at_most, '{:,.1f}')} at the current --rate"
    yield from (f"  note: {text}" for text in plan.hints)


def _range(low: float, high: float | None, style: str) -> str:
    if high is None:
        return f"at least {style.format(low)}"
    return style.format(low) if low == high else f"{style.format(low)} to {style.format(high)}"


# ---------------------------------------------------------------- several accounts

_HEADER = ("account", "exit code", "days", "requests", "new", "changed", "USD")


def format_fleet_result(fleet: "FleetResult", exit_code: int, *, only_attention: bool = False) -> Iterator[str]:
    """List the accounts as a table with totals, then their problems and the next command.

    ``only_attention`` leaves out accounts that need no attention.
    """
    shown = [outcome for outcome in fleet.outcomes if outcome.needs_attention or not only_attention]
    rows = [
        (outcome.account, str(outcome.exit_code), *(_numbers([outcome.result]) if outcome.result else [""] * 5))
        for outcome in shown
    ]
    accounts = count(len(fleet.outcomes) + len(fleet.not_started), "account")
    yield from _table([_HEADER, *rows, (accounts, str(exit_code), *_numbers(fleet.results))])
    if fleet.not_started:
        more = len(fleet.not_started) - MAX_SHOWN
        yield f"not started: {', '.join(fleet.not_started[:MAX_SHOWN])}{f' and {more:,} more' if more > 0 else ''}"
    for outcome in shown:
        yield from format_outcome(outcome)
    yield f"next: {NAME} {_next_command(fleet, exit_code)}"


def format_outcome(outcome: "AccountOutcome") -> Iterator[str]:
    """List one account's problems and findings, each line with the account's name."""
    lines: list[str] = []
    if outcome.problem:
        lines.append(f"error: {outcome.problem.message}")
        lines += [f"hint: {outcome.problem.hint}"] if outcome.problem.hint else []
    if outcome.crash:
        lines.append("error: internal error; the log has the traceback")
    if outcome.result:
        lines += _format_issues(outcome.result)
        lines += [f"{one.severity}: {one.message}" for one in outcome.result.findings if one.severity != "note"]
    yield from (f"{outcome.account}: {line}" for line in lines)


def total_counts(results: Iterable["SyncResult"]) -> dict[str, int | Decimal]:
    """Add up the counts of several accounts, under the names of SyncResult."""
    every = list(results)
    totals: dict[str, int | Decimal] = {name: sum(getattr(one, name) for one in every) for name in TOTAL_FIELDS}
    return totals | {"money": sum((one.money for one in every), Decimal(0))}


def _numbers(results: Sequence["SyncResult"]) -> list[str]:
    total = total_counts(results)
    names = ("days", "requests", "hourly_values_new", "hourly_values_changed")
    return [*(f"{total[name]:,}" for name in names), f"{total['money']:,.2f}"]


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _next_command(fleet: "FleetResult", exit_code: int) -> str:
    if exit_code in (1, InterruptedRunError.exit_code):
        return "sync --all"
    if exit_code in (0, ChecksFailedError.exit_code):
        return "check" if exit_code else "status"
    worst = next((outcome.account for outcome in fleet.outcomes if outcome.exit_code == exit_code), None)
    return f"doctor --account {worst}" if worst else "doctor"


def format_fleet_plan(plans: Sequence["RequestPlan"], failed: Sequence["AccountOutcome"], rate: float) -> Iterator[str]:
    """Describe each account's plan, the accounts that cannot be planned, and the total at the shared ``rate``."""
    for plan in plans:
        yield from _format_estimate(plan)
    for outcome in failed:
        yield from format_outcome(outcome)
    at_least, upper = sum(plan.at_least for plan in plans), [plan.at_most for plan in plans]
    at_most = None if None in upper else sum(filter(None, upper))
    yield f"Total for {count(len(plans), 'account')}: {count(sum(plan.days for plan in plans), 'day')} to check"
    yield f"  requests  {_range(at_least, at_most, '{:,}')}"
    if rate:
        minutes = None if at_most is None else at_most / rate / 60
        yield f"  minutes   {_range(at_least / rate / 60, minutes, '{:,.1f}')} at the current --rate"
    yield f"next: {NAME} sync --all"
