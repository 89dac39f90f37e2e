"""What the warehouse holds and how fresh it is: gathered once, then shown to people or to programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from itertools import pairwise

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.models import DAY, HOUR, ZERO_MEASURES, ChangeReason, Dimension, Finding, Measures, Severity
from etl.outputs.accounts import chosen
from etl.outputs.serialize import as_json
from etl.warehouse.engine import name_of
from etl.warehouse.migrate import require_readable
from etl.warehouse.schema import day_coverage, facts, findings, over_allocated_hours, revisions, runs, series, snapshots

RUNS_SHOWN = 10
_ROOMY, _UNBROKEN = 100, 1_000
_SPANS_SHOWN = 6
_STATUSES = ("final", "open", "missing", "failed")


@dataclass(frozen=True, slots=True)
class Days:
    """Days in a row, both ends included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Run:
    """One sync or replay of an account, as ``command`` says. ``ended_at`` and ``exit_code`` are None while it runs, and for good
    when it was killed; ``facts_unchanged`` is None where that version did not count them."""

    run: int
    command: str
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    requests: int
    retries: int
    windows_good: int
    windows_failed: int
    windows_left: int
    facts_inserted: int
    facts_changed: int
    rejections: int
    facts_unchanged: int | None


@dataclass(frozen=True, slots=True)
class Corrections:
    """Hours that the API changed after they had ended. ``oldest_hours``: from the end of the hour that was oldest when its
    change was read until then; ``lookback``: the days that would have caught every change seen so far."""

    hours: int
    oldest_hours: float
    lookback: int


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account.

    ``newest_hour`` is the last hour of the total that had ended when it was asked, ``freshness_hours`` the time from its
    end until now. ``unattributed`` are final days whose total the believed queues do not explain, ``unfinished`` closed ones of which
    queues are still to be asked, ``over_allocated_days`` closed ones with hours in which queues, apps or IPs add up to more than the
    total. ``gaps`` are days inside the history without a total. ``spent`` and ``unattributed`` are sums over all days held.
    ``findings`` are those of the last sync.
    """

    account: str
    first_day: date | None
    last_day: date | None
    days: Mapping[str, int]
    gaps: tuple[Days, ...]
    failed: tuple[Days, ...]
    open: tuple[Days, ...]
    unattributed_days: tuple[Days, ...]
    unfinished: tuple[Days, ...]
    over_allocated_days: tuple[Days, ...]
    newest_hour: datetime | None
    freshness_hours: float | None
    spent: Measures
    unattributed: Measures
    corrections: Corrections | None
    runs: tuple[Run, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Status:
    warehouse: str
    now: datetime
    accounts: tuple[AccountStatus, ...]


# ---------------------------------------------------------------- gathering


def gather(engine: sa.Engine, account: str | None, now: datetime) -> Status:
    """The status of one account, or of all. Raises UsageError for an account the warehouse does not hold."""
    require_readable(engine)
    with engine.connect() as connection:
        held = tuple(_account(connection, number, name, now) for name, number in chosen(connection, account).items())
        return Status(name_of(engine.url), now, held)


def _account(connection: sa.Connection, account_id: int, name: str, now: datetime) -> AccountStatus:
    rows = connection.execute(
        sa.select(day_coverage).where(day_coverage.c.account_id == account_id).order_by(day_coverage.c.day)
    ).all()
    by_status = {status: [row.day for row in rows if row.status == status] for status in _STATUSES}
    newest = _newest_hour(connection, account_id)
    recent = _runs(connection, account_id)
    return AccountStatus(
        account=name,
        first_day=rows[0].day if rows else None,
        last_day=rows[-1].day if rows else None,
        days={status: len(found) for status, found in by_status.items()},
        gaps=in_a_row({*by_status["missing"], *_absent([row.day for row in rows])}),
        failed=in_a_row(by_status["failed"]),
        open=in_a_row(by_status["open"]),
        unattributed_days=in_a_row(row.day for row in rows if row.status == "final" and not row.is_explained),
        unfinished=in_a_row(row.day for row in rows if row.status == "open" and row.is_closed and not row.is_explained),
        over_allocated_days=in_a_row(
            {row.day for row in rows if row.is_closed} & _contradicted(connection, account_id)
        ),
        newest_hour=newest,
        freshness_hours=None if newest is None else (now - newest - HOUR) / HOUR,
        spent=_sum((row.volume, row.money) for row in rows),
        unattributed=_sum((row.unattributed_volume, row.unattributed_money) for row in rows),
        corrections=_corrections(connection, account_id),
        runs=recent,
        findings=_findings(connection, account_id),
    )


def _contradicted(connection: sa.Connection, account_id: int) -> set[date]:
    found = connection.execute(
        sa.select(over_allocated_hours.c.day).where(over_allocated_hours.c.account_id == account_id).distinct()
    )
    return set(found.scalars())


def _newest_hour(connection: sa.Connection, account_id: int) -> datetime | None:
    """An hour read while it ran is not held yet, however long ago it ended."""
    newest = connection.execute(
        sa.select(sa.func.max(facts.c.hour_start))
        .join(series, (series.c.account_id == facts.c.account_id) & (series.c.series_id == facts.c.series_id))
        .join(day_coverage, (day_coverage.c.account_id == facts.c.account_id) & (day_coverage.c.day == facts.c.day))
        .where(
            facts.c.account_id == account_id,
            series.c.dimension == Dimension.TOTAL,
            facts.c.hour_start <= day_coverage.c.fetched_at - HOUR,
        )
    ).scalar()
    return _utc(newest)


def _corrections(connection: sa.Connection, account_id: int) -> Corrections | None:
    """Of totals and queues alike: either shows that the service changed an hour."""
    changes = connection.execute(
        sa.select(revisions.c.hour_start, revisions.c.day, sa.func.max(snapshots.c.requested_at))
        .join(
            snapshots,
            (snapshots.c.account_id == revisions.c.account_id) & (snapshots.c.snapshot_id == revisions.c.snapshot_id),
        )
        .where(revisions.c.account_id == account_id, revisions.c.cause == ChangeReason.CORRECTION)
        .group_by(revisions.c.hour_start, revisions.c.day)
    ).all()
    if not changes:
        return None
    return Corrections(
        hours=len(changes),
        oldest_hours=max((requested_at - hour_start - HOUR) / HOUR for hour_start, _, requested_at in changes),
        lookback=max((requested_at.date() - day).days for _, day, requested_at in changes),
    )


def _runs(connection: sa.Connection, account_id: int) -> tuple[Run, ...]:
    names = Run.__dataclass_fields__
    rows = connection.execute(
        sa.select(*(runs.c[name] for name in names))
        .where(runs.c.account_id == account_id)
        .order_by(runs.c.run.desc())
        .limit(RUNS_SHOWN)
    ).mappings()
    return tuple(
        Run(**{**row, "started_at": _utc(row["started_at"]), "ended_at": _utc(row["ended_at"])}) for row in rows
    )


def _findings(connection: sa.Connection, account_id: int) -> tuple[Finding, ...]:
    """Those of the last sync: a replay finds none."""
    last = (
        sa.select(sa.func.max(runs.c.run))
        .where(runs.c.account_id == account_id, runs.c.command == "sync")
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(findings)
        .where(findings.c.account_id == account_id, findings.c.run == last)
        .order_by(findings.c.severity, findings.c.check_name, findings.c.day, findings.c.queue)
    )
    return tuple(Finding(row.check_name, Severity(row.severity), row.message, row.day, row.queue) for row in rows)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _sum(values: Iterable[tuple[int, Decimal]]) -> Measures:
    pairs = list(values)
    return Measures(sum(volume for volume, _ in pairs), sum((money for _, money in pairs), start=ZERO_MEASURES.money))


def in_a_row(found: Iterable[date]) -> tuple[Days, ...]:
    """Single days joined into the fewest spans, oldest first."""
    spans: list[Days] = []
    for day in sorted(found):
        if spans and day - spans[-1].last == DAY:
            spans[-1] = Days(spans[-1].first, day)
        else:
            spans.append(Days(day, day))
    return tuple(spans)


def _absent(held: Sequence[date]) -> Iterable[date]:
    """Days between the first and the last that are not in ``held``, which is in order."""
    for before, after in pairwise(held):
        yield from (before + timedelta(days=step) for step in range(1, (after - before).days))


def is_stale(status: Status, max_age_hours: float) -> bool:
    """Whether any account's newest hour ended longer ago than that, or nothing is held at all."""
    ages = [account.freshness_hours for account in status.accounts]
    return not ages or any(age is None or age > max_age_hours for age in ages)


# ---------------------------------------------------------------- showing


def as_text(status: Status, width: int) -> str:
    """For a terminal of so many columns. Only the table of runs may be wider, which breaks no number."""
    out = StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False)
    wide = Console(file=out, width=_UNBROKEN, color_system=None, highlight=False, markup=False)
    console.print(Text(f"{status.warehouse}, {status.now:%Y-%m-%d %H:%M} UTC", overflow="fold"))
    if not status.accounts:
        console.print("\nNothing is held yet. To load the history: anticaptcha-etl sync")
    for account in status.accounts:
        console.print(f"\nAccount {account.account}")
        console.print(_facts_about(account))
        if account.runs:
            wide.print(_table_of(account.runs, gap=2 if width >= _ROOMY else 1))
        for finding in account.findings:
            console.print(Text(f"{finding.severity}: {finding.message}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _facts_about(account: AccountStatus) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _lines(account):
        table.add_row(Text(f"  {label}"), Text(text))
    return table


def _lines(account: AccountStatus) -> Iterable[tuple[str, str]]:
    if account.first_day is None or account.last_day is None:
        yield "days", "none yet; to load the history: anticaptcha-etl sync"
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in account.days.items() if count)
    yield "days", f"{Days(account.first_day, account.last_day)}: {counts}"
    yield "newest hour", _freshness(account)
    yield "spent", f"{account.spent.money:,f} USD, {account.spent.volume:,} tasks"
    if account.unattributed != ZERO_MEASURES:
        yield "unattributed", f"{account.unattributed.money:,f} USD, {account.unattributed.volume:,} tasks"
    if account.corrections:
        yield "corrected", _corrected(account.corrections)
    for label, spans, advice in (
        ("open", account.open, ""),
        ("gaps", account.gaps, "; anticaptcha-etl sync fills them"),
        ("failed", account.failed, "; anticaptcha-etl sync asks them again"),
        ("unfinished", account.unfinished, "; queues are still to be asked: anticaptcha-etl sync"),
        (
            "contradicted",
            account.over_allocated_days,
            "; parts add up to more than the total: anticaptcha-etl sync asks again",
        ),
        (
            "with a rest",
            account.unattributed_days,
            "; no believed queue explains it: anticaptcha-etl sync --queue NAME adds one",
        ),
    ):
        if spans:
            yield label, _listed(spans) + advice


def _corrected(corrections: Corrections) -> str:
    hours = f"{corrections.hours:,} hour{'' if corrections.hours == 1 else 's'}"
    oldest = f"{corrections.oldest_hours / 24:,.1f} days"
    return f"{hours} by the API after they had ended, at most {oldest} later; --lookback {corrections.lookback} catches all seen"


def _freshness(account: AccountStatus) -> str:
    if account.newest_hour is None or account.freshness_hours is None:
        return "none yet"
    end = account.newest_hour + HOUR
    return f"{account.newest_hour:%Y-%m-%d %H:%M} to {end:%H:%M} UTC, ended {account.freshness_hours:,.1f} hours ago"


def _listed(spans: Sequence[Days]) -> str:
    """The newest spans; ``--json`` lists all."""
    newest = ", ".join(map(str, spans[-_SPANS_SHOWN:]))
    older = sum((span.last - span.first).days + 1 for span in spans[:-_SPANS_SHOWN])
    return f"{older:,} older days (all in --json), {newest}" if older else newest


def _table_of(recent: Sequence[Run], gap: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("  run", justify="right")
    table.add_column("started, UTC", no_wrap=True)
    for name in ("exit", "sent", "good", "failed", "new", "changed", "rejected"):
        table.add_column(name, justify="right")
    for place, run in enumerate(recent):
        windows = (run.windows_good, run.windows_failed)
        counts = (run.requests, *windows, run.facts_inserted, run.facts_changed, run.rejections)
        ended = str(run.exit_code) if run.exit_code is not None else "killed" if place else ""
        ended = ended if run.command == "sync" else f"{run.command} {ended}"
        table.add_row(str(run.run), f"{run.started_at:%Y-%m-%d %H:%M}", ended, *(f"{count:,}" for count in counts))
    return table


def to_json(status: Status) -> str:
    """The same for programs: the fields of Status, AccountStatus, Days, Run and Finding by their names.

    Money is a number literal with all its digits, times are ISO 8601 with a Z, what is not known is null. Keys are only
    ever added.
    """
    return as_json(_fields(asdict(status))) + "\n"


def _fields(value: object) -> object:
    """``asdict`` leaves named tuples be; programs read them by name too."""
    match value:
        case Measures():
            return value._asdict()
        case Mapping():
            return {key: _fields(item) for key, item in value.items()}
        case list() | tuple():
            return [_fields(item) for item in value]
        case _:
            return value
