"""What the checks find, gathered once, then shown to people or to programs."""

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from etl.clock import Clock
from etl.models import Severity
from etl.outputs.accounts import chosen
from etl.outputs.serialize import as_json
from etl.warehouse import checks
from etl.warehouse.engine import name_of, open_warehouse
from etl.warehouse.migrate import require_readable

_GRAVEST_FIRST = (Severity.BLOCKING, Severity.WARNING, Severity.NOTE)


class CheckReport(NamedTuple):
    """What was looked at, when, and what was found. ``account`` is None for all of them."""

    warehouse: str
    now: datetime
    account: str | None
    checked: checks.CheckRun

    @property
    def is_blocking(self) -> bool:
        return self._has(Severity.BLOCKING)

    @property
    def needs_attention(self) -> bool:
        """Whether there is something to mend or to look at."""
        return self.is_blocking or self._has(Severity.WARNING)

    def _has(self, severity: Severity) -> bool:
        return any(broken.check.severity is severity for broken in self.checked.broken)


def gather(
    url: str, account: str | None, own: Path | None, clock: Clock, *, wait: float, since: date = date.min
) -> CheckReport:
    """Runs all checks on one account or on all, and those of the folder ``own`` with them; nothing can be written. Of hours and
    days those from ``since`` on are looked at.

    Raises UsageError for an account that the warehouse does not hold, WarehouseError for a warehouse that is not there, not
    readable, or held for longer than ``wait`` seconds.
    """
    engine = open_warehouse(url, read_only=True, wait=wait, clock=clock)
    require_readable(engine)
    now = clock.now()
    with engine.connect() as connection:
        chosen(connection, account)
        return CheckReport(name_of(engine.url), now, account, checks.run(connection, now, account, own, since))


# ---------------------------------------------------------------- showing


def as_text(checkup: CheckReport, width: int) -> str:
    """For a terminal of so many columns, the gravest first."""
    return "\n".join(_lines(checkup, width)) + "\n"


def _lines(checkup: CheckReport, width: int) -> Iterator[str]:
    whose = "all accounts" if checkup.account is None else f"account {checkup.account}"
    yield f"{checkup.warehouse}, {whose}, {checkup.now:%Y-%m-%d %H:%M} UTC"
    counts = []
    for severity in _GRAVEST_FIRST:
        found = [broken for broken in checkup.checked.broken if broken.check.severity is severity]
        if not found:
            continue
        counts.append(f"{len(found)} {severity}")
        yield f"\n{severity}"
        for broken in found:
            yield _wrapped(f"does not hold: {broken.check.name}: {broken.told}", 2, width)
            yield _wrapped(f"should hold: {broken.check.sentence}", 4, width)
            if broken.check.hint:
                yield _wrapped(f"what now: {broken.check.hint}", 4, width)
    number = len(checkup.checked.broken)
    summed = f": {', '.join(counts)}" if counts else ""
    yield f"\n{checkup.checked.number} checks, {number} finding{'' if number == 1 else 's'}{summed}"


def _wrapped(text: str, indent: int, width: int) -> str:
    first, others = " " * indent, " " * (indent + 2)
    return fill(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def to_json(checkup: CheckReport) -> str:
    """The same for programs. ``rows`` are at most 1,000, and ``has_more`` says that there are others. Keys are only ever added."""
    findings = [
        {
            "check": broken.check.name,
            "severity": broken.check.severity.value,
            "sentence": broken.check.sentence,
            "told": broken.told,
            "remedy": broken.check.hint,
            "day": broken.day,
            "rows": list(map(dict, broken.rows)),
            "has_more": broken.has_more,
        }
        for broken in checkup.checked.broken
    ]
    told = {
        "warehouse": checkup.warehouse,
        "now": checkup.now,
        "account": checkup.account,
        "checks": checkup.checked.number,
    }
    return as_json({**told, "findings": findings}) + "\n"
