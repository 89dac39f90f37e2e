"""Replay: facts and revisions made anew from the kept answers, without the API, through the same fold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple

from etl import __version__, errors, logging_setup
from etl.clock import Clock
from etl.config import Settings
from etl.load.accounts import find_account
from etl.load.lock import account_lock
from etl.load.member_statuses import MemberStatusChange
from etl.load.rebuild import FactDifference, Found, RebuiltDay
from etl.load.state import SyncStateStore
from etl.load.stored import StoredSnapshot
from etl.load.upsert import CoverageRow
from etl.models import Dimension, MemberStatus, SeriesKey, Snapshot, UnknownNameBehaviour
from etl.sync.load_state import AccountProfile, reparse
from etl.transform.history import Commit, replay_commits
from etl.transform.reconcile import DaySnapshots, empty_day
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

DAYS_AT_ONCE = 31
"""Days that are rebuilt in one transaction."""


class MemberHistory(NamedTuple):
    """What was ever thought of names, and learned of strangers, each with the moment since when."""

    member_status_history: Sequence[MemberStatusChange]
    unknown_name_behaviours: Sequence[tuple[datetime, Dimension, UnknownNameBehaviour]]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay of one account found, and mended. Days are left as they are whose answers were ``dropped`` by
    raw_retention_days, or are ``lost``: not kept though they should be, or not what their hash says."""

    account: str
    days: int = 0
    snapshots: int = 0
    facts: int = 0
    differences: tuple[FactDifference, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[date, ...] = ()
    lost: tuple[date, ...] = ()


def replay(settings: Settings, clock: Clock) -> ReplayResult:
    """Rebuilds one account. Raises UsageError, WarehouseError; KeyboardInterrupt becomes InterruptedRunError."""
    url = warehouse.warehouse_url(settings.warehouse)
    warehouse.require_warehouse(url, wait=settings.lock_wait, clock=clock)
    engine = warehouse.open_warehouse(url, wait=settings.lock_wait, clock=clock)
    with account_lock(url, settings.account, clock, wait=settings.lock_wait):
        migrate.upgrade(engine)
        account = find_account(engine, settings.account)
        if account is None:
            raise errors.UsageError(
                f"the warehouse holds no account {settings.account!r}", "name one it holds with --account"
            )
        state_store = SyncStateStore(engine, account, clock.now)
        state_store.start_run("replay", __version__, date.min, ())
        logging_setup.bind_log_context(account=account.name, run=state_store.run)
        profile = AccountProfile(account.hour_offset_seconds, account.full_day_from_snapshot)
        result = ReplayResult(account.name)
        try:
            for result in _replayed(state_store, profile):  # noqa: B007  # the last one counts
                pass
        except KeyboardInterrupt:
            _close(state_store, result, errors.InterruptedRunError.exit_code)
            raise errors.InterruptedRunError(
                f"account {account.name}: interrupted after {result.days} days; the {len(result.differences)} "
                "facts mended so far "
                "are kept",
                "run it again",
            ) from None
        _close(state_store, result, errors.ChecksFailedError.exit_code if result.lost else 0)
    return result


def _close(state_store: SyncStateStore, result: ReplayResult, exit_code: int) -> None:
    state_store.finish_run(exit_code, {"facts_changed": len(result.differences)}, ())


def _replayed(state_store: SyncStateStore, profile: AccountProfile) -> Iterator[ReplayResult]:
    """What was found so far, after each transaction."""
    frozen = state_store.coverage(()).without_raw
    statuses, past = (
        state_store.statuses(),
        MemberHistory(state_store.member_status_history(), state_store.unknown_name_behaviours()),
    )
    days = sorted(statuses)
    result = ReplayResult(state_store.account.name)
    for start in range(0, len(days), DAYS_AT_ONCE):
        some = days[start : start + DAYS_AT_ONCE]
        stored = {
            day: list(of_day)
            for day, of_day in groupby(_by_day(state_store.snapshots(some)), lambda one: one.window.day)
        }
        gone = [day for day, of_day in stored.items() if any(one.is_raw_missing for one in of_day)]
        rebuilt = [_rebuilt(day, stored.get(day, ()), statuses[day], past, profile) for day in some if day not in gone]
        found = state_store.rebuild(rebuilt) if rebuilt else Found()
        result = _with(result, rebuilt, found, {day: day in frozen for day in gone})
        result = replace(result, days=result.days + len(some))
        yield result


def _by_day(stored: Iterable[StoredSnapshot]) -> list[StoredSnapshot]:
    return sorted(stored, key=lambda one: (one.window.day, one.number))


def _rebuilt(
    day: date, stored: Sequence[StoredSnapshot], status: str | None, past: MemberHistory, profile: AccountProfile
) -> RebuiltDay:
    """One day from its readings, and from what was thought of its filters when."""
    if status is None:
        return RebuiltDay(day)
    snapshots = [(reparse(one, profile.hour_offset_seconds), one.committed_at) for one in stored]
    told = replay_commits(_moments(day, snapshots, past, profile), empty_day(day))
    is_mended = status == "failed" and not told.reconciled.day_state.is_failed
    return RebuiltDay(
        day=day,
        coverage=CoverageRow(told.reconciled.day_state, "open" if is_mended else status),
        snapshots=tuple(snapshots),
        facts=told.facts,
        revisions=told.revisions,
        over_allocations=tuple(told.reconciled.over_allocations.values()),
    )


def _moments(
    day: date, snapshots: Sequence[tuple[Snapshot, datetime]], past: MemberHistory, profile: AccountProfile
) -> Iterator[Commit]:
    """Every commit that touched the day: its readings, and changes of mind about what was asked of it."""
    asked = {snapshot.window.series for snapshot, _ in snapshots}
    own = [thought for thought in past.member_status_history if thought.series in asked]
    commits = {committed_at for _, committed_at in snapshots}
    commits |= {thought.since for thought in own if thought.since > min(commits)}
    for commit in sorted(commits):
        member_statuses: dict[SeriesKey, MemberStatus] = {
            thought.series: thought.member_status for thought in own if thought.since <= commit
        }
        taught = {
            dimension: unknown_name_behaviour
            for since, dimension, unknown_name_behaviour in past.unknown_name_behaviours
            if since <= commit
        }
        read = tuple(snapshot for snapshot, committed_at in snapshots if committed_at <= commit)
        yield Commit(
            commit,
            replace(profile, member_statuses=member_statuses, unknown_name_behaviours=taught).on(
                DaySnapshots(day, snapshots=read)
            ),
        )


def _with(result: ReplayResult, rebuilt: Sequence[RebuiltDay], found: Found, gone: Mapping[date, bool]) -> ReplayResult:
    rows = {table: result.rows.get(table, 0) + found.rows.get(table, 0) for table in {*result.rows, *found.rows}}
    return replace(
        result,
        snapshots=result.snapshots + sum(len(day.snapshots) for day in rebuilt),
        facts=result.facts + sum(len(day.facts) for day in rebuilt),
        differences=(*result.differences, *found.facts),
        rows=rows,
        dropped=(*result.dropped, *(day for day, is_dropped in gone.items() if is_dropped)),
        lost=(*result.lost, *(day for day, is_dropped in gone.items() if not is_dropped)),
    )
