"""What the warehouse contains and how fresh it is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from etl.clock import Clock
from etl.models import DAY, HOUR, ZERO_MEASURES, Finding, Measures, Severity
from etl.outputs import status_sql as sql
from etl.outputs.accounts import EMPTY_DAYS, history_starts, select_accounts
from etl.outputs.serialize import as_json, plain
from etl.outputs.spot_checks import SpotCheckSummary, load_spot_checks
from etl.outputs.text_tables import labelled, printable, table, wrap
from etl.warehouse.migrate import require_readable
from etl.warehouse.reading import Reader, from_db_utc, from_db_utc_or_none, open_for_reading

MAX_RUNS = 10
_WIDE_TERMINAL = 100
_MAX_SPANS = 6
_STATUSES = ("final", "open", "missing", "failed")
JSON_KEYS = {"unattributed_days": "rest", "over_allocated_days": "contradicted", "finished_at": "ended_at"}
"""Fields that have another name in JSON, where keys never change."""


@dataclass(frozen=True, slots=True)
class Days:
    """A range of days, both ends included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Run:
    """One sync or replay. ``finished_at`` and ``exit_code`` are None while it runs, and remain so if it was killed.

    ``facts_unchanged`` and the hourly values are None for runs of versions that did not count them.
    """

    run: int
    command: str
    started_at: datetime
    finished_at: datetime | None
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
    hourly_values_new: int | None
    hourly_values_changed: int | None


@dataclass(frozen=True, slots=True)
class Corrections:
    """Hours that the API changed after they had ended.

    ``oldest_hours`` is the longest time between the end of an hour and a changed response; ``lookback`` is the number
    of days that would have caught every change so far.
    """

    hours: int
    oldest_hours: float
    lookback: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What was left on the account, in US dollars, and how many days it lasts at the pace of the last 7 days.

    ``days`` and its range are None without spend in that time; ``days_high`` also if the weeks differ too much to say.
    """

    read_at: datetime
    balance: Decimal
    days: Decimal | None
    days_low: Decimal | None
    days_high: Decimal | None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account.

    ``gaps``: days of the known history without a total. ``unattributed_days``: final days that verified queues do not
    fully explain. ``unfinished``: closed days with queues not yet requested. ``over_allocated_days``: closed days with
    hours in which the members of a dimension add up to more than the total. ``newest_hour``: start of the last hour of
    the total that had ended when it was requested; ``freshness_hours``: hours since its end. ``spent`` and
    ``unattributed`` are sums over all stored days; ``findings`` are those of the last sync.
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
    spot_checks: SpotCheckSummary | None
    balance: Balance | None
    runs: tuple[Run, ...]
    findings: tuple[Finding, ...]
    waiting_responses: int
    """Responses in the account's journal: received, and not yet committed."""


@dataclass(frozen=True, slots=True)
class Status:
    warehouse: str
    now: datetime
    accounts: tuple[AccountStatus, ...]


def load_status(
    url: str,
    account: str | None,
    clock: Clock,
    *,
    wait: float = 0.0,
    empty_days: int = EMPTY_DAYS,
    count_waiting: Callable[[str], int] = lambda _: 0,
) -> Status:
    """The status of one account, or of all. ``count_waiting`` returns the responses in an account's journal.

    Raises UsageError for an account that is not in the warehouse.
    """
    with open_for_reading(url, wait=wait, clock=clock) as reader:
        require_readable(reader)
        now, starts = clock.now(), history_starts(reader, empty_days)
        accounts = select_accounts(reader, account).items()
        rows = reader.rows(sql.BALANCES)
        balances = {number: Balance(from_db_utc(read_at), *values) for number, read_at, *values in rows}
        loaded = (
            _load_account(reader, number, name, now, starts.get(name), balances.get(number), count_waiting(name))
            for name, number in accounts
        )
        return Status(reader.name, now, tuple(loaded))


def _load_account(
    reader: Reader,
    account_id: int,
    name: str,
    now: datetime,
    start: date | None,
    balance: Balance | None,
    waiting_responses: int,
) -> AccountStatus:
    rows = reader.rows(sql.DAYS, a=account_id)
    by_status = {status: [row.day for row in rows if row.status == status] for status in _STATUSES}
    [(newest,)] = reader.rows(sql.NEWEST_HOUR, a=account_id)
    newest = from_db_utc_or_none(newest)
    return AccountStatus(
        account=name,
        first_day=rows[0].day if rows else None,
        last_day=rows[-1].day if rows else None,
        days={status: len(found) for status, found in by_status.items()},
        gaps=to_ranges({*by_status["missing"], *_absent([row.day for row in rows], start)}),
        failed=to_ranges(by_status["failed"]),
        open=to_ranges(by_status["open"]),
        unattributed_days=to_ranges(row.day for row in rows if row.status == "final" and not row.is_explained),
        unfinished=to_ranges(
            row.day for row in rows if row.status == "open" and row.is_closed and not row.is_explained
        ),
        over_allocated_days=to_ranges(day for (day,) in reader.rows(sql.OVER_ALLOCATED, a=account_id)),
        newest_hour=newest,
        freshness_hours=None if newest is None else (now - newest - HOUR) / HOUR,
        spent=_sum((row.volume, row.money) for row in rows),
        unattributed=_sum((row.unattributed_volume, row.unattributed_money) for row in rows),
        corrections=_corrections(reader, account_id),
        spot_checks=load_spot_checks(reader, account_id),
        balance=balance,
        runs=_runs(reader, account_id),
        findings=tuple(
            Finding(row.check_name, Severity(row.severity), row.message, row.day, row.queue)
            for row in reader.rows(sql.FINDINGS, a=account_id)
        ),
        waiting_responses=waiting_responses,
    )


def _corrections(reader: Reader, account_id: int) -> Corrections | None:
    """Corrections of totals and queues alike: both show that the API changed an hour."""
    changes = reader.rows(sql.CORRECTIONS, a=account_id)
    if not changes:
        return None
    return Corrections(
        hours=len(changes),
        oldest_hours=max((requested_at - hour_start - HOUR) / HOUR for hour_start, _, requested_at in changes),
        lookback=max((requested_at.date() - day).days for _, day, requested_at in changes),
    )


def _runs(reader: Reader, account_id: int) -> tuple[Run, ...]:
    rows = (Run(*row) for row in reader.rows(sql.RUNS, a=account_id, max_runs=MAX_RUNS))
    return tuple(
        replace(run, started_at=from_db_utc(run.started_at), finished_at=from_db_utc_or_none(run.finished_at))
        for run in rows
    )


def _sum(values: Iterable[tuple[int, Decimal]]) -> Measures:
    pairs = list(values)
    return Measures(sum(volume for volume, _ in pairs), sum((money for _, money in pairs), start=ZERO_MEASURES.money))


def to_ranges(days: Iterable[date]) -> tuple[Days, ...]:
    """Join days into the fewest ranges, oldest first."""
    ranges: list[Days] = []
    for day in sorted(days):
        if ranges and day - ranges[-1].last == DAY:
            ranges[-1] = Days(ranges[-1].first, day)
        else:
            ranges.append(Days(day, day))
    return tuple(ranges)


def _absent(stored: Sequence[date], start: date | None) -> set[date]:
    """Days without a row, from the start of the known history to the last stored day."""
    if not stored or start is None:
        return set()
    return {start + DAY * number for number in range((stored[-1] - start).days)} - {*stored}


def is_stale(status: Status, max_age_hours: float) -> bool:
    """True if the newest hour of any account ended longer ago than this, or nothing is stored."""
    ages = [account.freshness_hours for account in status.accounts]
    return not ages or any(age is None or age > max_age_hours for age in ages)


# ---------------------------------------------------------------- output


def as_text(status: Status, width: int, zone: str = "UTC") -> str:
    """The status for a terminal, with times of ``zone`` and UTC days. Only the table of runs may be wider, so that no
    number is broken."""
    local = ZoneInfo(zone)
    lines = wrap(f"{printable(status.warehouse)}, {_moment(status.now, local)}", width)
    if not status.accounts:
        lines += ["", "No data yet. To load the history, run: anticaptcha-etl sync"]
    for account in status.accounts:
        lines += ["", *wrap(f"Account {printable(account.account)}", width)]
        lines += labelled(_lines(account, local), width, indent=2).splitlines()
        if account.runs:
            lines += _runs_table(account.runs, local, gap=2 if width >= _WIDE_TERMINAL else 1).splitlines()
        for finding in account.findings:
            lines += wrap(f"{finding.severity}: {printable(finding.message)}", width)
    return "\n".join(lines) + "\n"


def _moment(time: datetime, zone: ZoneInfo) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"


def _lines(account: AccountStatus, zone: ZoneInfo) -> Iterable[tuple[str, str]]:
    if account.waiting_responses:
        yield "waiting", f"{account.waiting_responses:,} responses in the journal; the next sync loads them first"
    if account.first_day is None or account.last_day is None:
        yield "days", "none yet; to load the history, run: anticaptcha-etl sync"
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in account.days.items() if count)
    yield "days" if zone.key == "UTC" else "UTC days", f"{Days(account.first_day, account.last_day)}: {counts}"
    yield "newest hour", _freshness(account, zone)
    yield "spent", f"{account.spent.money:,f} USD, {account.spent.volume:,} tasks"
    if account.balance:
        yield "balance", _balance(account.balance, zone)
    if account.unattributed != ZERO_MEASURES:
        yield "unattributed", f"{account.unattributed.money:,f} USD, {account.unattributed.volume:,} tasks"
    if account.corrections:
        yield "corrected", _corrected(account.corrections)
    if account.spot_checks:
        yield "checked", account.spot_checks.sentence
    sync = "anticaptcha-etl sync"
    for label, ranges, advice in (
        ("open", account.open, ""),
        ("gaps", account.gaps, f"; {sync} fills them"),
        ("failed", account.failed, f"; {sync} retries them"),
        ("unfinished", account.unfinished, f"; queues not requested yet, run: {sync}"),
        ("over-allocated", account.over_allocated_days, f"; queues, apps or IPs exceed the total, run: {sync}"),
        ("unattributed on", account.unattributed_days, f"; add the missing queue: {sync} --queue NAME"),
    ):
        if ranges:
            yield label, _newest(ranges) + advice


def _corrected(corrections: Corrections) -> str:
    hours = f"{corrections.hours:,} hour{'' if corrections.hours == 1 else 's'}"
    latest = f"{corrections.oldest_hours / 24:,.1f} days"
    return f"the API changed {hours} up to {latest} after they ended; --lookback {corrections.lookback} covers this"


def _balance(balance: Balance, zone: ZoneInfo) -> str:
    text = f"{balance.balance:,f} USD, read {_moment(balance.read_at, zone)}"
    if balance.days is None:
        return text
    high = "many more" if balance.days_high is None else f"{balance.days_high:,}"
    return f"{text}; lasts {balance.days:,} days ({balance.days_low:,} to {high}) at the pace of the last 7 days"


def _freshness(account: AccountStatus, zone: ZoneInfo) -> str:
    if account.newest_hour is None or account.freshness_hours is None:
        return "none yet"
    start, end = account.newest_hour.astimezone(zone), (account.newest_hour + HOUR).astimezone(zone)
    return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} {zone.key}, ended {account.freshness_hours:,.1f} hours ago"


def _newest(ranges: Sequence[Days]) -> str:
    newest = ", ".join(map(str, ranges[-_MAX_SPANS:]))
    older = sum((days.last - days.first).days + 1 for days in ranges[:-_MAX_SPANS])
    return f"{older:,} older days (--json lists all), {newest}" if older else newest


def _runs_table(recent: Sequence[Run], zone: ZoneInfo, gap: int) -> str:
    rows = [["  run", f"started, {zone.key}", "exit", "sent", "good", "failed", "new", "changed", "rejected"]]
    for place, run in enumerate(recent):
        windows = (run.windows_good, run.windows_failed)
        new = run.facts_inserted if run.hourly_values_new is None else run.hourly_values_new
        changed = run.facts_changed if run.hourly_values_changed is None else run.hourly_values_changed
        counts = (run.requests, *windows, new, changed, run.rejections)
        outcome = str(run.exit_code) if run.exit_code is not None else "killed" if place else ""
        outcome = outcome if run.command == "sync" else f"{run.command} {outcome}"
        rows.append(
            [
                str(run.run),
                f"{run.started_at.astimezone(zone):%Y-%m-%d %H:%M}",
                outcome,
                *(f"{count:,}" for count in counts),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return table(rows, widths, right={*range(len(widths))} - {1}, gap=gap)


def to_json(status: Status) -> str:
    """The status as JSON, with money as text, ISO 8601 times, and null for the unknown. Keys may be added, never
    renamed."""
    return as_json(plain(status, JSON_KEYS)) + "\n"
