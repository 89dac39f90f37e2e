"""Replay: rebuild facts and revisions from the stored raw responses, without the API."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple

from etl import __version__, errors, logging_setup
from etl.clock import Clock
from etl.config import Settings
from etl.load.accounts import find_account
from etl.load.lock import account_lock
from etl.load.rebuild import FactDifference, Found, RebuiltDay
from etl.load.state import SyncStateStore
from etl.load.stored import StoredSnapshot
from etl.load.stored_account import MemberStatusChange
from etl.load.upsert import CoverageRow
from etl.models import Dimension, Snapshot, UnknownNameBehaviour
from etl.sync.initial_state import AccountProfile, reparse
from etl.transform.history import Commit, replay_commits
from etl.transform.reconcile import DaySnapshots, empty_day
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

DAYS_PER_TRANSACTION = 31


class MemberHistory(NamedTuple):
    """Every change of a member status or an unknown-name behaviour of the account, with its time."""

    statuses: Sequence[MemberStatusChange]
    behaviours: Sequence[tuple[datetime, Dimension, UnknownNameBehaviour]]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay of one account found and corrected.

    Days are left as they are if their raw responses were deleted by raw_retention_days (``dropped``) or are missing or
    damaged (``unreadable``).
    """

    account: str
    days: int = 0
    snapshots: int = 0
    facts: int = 0
    differences: tuple[FactDifference, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[date, ...] = ()
    unreadable: tuple[date, ...] = ()


def replay(settings: Settings, clock: Clock) -> ReplayResult:
    """Rebuild one account. Raises UsageError, WarehouseError, InterruptedRunError."""
    url = warehouse.warehouse_url(settings.warehouse)
    warehouse.require_warehouse(url, wait=settings.lock_wait, clock=clock)
    engine = warehouse.open_warehouse(url, wait=settings.lock_wait, clock=clock)
    with account_lock(url, settings.account, clock, wait=settings.lock_wait):
        migrate.upgrade(engine)
        account = find_account(engine, settings.account)
        if account is None:
            raise errors.UsageError(
                f"the warehouse has no account {settings.account!r}", "name one that it has with --account"
            )
        store = SyncStateStore(engine, account, clock.now)
        store.start_run("replay", __version__, date.min, ())
        logging_setup.bind_log_context(account=account.name, run=store.run)
        result = ReplayResult(account.name)
        try:
            for result in _replay_days(store):  # noqa: B007 - the last one counts
                pass
        except KeyboardInterrupt:
            _finish_run(store, result, errors.InterruptedRunError.exit_code)
            done = f"{result.days} days are done, {len(result.differences)} facts corrected"
            message = f"account {account.name}: interrupted; {done}"
            raise errors.InterruptedRunError(message, "run it again") from None
        _finish_run(store, result, errors.ChecksFailedError.exit_code if result.unreadable else 0)
    return result


def _finish_run(store: SyncStateStore, result: ReplayResult, exit_code: int) -> None:
    store.finish_run(exit_code, {"facts_changed": len(result.differences)}, ())


def _replay_days(store: SyncStateStore) -> Iterator[ReplayResult]:
    """Yield what was found so far, after each transaction."""
    account = store.account
    profile = AccountProfile(account.hour_offset_seconds, account.full_day_from_snapshot)
    without_raw = store.coverage(()).without_raw
    statuses = store.statuses()
    history = MemberHistory(store.member_status_history(), store.unknown_name_behaviours())
    days = sorted(statuses)
    result = ReplayResult(account.name)
    for start in range(0, len(days), DAYS_PER_TRANSACTION):
        some = days[start : start + DAYS_PER_TRANSACTION]
        rows = sorted(store.snapshots(some), key=lambda row: (row.window.day, row.number))
        stored = {day: list(of_day) for day, of_day in groupby(rows, lambda row: row.window.day)}
        unreadable = [day for day, of_day in stored.items() if any(row.is_raw_missing for row in of_day)]
        rebuilt = [
            _rebuild_day(day, stored.get(day, ()), statuses[day], history, profile)
            for day in some
            if day not in unreadable
        ]
        found = store.rebuild(rebuilt) if rebuilt else Found()
        result = replace(
            result,
            days=result.days + len(some),
            snapshots=result.snapshots + sum(len(day.snapshots) for day in rebuilt),
            facts=result.facts + sum(len(day.facts) for day in rebuilt),
            differences=(*result.differences, *found.facts),
            rows={name: result.rows.get(name, 0) + found.rows.get(name, 0) for name in {*result.rows, *found.rows}},
            dropped=(*result.dropped, *(day for day in unreadable if day in without_raw)),
            unreadable=(*result.unreadable, *(day for day in unreadable if day not in without_raw)),
        )
        yield result


def _rebuild_day(
    day: date,
    stored: Sequence[StoredSnapshot],
    status: str | None,
    history: MemberHistory,
    profile: AccountProfile,
) -> RebuiltDay:
    """Rebuild one day from its snapshots and from what was known about its members at each commit."""
    if status is None:
        return RebuiltDay(day)
    snapshots = [(reparse(row, profile.hour_offset_seconds), row.committed_at) for row in stored]
    replayed = replay_commits(_commits(day, snapshots, history, profile), empty_day(day))
    is_repaired = status == "failed" and not replayed.reconciled.day_state.is_failed
    return RebuiltDay(
        day=day,
        coverage=CoverageRow(replayed.reconciled.day_state, "open" if is_repaired else status),
        snapshots=tuple(snapshots),
        facts=replayed.facts,
        revisions=replayed.revisions,
        over_allocations=tuple(replayed.reconciled.over_allocations),
    )


def _commits(
    day: date, snapshots: Sequence[tuple[Snapshot, datetime]], history: MemberHistory, profile: AccountProfile
) -> Iterator[Commit]:
    """All commits that changed the day: its snapshots, and new statuses of its members."""
    members = {snapshot.window.series for snapshot, _ in snapshots}
    changes = [change for change in history.statuses if change.series in members]
    times = {committed_at for _, committed_at in snapshots}
    times |= {change.since for change in changes if change.since > min(times)}
    for time in sorted(times):
        statuses = {change.series: change.member_status for change in changes if change.since <= time}
        behaviours = {dimension: behaviour for since, dimension, behaviour in history.behaviours if since <= time}
        known = tuple(snapshot for snapshot, committed_at in snapshots if committed_at <= time)
        day_snapshots = DaySnapshots(day, snapshots=known)
        yield Commit(time, profile.with_members(statuses, behaviours).apply_to(day_snapshots))
