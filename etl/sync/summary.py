"""What a sync and a plan say to people: of one account, and of several that went side by side."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from etl.errors import ChecksFailedError, InterruptedRunError

if TYPE_CHECKING:
    from etl.sync.results import AccountOutcome, FleetResult, Forecast, Summary

NAME = "anticaptcha-etl"
SHOWN = 10
"""Accounts that a line spells out."""


def count(number: int, noun: str) -> str:
    """``1 day``, ``2,000 days``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ---------------------------------------------------------------- one account


def lines(summary: "Summary", *, verbose: bool = False) -> Iterator[str]:
    """What one account's sync did, and what to do next."""
    yield from _told(summary, verbose=verbose)
    onward = {1: "sync", ChecksFailedError.exit_code: "check"}.get(summary.exit_code, "status")
    yield f"next: {NAME} {onward}"


def _told(summary: "Summary", *, verbose: bool) -> Iterator[str]:
    retries = f", {summary.retries:,} of them retries" if summary.retries else ""
    least = (
        f" ({summary.requests / summary.lower_bound:.2f} times the least possible)"
        if verbose and summary.lower_bound
        else ""
    )
    yield f"{summary.account}: {count(summary.days, 'day')}, {count(summary.requests, 'request')}{retries}{least}"
    yield f"  read      {summary.money:,.2f} USD on these days"
    again = f", {summary.facts_unchanged:,} read again unchanged" if summary.facts_unchanged else ""
    yield f"  facts     {summary.facts_inserted:,} new, {summary.facts_changed:,} changed{again}"
    yield from (f"  {line}" for line in _left_over(summary))
    yield from (f"  {finding.severity}: {finding.message}" for finding in summary.findings)


def _left_over(summary: "Summary") -> Iterator[str]:
    """What the sync could not do, or could not use."""
    if summary.rejections:
        yield f"rejected  {count(summary.rejections, 'record')}; the view spending_rejections has them with their reasons"
    if summary.windows_failed:
        yield f"failed    {count(summary.windows_failed, 'window')}; the next sync asks them again; see: {NAME} status"
    if summary.windows_left:
        yield f"left      at least {count(summary.windows_left, 'day')} for the next sync"
    yield from summary.messages


def format_plan(forecast: "Forecast") -> Iterator[str]:
    """What one account's sync would ask for, and how to have it ask."""
    yield from _forecast(forecast)
    yield f"next: {NAME} sync"


def _forecast(forecast: "Forecast") -> Iterator[str]:
    spared = forecast.at_least < forecast.days  # what is held already may do
    yield f"{forecast.account}: {count(forecast.days, 'day')} to look at{'; some need no request' if spared else ''}"
    yield f"  requests  {_between(forecast.at_least, forecast.at_most, '{:,}')}"
    if forecast.minutes_at_least is not None:
        yield f"  minutes   {_between(forecast.minutes_at_least, forecast.minutes_at_most, '{:,.1f}')} at the present --rate"
    yield from (f"  {note}" for note in forecast.notes)


def _between(low: float, high: float | None, form: str) -> str:
    if high is None:
        return f"at least {form.format(low)}"
    return form.format(low) if low == high else f"{form.format(low)} to {form.format(high)}"


# ---------------------------------------------------------------- several accounts

_HEAD = ("account", "exit code", "days", "requests", "new", "changed", "USD read")


def format_fleet_result(together: "FleetResult", exit_code: int, *, wanting_alone: bool = False) -> Iterator[str]:
    """A row for each account (``wanting_alone``: that wants a person), their sums, what is to be told of each, what to do next."""
    shown = [one for one in together.ended if one.needs_attention or not wanting_alone]
    yield from _table([_HEAD, *map(_row, shown), _sums(together, exit_code)])
    if together.not_begun:
        yield f"not begun: {_some(together.not_begun)}"
    for one in shown:
        yield from account_lines(one)
    yield f"next: {NAME} {_onward(together, exit_code)}"


def account_lines(ended: "AccountOutcome") -> Iterator[str]:
    """What is to be told of one account beside its row: what went wrong, what is left over, what wants a person."""
    told: list[str] = []
    if ended.problem:
        told += [
            f"error: {ended.problem.message}",
            *([f"what now: {ended.problem.hint}"] if ended.problem.hint else []),
        ]
    if ended.defect:
        told += ["error: a defect of the program; its log has the traceback"]
    if ended.summary:
        told += _left_over(ended.summary)
        told += [f"{one.severity}: {one.message}" for one in ended.summary.findings if one.severity != "note"]
    yield from (f"{ended.account}: {line}" for line in told)


def sums(summaries: Iterable["Summary"]) -> dict[str, int | Decimal]:
    """The counts of several accounts together, by the names they have in one's summary."""
    every = list(summaries)
    names = (
        "days", "requests", "retries", "windows_good", "windows_failed", "windows_left", "facts_inserted", "facts_changed",
        "facts_unchanged", "rejections",
    )  # fmt: skip
    counts: dict[str, int | Decimal] = {name: sum(getattr(one, name) for one in every) for name in names}
    return counts | {"money": sum((one.money for one in every), Decimal(0))}


def _row(ended: "AccountOutcome") -> tuple[str, ...]:
    return (ended.account, str(ended.exit_code), *(_counts([ended.summary]) if ended.summary else [""] * 5))


def _sums(together: "FleetResult", exit_code: int) -> tuple[str, ...]:
    number = len(together.ended) + len(together.not_begun)
    return (count(number, "account"), str(exit_code), *_counts(together.summaries))


def _counts(summaries: Sequence["Summary"]) -> list[str]:
    summed = sums(summaries)
    whole = [f"{summed[name]:,}" for name in ("days", "requests", "facts_inserted", "facts_changed")]
    return [*whole, f"{summed['money']:,.2f}"]


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _onward(together: "FleetResult", exit_code: int) -> str:
    """What mends the gravest, or goes on."""
    if exit_code in (1, InterruptedRunError.exit_code):
        return "sync --all"
    if exit_code in (0, ChecksFailedError.exit_code):
        return "check" if exit_code else "status"
    gravest = next((one.account for one in together.ended if one.exit_code == exit_code), None)
    return f"doctor --account {gravest}" if gravest else "doctor"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def format_fleet_plan(
    forecasts: Sequence["Forecast"], failed: Sequence["AccountOutcome"], rate: float
) -> Iterator[str]:
    """What the sync of each account would ask for, of which that cannot be said and why, and the sum at one ``rate`` for all."""
    for forecast in forecasts:
        yield from _forecast(forecast)
    for ended in failed:
        yield from account_lines(ended)
    at_least, at_most = sum(one.at_least for one in forecasts), [one.at_most for one in forecasts]
    most = None if None in at_most else sum(filter(None, at_most))
    yield f"{count(len(forecasts), 'account')}: {count(sum(one.days for one in forecasts), 'day')} to look at"
    yield f"  requests  {_between(at_least, most, '{:,}')}"
    if rate:
        minutes = None if most is None else most / rate / 60
        yield f"  minutes   {_between(at_least / rate / 60, minutes, '{:,.1f}')} at the present --rate"
    yield f"next: {NAME} sync --all"
