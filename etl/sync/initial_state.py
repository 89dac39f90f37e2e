"""Load what a sync starts from: settings become planner options, stored rows and raw responses become day states."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from etl.config import Settings
from etl.extract import planner, protocol
from etl.hour_values import NO_FACTS, FactValues, HourValues
from etl.load.stored import StoredSnapshot, StoredStateReader
from etl.load.stored_account import AccountTraits
from etl.models import (
    TOTAL,
    ActivePeriod,
    Dimension,
    Measures,
    MemberStatus,
    Outcome,
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


def sync_options(settings: Settings, now: datetime, since: date | None) -> planner.SyncOptions:
    """Return the planner's options; ``since`` is the given or the saved first day."""

    def on_command_line(setting: str, names: tuple[str, ...]) -> tuple[str, ...]:
        return names if settings.sources.get(setting, "").startswith("--") else ()

    queues, soft_ids, ips = settings.queues, settings.soft_ids, settings.ips
    requested_by_user = _members(
        on_command_line("queues", queues), on_command_line("soft_ids", soft_ids), on_command_line("ips", ips)
    )
    return planner.SyncOptions(
        account=settings.account,
        today=now.date(),
        since=since,
        until=settings.until,
        lookback=settings.lookback,
        empty_days=settings.empty_days,
        configured=_members(queues, soft_ids, ips),
        trusted=_members(settings.trusted_queues, settings.trusted_soft_ids, settings.trusted_ips),
        requested_by_user=frozenset(requested_by_user),
        totals_only=settings.totals_only,
        concurrency=settings.concurrency,
        max_requests=settings.max_requests,
        spot_checks=settings.spot_checks,
        seed=f"{settings.account} {now.isoformat()}",
    )


def _members(queues: Iterable[str], soft_ids: Iterable[str], ips: Iterable[str]) -> tuple[SeriesKey, ...]:
    return (*map(queue, queues), *map(app, soft_ids), *map(ip, ips))


# ---------------------------------------------------------------- the account


@dataclass(frozen=True, slots=True)
class AccountProfile:
    """What is known about an account: it decides how its snapshots count."""

    hour_offset_seconds: int | None = None
    full_day_from_snapshot: int | None = None
    member_statuses: Mapping[SeriesKey, MemberStatus] = field(default_factory=dict)
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = field(default_factory=dict)

    @property
    def traits(self) -> AccountTraits:
        return AccountTraits(self.hour_offset_seconds, self.full_day_from_snapshot, self.unknown_name_behaviours)

    def with_members(
        self,
        statuses: Mapping[SeriesKey, MemberStatus],
        behaviours: Mapping[Dimension, UnknownNameBehaviour],
    ) -> "AccountProfile":
        if statuses is self.member_statuses and behaviours is self.unknown_name_behaviours:
            return self
        return replace(self, member_statuses=statuses, unknown_name_behaviours=behaviours)

    def learn(self, snapshot: Snapshot) -> "AccountProfile":
        """Learn the hour offset from the first total with records, and that responses cover whole days."""
        window = snapshot.window
        is_known = self.hour_offset_seconds is not None and self.full_day_from_snapshot is not None
        if is_known or not snapshot.has_records or window.series != TOTAL:
            return self
        offset, full_day_from = self.hour_offset_seconds, self.full_day_from_snapshot
        if offset is None:
            offset = snapshot.hour_offset_seconds
        if full_day_from is None and not window.is_partial_day and snapshot.values.volumes[-1] is not None:
            full_day_from = snapshot.number
        return replace(self, hour_offset_seconds=offset, full_day_from_snapshot=full_day_from)

    def apply_to(self, day: DaySnapshots) -> DaySnapshots:
        """Return the day's snapshots with what is known about the account."""
        blank = replace(day, ignored=frozenset(), unverified=frozenset(), retired=frozenset())
        return self.apply_to_new(blank, {snapshot.window.series for snapshot in day.snapshots})

    def apply_to_new(self, day: DaySnapshots, members: Set[SeriesKey]) -> DaySnapshots:
        """The same, if the profile has been applied to all members of the day except these."""
        retired = (one for one in members if self.member_statuses.get(one) is MemberStatus.RETIRED)
        return replace(
            day,
            hour_offset_seconds=self.hour_offset_seconds or 0,
            full_day_from_snapshot=self.full_day_from_snapshot,
            ignored=day.ignored.union(filter(self.is_ignored, members)),
            unverified=day.unverified.union(filter(self.is_unverified, members)),
            retired=day.retired.union(retired),
        )

    def is_ignored(self, series: SeriesKey) -> bool:
        """True if the member cannot exist or is excluded."""
        is_excluded = self.member_statuses.get(series) is MemberStatus.EXCLUDED
        return is_excluded or series in planner.NONEXISTENT_MEMBERS.values()

    def is_unverified(self, series: SeriesKey) -> bool:
        """True if the member does not count yet, or if it has no status and unknown names return totals."""
        status, behaviour = self.member_statuses.get(series), self.unknown_name_behaviours.get(series.dimension)
        if status is None:
            return behaviour is not None and behaviour.answer is UnknownNameAnswer.TOTALS
        return status is MemberStatus.UNVERIFIED

    def counts(self, series: SeriesKey) -> bool:
        return not self.is_ignored(series) and not self.is_unverified(series)


# ---------------------------------------------------------------- stored days


@dataclass(slots=True)
class LoadedDay:
    """A day in memory: as it is now, and as it was stored when the run first used it."""

    reconciled: ReconciledDay
    stored: ReconciledDay
    profile: AccountProfile | None = None
    """The profile that was applied to the day's snapshots, if it is known."""


def apply_profile(profile: AccountProfile, days: Iterable[LoadedDay]) -> None:
    """Reconcile days in memory with what is known about the account now."""
    for day in days:
        day.reconciled, day.profile = reconcile(profile.apply_to(day.reconciled.inputs)), profile


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What a sync starts from.

    ``stored``: what the planner needs. ``days``: the days that will be read again. ``profile``: what is known about the
    account. ``stored_statuses``: the member statuses in the warehouse, before trusted names are applied.
    ``spot_checks``: final days to read again.
    """

    stored: planner.StoredState
    days: dict[date, LoadedDay]
    profile: AccountProfile
    stored_statuses: Mapping[SeriesKey, MemberStatus]
    spot_checks: planner.SpotChecks


def load_stored_state(store: StoredStateReader, options: planner.SyncOptions) -> LoadedState:
    """Days that will be read again are reconciled from their snapshots; for others the coverage row is enough."""
    dimensions = {series.dimension for series in options.configured} - {Dimension.QUEUE}
    coverage, account = store.coverage(dimensions), store.account
    no_longer_trusted = dict.fromkeys(coverage.trusted_by_user - {*options.trusted}, MemberStatus.UNVERIFIED)
    statuses = planner.apply_trusted({**coverage.member_statuses, **no_longer_trusted}, options.trusted)
    profile = AccountProfile(
        account.hour_offset_seconds, account.full_day_from_snapshot, statuses, account.unknown_name_behaviours
    )
    with_raw = coverage.known.keys() - coverage.without_raw
    settled = {day for day in with_raw & coverage.final if not options.is_in_lookback(day)}
    settled = {day for day in settled if (options.since or day) <= day <= options.end_day}
    checks = planner.choose_spot_checks(settled, options.today, options.spot_checks, options.seed)
    rechecks = settled & planner.around(store.days_changed_by_unfinished_runs())
    reread = (with_raw - coverage.final) | {day for day in with_raw if options.is_in_lookback(day)}
    reread |= checks.days | rechecks
    days = load_days(store, reread, profile)
    stored = planner.StoredState(
        days={**coverage.known, **{day: loaded.reconciled.day_state for day, loaded in days.items()}},
        final=coverage.final,
        without_raw=coverage.without_raw,
        spot_checks=checks.days - rechecks,
        rechecks=frozenset(rechecks),
        member_statuses=statuses,
        unknown_name_behaviours=account.unknown_name_behaviours,
    )
    stored = _with_activity(store, stored, planner.start(options, stored))
    return LoadedState(stored, days, profile, coverage.member_statuses, checks)


def _with_activity(
    store: StoredStateReader, stored: planner.StoredState, state: planner.PlannerState
) -> planner.StoredState:
    """Add when members were active around the days that will be visited, and their last spend."""
    active_periods: dict[SeriesKey, tuple[ActivePeriod, ...]] = {}
    last_spend: dict[SeriesKey, Measures] = {}
    days = [*state.pending, *([state.next_older_day] if state.next_older_day else [])]
    for series, day, spend in (*store.last_spending(), *store.spending(days)):
        active_periods[series] = planner.extend_periods(active_periods.get(series, ()), day)
        if planner.has_price(spend):
            last_spend[series] = spend
    return replace(stored, active_periods=active_periods, last_spend=last_spend)


def load_days(store: StoredStateReader, days: Iterable[date], profile: AccountProfile) -> dict[date, LoadedDay]:
    """Load stored days with all their snapshots, reconciled, and their facts as they are stored."""
    wanted = sorted(days)
    if not wanted:
        return {}
    snapshots: dict[date, list[Snapshot]] = {day: [] for day in wanted}
    offset = profile.hour_offset_seconds
    facts = store.facts(wanted, offset or 0)
    for row in store.snapshots(wanted):
        day = row.window.day
        if row.is_raw_missing:
            snapshots[day].append(_from_facts(row, facts[day].get(row.window.series, NO_FACTS)))
        else:
            snapshots[day].append(reparse(row, offset))
    loaded = {}
    for day in wanted:
        day_snapshots = profile.apply_to(DaySnapshots(day, snapshots=tuple(snapshots[day])))
        reconciled = reconcile(day_snapshots)
        loaded[day] = LoadedDay(reconciled, replace(reconciled, stored_facts=facts[day]))
    return loaded


def _from_facts(stored: StoredSnapshot, facts: FactValues) -> Snapshot:
    """Build the snapshot from the facts of its series and mark it as failed, so that it is requested again."""
    is_own = [number == stored.number for number in facts.snapshots]
    values = HourValues(
        *(tuple(value if own else None for value, own in zip(column, is_own, strict=True)) for column in facts[:2])
    )
    outcome = Outcome.PARTIAL if any(is_own) else Outcome.FAILED
    return Snapshot(stored.number, stored.window, stored.requested_at, outcome, values, code="answer_lost")


def reparse(stored: StoredSnapshot, hour_offset: int | None) -> Snapshot:
    """Parse a stored raw response again. The snapshot must not be ``is_raw_missing``."""
    without_body = Snapshot(
        stored.number, stored.window, stored.requested_at, stored.outcome, code=stored.code, message=stored.message
    )
    if stored.body is None or stored.outcome is Outcome.API_ERROR:
        return without_body
    reply = protocol.parse_response(stored.status or 0, stored.body)
    response = Response(stored.window, stored.requested_at, reply, stored.status, stored.body)
    snapshot = parse.parse_snapshot(response, stored.number, hour_offset)
    # The code of a broken transfer comes from the transport; parsing the incomplete body would give another one.
    is_in_body = snapshot.outcome is not Outcome.FAILED or snapshot.code == stored.code
    return snapshot if stored.outcome is not Outcome.FAILED or is_in_body else without_body
