"""A warehouse in dictionaries, with the interface that a sync uses. A commit happens wholly or not at all."""

import copy
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from etl.hour_values import FactValues
from etl.load.stored import Coverage, StoredSnapshot, activity_ranges, day_state
from etl.load.stored_account import Account, MemberStatusChange
from etl.load.upsert import Batch, CoverageRow, LoadCounts, commit_time
from etl.models import (
    TOTAL,
    ChangeReason,
    DayState,
    Dimension,
    Fact,
    Finding,
    Measures,
    MemberStatus,
    Outcome,
    Revision,
    SeriesKey,
    Snapshot,
    UnknownNameBehaviour,
    day_start,
)
from etl.money import to_dollars
from etl.transform.reconcile import single_facts
from tests.core import fact_values

FactKey = tuple[SeriesKey, datetime]


class _DayRow(NamedTuple):
    day: date
    status: str
    fetched_at: datetime | None
    volume: int
    money: Any
    unattributed_volume: int
    unattributed_money: Any
    is_explained: bool
    is_closed: bool


class StoredRevision(NamedTuple):
    """A revision and the commit that wrote it."""

    day: date
    revision: Revision
    seen_at: datetime


@dataclass
class MemoryWarehouse:
    """The rows of one account."""

    account: Account
    runs: list[int | None] = field(default_factory=list)
    first_snapshots: list[int] = field(default_factory=list)
    spot_checks: list[tuple[int, date, bool]] = field(default_factory=list)
    balances: list[tuple[datetime, Decimal]] = field(default_factory=list)
    days: dict[date, CoverageRow] = field(default_factory=dict)
    snapshots: dict[date, list[StoredSnapshot]] = field(default_factory=lambda: defaultdict(list))
    snapshot_count: int = 0
    facts: dict[date, dict[FactKey, Fact]] = field(default_factory=lambda: defaultdict(dict))
    revisions: list[StoredRevision] = field(default_factory=list)
    over_allocated: dict[date, set[Dimension]] = field(default_factory=dict)
    statuses: list[MemberStatusChange] = field(default_factory=list)
    behaviours: list[tuple[datetime, Dimension, UnknownNameBehaviour]] = field(default_factory=list)
    last_commit: datetime | None = None
    doubled: int = 0
    """Rows that were inserted although their key had one."""

    def copied(self) -> "MemoryWarehouse":
        """A copy as of now; what it shares with this one never changes."""
        twin = copy.copy(self)
        twin.first_snapshots, twin.spot_checks = [*self.first_snapshots], [*self.spot_checks]
        twin.balances = [*self.balances]
        twin.runs, twin.days, twin.revisions = [*self.runs], {**self.days}, [*self.revisions]
        twin.snapshots = defaultdict(list, {day: [*rows] for day, rows in self.snapshots.items()})
        twin.facts = defaultdict(dict, {day: {**rows} for day, rows in self.facts.items()})
        twin.over_allocated, twin.statuses, twin.behaviours = (
            {**self.over_allocated},
            [*self.statuses],
            [*self.behaviours],
        )
        return twin


class MemoryStore:
    """What ``SyncStateStore`` is to a database."""

    def __init__(self, warehouse: MemoryWarehouse, now: Callable[[], datetime]) -> None:
        self.rows, self._now = warehouse, now
        self.account = warehouse.account
        self.last_run_passed = False
        self.run = 0

    @contextmanager
    def using(self, connection: object) -> Iterator[None]:
        yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        yield

    ending = reading

    # -- reading

    def coverage(self, dimensions: Collection[Dimension]) -> Coverage:
        rows = self.rows
        known = {day: _DayRow(*row.columns) for day, row in rows.days.items() if row.status != "missing"}  # type: ignore[arg-type]
        final = frozenset(day for day, row in known.items() if row.status == "final")
        over_allocated = {
            day: found for day, found in rows.over_allocated.items() if day in known and known[day].is_closed
        }
        current = {change.series: change for change in rows.statuses}
        return Coverage(
            known={
                day: day_state(
                    row,
                    self._requested(row, dimensions) if day in final else {},
                    self._unattributed(day, dimensions),
                    over_allocated.get(day, set()),
                )
                for day, row in sorted(known.items())
            },
            final=final,
            without_raw=frozenset(),
            member_statuses={series: change.member_status for series, change in current.items()},
            trusted_by_user=frozenset(
                series
                for series, change in current.items()
                if change.member_status is MemberStatus.VERIFIED and change.snapshot is None
            ),
        )

    def _requested(self, row: _DayRow, dimensions: Collection[Dimension]) -> dict[SeriesKey, datetime]:
        if row.is_explained and not dimensions:
            return {}
        requested: dict[SeriesKey, datetime] = {}
        for one in self.rows.snapshots.get(row.day, ()):
            series = one.window.series
            is_wanted = series.dimension in dimensions or (series.dimension is Dimension.QUEUE and not row.is_explained)
            if is_wanted and one.outcome is Outcome.SUCCESS:
                requested[series] = max(one.requested_at, requested.get(series, one.requested_at))
        return requested

    def _unattributed(self, day: date, dimensions: Collection[Dimension]) -> set[Dimension]:
        found = set()
        for dimension in dimensions:
            hours: dict[datetime, list[Fact]] = defaultdict(list)
            for (series, hour), fact in self.rows.facts.get(day, {}).items():
                if series.dimension is dimension:
                    hours[hour].append(fact)
            for facts in hours.values():
                unattributed = [fact for fact in facts if fact.series.member is None]
                members = len(facts) - len(unattributed)
                if sum(one.volume for one in unattributed) or sum(
                    abs(one.nanodollars) for one in unattributed
                ) > 1_000 * (members + 1):
                    found.add(dimension)
        return found

    def snapshots(self, days: Iterable[date]) -> list[StoredSnapshot]:
        found = [one for day in days for one in self.rows.snapshots.get(day, ())]
        return sorted(found, key=lambda one: one.number)

    def facts(self, days: Iterable[date], hour_offset: int) -> dict[date, dict[SeriesKey, FactValues]]:
        offset = timedelta(seconds=hour_offset)
        stored = {day: self.rows.facts.get(day, {}) for day in days}
        return defaultdict(
            dict, {day: fact_values(facts.values(), day_start(day) + offset) for day, facts in stored.items() if facts}
        )

    def spending(self, days: Iterable[date]) -> list[tuple[SeriesKey, date, Measures]]:
        wanted = [day for first, last in activity_ranges(days) for day in _range(first, last) if day in self.rows.facts]
        return [(series, day, spent) for day in wanted for series, spent in self._spent(day).items()]

    def _spent(self, day: date) -> dict[SeriesKey, Measures]:
        spent: dict[SeriesKey, list[int]] = {}
        for (series, _), fact in self.rows.facts[day].items():
            if series.member is not None:
                sums = spent.setdefault(series, [0, 0])
                sums[0] += fact.volume
                sums[1] += fact.nanodollars
        return {series: Measures(volume, to_dollars(money)) for series, (volume, money) in spent.items()}

    def last_spending(self) -> list[tuple[SeriesKey, date, Measures]]:
        found: dict[SeriesKey, tuple[SeriesKey, date, Measures]] = {}
        queues = {
            series for facts in self.rows.facts.values() for series, _ in facts if series.dimension is Dimension.QUEUE
        }
        queues = {series for series in queues if series.member is not None}
        for day in sorted(self.rows.facts, reverse=True):
            if len(found) == len(queues):
                break
            paid = {fact.series for fact in self.rows.facts[day].values() if fact.volume > 0 and fact.nanodollars > 0}
            for series in (paid & queues) - found.keys():
                found[series] = series, day, self._spent(day)[series]
        return sorted(found.values())

    def days_with_members(self, series_keys: Iterable[SeriesKey]) -> list[date]:
        wanted = {*series_keys}
        return sorted(
            (
                day
                for day, rows in self.rows.snapshots.items()
                if any(
                    one.window.series in wanted and one.outcome in (Outcome.SUCCESS, Outcome.PARTIAL) for one in rows
                )
            ),
            reverse=True,
        )

    def days_changed_by_unfinished_runs(self) -> list[date]:
        done = max((number for number, code in enumerate(self.rows.runs) if code in (0, 5)), default=-1)
        first = [*self.rows.first_snapshots, self.rows.snapshot_count + 1][done + 1]
        changed = [one for one in self.rows.revisions if one.revision.snapshot >= first]
        is_total = [one for one in changed if one.revision.series == TOTAL]
        return sorted({one.day for one in is_total if one.revision.cause is not ChangeReason.REATTRIBUTION})

    def balance_read_at(self) -> datetime | None:
        return max((read_at for read_at, _ in self.rows.balances), default=None)

    # -- writing

    def start_run(self, command: str, version: str, first: date, missing: Sequence[date]) -> int:
        rows = self.rows
        rows.runs.append(None)
        rows.first_snapshots.append(rows.snapshot_count + 1)
        self.run = len(rows.runs)
        for day in [day for day, row in rows.days.items() if row.status == "missing" and day < first]:
            del rows.days[day]
        for day in missing:
            rows.days[day] = CoverageRow(DayState(day), "missing")
        return rows.snapshot_count + 1

    def add_spot_checks(self, days: Mapping[date, bool]) -> None:
        self.rows.spot_checks += ((self.run, day, is_random) for day, is_random in days.items())

    def set_hour_offset(self, seconds: int) -> None:
        shift = timedelta(seconds=seconds)
        for day, facts in self.rows.facts.items():
            moved = [fact._replace(hour_start=fact.hour_start + shift) for fact in facts.values()]
            self.rows.facts[day] = {(fact.series, fact.hour_start): fact for fact in moved}
        self.rows.account = self.account = replace(self.rows.account, hour_offset_seconds=seconds)

    def add_balance(self, read_at: datetime, balance: Decimal, captcha_credits: int | None) -> None:
        self.rows.balances.append((read_at, balance))

    def commit(self, batch: Batch) -> LoadCounts:
        rows = self.rows
        at = commit_time(self._now().astimezone(UTC), rows.last_commit)
        for snapshot in batch.snapshots:
            rows.snapshot_count += 1
            assert snapshot.number == rows.snapshot_count, "snapshots are not numbered in the order of their commits"
            rows.snapshots[snapshot.window.day].append(_stored(snapshot, at))
        rows.revisions += (StoredRevision(day, revision, at) for day, revision in batch.revisions)
        inserted = changed = 0
        for new in batch.new_facts:
            for fact in single_facts(new.series, new.values, new.first_hour_start):
                rows.doubled += (fact.series, fact.hour_start) in rows.facts[new.day]
                rows.facts[new.day][fact.series, fact.hour_start] = fact
                inserted += not fact.series.is_unattributed
        for day, fact in batch.changed_facts:
            result = self._merge(day, fact)
            inserted += result == "insert" and not fact.series.is_unattributed
            changed += result == "change" and not fact.series.is_unattributed
        rows.days.update((row.day_state.day, row) for row in batch.days)
        for day in batch.over_allocated_days:
            rows.over_allocated.pop(day, None)
        for day, fact in batch.over_allocations:
            rows.over_allocated.setdefault(day, set()).add(fact.series.dimension)
        rows.statuses += (MemberStatusChange(at, *change) for change in batch.member_statuses)
        if batch.traits:
            self._write_behaviours(batch.traits.unknown_name_behaviours, at)
            rows.account = self.account = replace(rows.account, **batch.traits._asdict())
        rows.last_commit = at
        return LoadCounts(inserted, changed)

    def _merge(self, day: date, fact: Fact) -> str:
        stored, key = self.rows.facts[day], (fact.series, fact.hour_start)
        old = stored.get(key)
        if fact.is_delete:
            return "change" if stored.pop(key, None) else ""
        if old is not None and old[2:4] == fact[2:4]:
            return ""
        stored[key] = fact
        return "insert" if old is None else "change"

    def _write_behaviours(self, behaviours: Mapping[Dimension, UnknownNameBehaviour], at: datetime) -> None:
        stored = {dimension: item for _, dimension, item in self.rows.behaviours}
        self.rows.behaviours += (
            (at, dimension, item) for dimension, item in behaviours.items() if stored.get(dimension) != item
        )

    def prune_raw_responses(self, before: date) -> None:
        raise NotImplementedError

    def finish_run(self, exit_code: int, results: Mapping[str, object], findings: Sequence[Finding]) -> int:
        self.rows.runs[self.run - 1] = exit_code
        return 0


def _stored(snapshot: Snapshot, at: datetime) -> StoredSnapshot:
    body = None if snapshot.status is None else snapshot.body
    return StoredSnapshot(
        snapshot.number,
        snapshot.window,
        snapshot.requested_at,
        at,
        snapshot.outcome,
        snapshot.code,
        snapshot.message,
        snapshot.status,
        body,
    )


def _range(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))
