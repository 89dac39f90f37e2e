"""Run the data-quality checks and format their results."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from etl.clock import Clock
from etl.models import Severity
from etl.outputs.accounts import select_accounts
from etl.outputs.serialize import as_json, plain
from etl.warehouse import checks
from etl.warehouse.checks import CheckRun
from etl.warehouse.migrate import require_readable
from etl.warehouse.reading import open_for_reading

_MOST_SEVERE_FIRST = (Severity.BLOCKING, Severity.WARNING, Severity.INFO)


class CheckReport(NamedTuple):
    """Results of all checks. ``account`` is None for all accounts."""

    warehouse: str
    now: datetime
    account: str | None
    checked: CheckRun

    @property
    def is_blocking(self) -> bool:
        return self._has(Severity.BLOCKING)

    @property
    def needs_attention(self) -> bool:
        return self.is_blocking or self._has(Severity.WARNING)

    def _has(self, severity: Severity) -> bool:
        return any(failure.check.severity is severity for failure in self.checked.failures)


def run_checks(url: str, account: str | None, checks_folder: Path | None, clock: Clock, *, wait: float) -> CheckReport:
    """Run all checks, and the user's own in ``checks_folder``, on one account or all. Nothing is written.

    Raises UsageError for an unknown account; WarehouseError if the
    warehouse does not exist, is not readable, or stays locked for longer than ``wait`` seconds.
    """
    with open_for_reading(url, wait=wait, clock=clock) as reader:
        require_readable(reader)
        now = clock.now()
        select_accounts(reader, account)
        checked = checks.run(reader, now, account)
        if checks_folder:
            of_user = checks.run_of_user(reader, now, account, checks_folder)
            checked = CheckRun(checked.number + of_user.number, checked.failures + of_user.failures)
        return CheckReport(reader.name, now, account, checked)


def as_text(report: CheckReport, width: int) -> str:
    """The report for a terminal, the most severe failures first."""
    return "\n".join(_lines(report, width)) + "\n"


def _lines(report: CheckReport, width: int) -> Iterator[str]:
    accounts = "all accounts" if report.account is None else f"account {report.account}"
    yield f"{report.warehouse}, {accounts}, {report.now:%Y-%m-%d %H:%M} UTC"
    counts = []
    for severity in _MOST_SEVERE_FIRST:
        failures = [failure for failure in report.checked.failures if failure.check.severity is severity]
        if not failures:
            continue
        counts.append(f"{len(failures)} {severity}")
        yield f"\n{severity}"
        for failure in failures:
            yield _wrapped(f"FAIL {failure.check.name}: {failure.message}", 2, width)
            yield _wrapped(f"expected: {failure.check.sentence}", 4, width)
            if failure.check.hint:
                yield _wrapped(f"hint: {failure.check.hint}", 4, width)
    number = len(report.checked.failures)
    by_severity = f": {', '.join(counts)}" if counts else ""
    yield f"\n{report.checked.number} checks, {number} finding{'' if number == 1 else 's'}{by_severity}"


def _wrapped(text: str, indent: int, width: int) -> str:
    first, following = " " * indent, " " * (indent + 2)
    return fill(
        text, width, initial_indent=first, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )


def to_json(report: CheckReport) -> str:
    """The report as JSON. Each failure lists at most 1,000 rows; ``has_more`` is true if there are others.

    Keys may be added, never renamed.
    """
    findings = [
        {
            "check": failure.check.name,
            "severity": failure.check.severity.value,
            "sentence": failure.check.sentence,
            "told": failure.message,
            "remedy": failure.check.hint,
            "day": failure.day,
            "rows": list(map(dict, failure.rows)),
            "has_more": failure.has_more,
        }
        for failure in report.checked.failures
    ]
    fields = {
        "warehouse": report.warehouse,
        "now": report.now,
        "account": report.account,
        "checks": report.checked.number,
        "findings": findings,
    }
    return as_json(plain(fields)) + "\n"
