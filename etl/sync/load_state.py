"""Gathering for the mind: settings become wishes, rows and kept answers become verdicts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from etl.config import Settings
from etl.extract import planner, protocol
from etl.load.state import SyncStateStore
from etl.load.stored import StoredSnapshot
from etl.models import (
    ActivePeriod,
    Dimension,
    Fact,
    Measures,
    MemberStatus,
    Outcome,
    Record,
    SeriesKey,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    app,
    ip,
    queue,
)
from etl.responses import Response
from etl.transform import parse
from etl.transform.reconcile import DaySnapshots, ReconciledDay, reconcile


def options(settings: Settings, now: datetime, since: date | None) -> planner.SyncOptions:
    """What this run was asked for; ``since`` is what was said now or is remembered."""
    return planner.SyncOptions(
        account=settings.account,
        today=now.date(),
        since=since,
        until=settings.until,
        lookback=settings.lookback,
        empty_days=settings.empty_days,
        configured=_filters(settings.queues, settings.soft_ids, settings.ips),
        trusted=_filters(settings.trusted_queues, settings.trusted_soft_ids, settings.trusted_ips),
        requested_by_user=_named_by_hand(settings),
        totals_only=settings.totals_only,
        concurrency=settings.concurrency,
        max_requests=settings.max_requests,
    )


def _filters(queues: Iterable[str], soft_ids: Iterable[str], ips: Iterable[str]) -> tuple[SeriesKey, ...]:
    return (*map(queue, queues), *map(app, soft_ids), *map(ip, ips))


@dataclass(frozen=True, slots=True)
class AccountProfile:
    """In what light readings are seen: the account's grid, how far its answers reach, and what is thought of names."""

    hour_offset_seconds: int | None = None
    full_day_from_snapshot: int | None = None
    member_statuses: Mapping[SeriesKey, MemberStatus] = field(default_factory=dict)
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = field(default_factory=dict)

    def on(self, day_snapshots: DaySnapshots) -> DaySnapshots:
        """The book seen in this light."""
        asked = {snapshot.window.series for snapshot in day_snapshots.snapshots}
        return replace(
            day_snapshots,
            hour_offset_seconds=self.hour_offset_seconds or 0,
            full_day_from_snapshot=self.full_day_from_snapshot,
            ignored=frozenset(series for series in asked if self.ignores(series)),
            unverified=frozenset(series for series in asked if self.doubts(series)),
            retired=frozenset(series for series in asked if self.member_statuses.get(series) is MemberStatus.RETIRED),
        )

    def ignores(self, series: SeriesKey) -> bool:
        """Whether the filter is nobody's: it cannot exist, or was set aside."""
        return (
            series in planner.NONEXISTENT_MEMBERS.values() or self.member_statuses.get(series) is MemberStatus.EXCLUDED
        )

    def doubts(self, series: SeriesKey) -> bool:
        """Whether the filter does not count. Where a good answer proves no name, none does until it is believed."""
        member_status, unknown_name_behaviour = (
            self.member_statuses.get(series),
            self.unknown_name_behaviours.get(series.dimension),
        )
        if member_status is None:
            return unknown_name_behaviour is not None and unknown_name_behaviour.answer is UnknownNameAnswer.TOTALS
        return member_status is MemberStatus.UNVERIFIED

    def counts(self, series: SeriesKey) -> bool:
        """Whether what the filter answered is booked."""
        return not self.ignores(series) and not self.doubts(series)


@dataclass(slots=True)
class Day:
    """One day in hand: its readings, their fold, and what the warehouse held of it when the run first touched it."""

    day_snapshots: DaySnapshots
    reconciled: ReconciledDay
    stored: ReconciledDay


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What is held: for the walk, as days in hand that will be read again, in what light, and what was thought of
    names."""

    stored: planner.StoredState
    days: dict[date, Day]
    profile: AccountProfile
    stored_statuses: Mapping[SeriesKey, MemberStatus]


def load_stored_state(state_store: SyncStateStore, options: planner.SyncOptions) -> LoadedState:
    """Days that will be read again are folded from their readings, the others are told by their rows."""
    dimensions = {series.dimension for series in options.configured} - {Dimension.QUEUE}
    coverage = state_store.coverage(dimensions)
    account = state_store.account
    unproved = dict.fromkeys(
        coverage.trusted_by_user - {*options.trusted}, MemberStatus.UNVERIFIED
    )  # whom the user vouched for, and no longer does
    member_statuses = planner.apply_trusted({**coverage.member_statuses, **unproved}, options.trusted)
    profile = AccountProfile(
        account.hour_offset_seconds, account.full_day_from_snapshot, member_statuses, account.unknown_name_behaviours
    )
    reread = [
        day
        for day in coverage.known.keys() - coverage.without_raw
        if day not in coverage.final or options.is_in_lookback(day)
    ]
    days = load_days(state_store, reread, profile)
    stored = planner.StoredState(
        days={**coverage.known, **{day: found.reconciled.day_state for day, found in days.items()}},
        final=coverage.final,
        without_raw=coverage.without_raw,
        member_statuses=member_statuses,
        unknown_name_behaviours=account.unknown_name_behaviours,
    )
    return LoadedState(
        _with_neighbours(state_store, stored, planner.start(options, stored)), days, profile, coverage.member_statuses
    )


def _named_by_hand(settings: Settings) -> frozenset[SeriesKey]:
    """Names that stand on the command line: a person asks for them now."""

    def said(setting: str, names: tuple[str, ...]) -> tuple[str, ...]:
        return names if settings.sources.get(setting, "").startswith("--") else ()

    return frozenset(
        _filters(said("queues", settings.queues), said("soft_ids", settings.soft_ids), said("ips", settings.ips))
    )


def _with_neighbours(
    state_store: SyncStateStore, stored: planner.StoredState, state: planner.PlannerState
) -> planner.StoredState:
    """When names spent around the days that will be visited, and what; of queues not seen there, their last day."""
    active_periods: dict[SeriesKey, tuple[ActivePeriod, ...]] = {}
    last: dict[SeriesKey, Measures] = {}
    around = state_store.spending([*state.pending, *([state.next_older_day] if state.next_older_day else [])])
    for series, day, spent in (*state_store.last_spending(), *around):
        active_periods[series] = planner.extend_periods(active_periods.get(series, ()), day)
        if planner.has_price(spent):
            last[series] = spent
    return replace(stored, active_periods=active_periods, last_spend=last)


def load_days(state_store: SyncStateStore, days: Iterable[date], profile: AccountProfile) -> dict[date, Day]:
    """Some held days with all their readings, folded, and their facts as they stand."""
    wanted = sorted(days)
    snapshots = {day: DaySnapshots(day) for day in wanted}
    facts = state_store.facts(wanted)
    for row in state_store.snapshots(wanted):
        day = row.window.day
        snapshot = (
            _stand_in(row, facts.get(day, ())) if row.is_raw_missing else reparse(row, profile.hour_offset_seconds)
        )
        snapshots[day] = snapshots[day].with_snapshots([snapshot])
    found = {}
    for day in wanted:
        day_snapshots = profile.on(snapshots[day])
        reconciled = reconcile(day_snapshots)
        stored = replace(reconciled, stored_facts={(fact.series, fact.hour_start): fact for fact in facts.get(day, ())})
        found[day] = Day(day_snapshots, reconciled, stored)
    return found


def _stand_in(stored: StoredSnapshot, facts: Iterable[Fact]) -> Snapshot:
    """For a reading whose answer is lost: what is booked of it stays booked, and as it counts as failed it is asked
    for anew."""
    own = [fact for fact in facts if (fact.snapshot, fact.series) == (stored.number, stored.window.series)]
    records = tuple(sorted(Record(fact.hour_start, fact.volume, fact.money) for fact in own))
    outcome = Outcome.PARTIAL if records else Outcome.FAILED
    return Snapshot(stored.number, stored.window, stored.requested_at, outcome, records, code="answer_lost")


def reparse(stored: StoredSnapshot, grid: int | None) -> Snapshot:
    """A reading as it was when it came: its answer, which must not be lost, goes the same way again."""
    as_it_was = Snapshot(
        stored.number, stored.window, stored.requested_at, stored.outcome, code=stored.code, message=stored.message
    )
    if stored.body is None or stored.outcome is Outcome.API_ERROR:
        return as_it_was
    reply = protocol.parse_response(stored.status or 0, stored.body)
    again = parse.parse_snapshot(
        Response(stored.window, stored.requested_at, reply, stored.status, stored.body), stored.number, grid
    )
    # What was broken on the way, not in its body, cannot be read again: its code is not that of what is left of it.
    is_said_by_body = again.outcome is not Outcome.FAILED or again.code == stored.code
    return again if stored.outcome is not Outcome.FAILED or is_said_by_body else as_it_was
