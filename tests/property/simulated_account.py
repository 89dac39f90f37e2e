"""Repeated syncs of one account and what the warehouse would contain after each, without I/O.

No threads, clock, database or HTTP: only the planner, ``reconcile`` and the ``read`` method of a subclass.
"""

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import date, datetime, timedelta

from etl.extract import planner
from etl.extract.planner import NONEXISTENT_MEMBERS, Done, Request, StopReason, StoredState, SyncOptions
from etl.extract.planner.day_plan import next_requests
from etl.models import (
    HOUR,
    TOTAL,
    ZERO_MEASURES,
    ActivePeriod,
    Breakdown,
    DayState,
    Dimension,
    Measures,
    MemberStatus,
    SeriesKey,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    Window,
)
from etl.transform.reconcile import DaySnapshots, ReconciledDay, empty_day, reconcile
from tests.core import facts_of, records_of

ACTIVITY_WINDOW = timedelta(days=31)
"""Active periods are loaded this far around the days that are requested."""


class SimulatedAccount:
    """The committed snapshots and reconciled days of an account. The planner knows ``final`` days only from their stored rows.

    ``now`` is the time of the API and of the program; it advances by ``pause`` with every response. Responses arrive in
    any order.
    """

    def __init__(self, now: datetime, random_source: random.Random) -> None:
        self.now = now
        self.random = random_source
        self.hour_offset: int | None = None
        self.full_day_from_snapshot: int | None = None
        self.number = 0
        self.snapshots_by_day: dict[date, DaySnapshots] = {}
        self.reconciled_days: dict[date, ReconciledDay] = {}
        self.final: set[date] = set()
        self.member_statuses: Mapping[SeriesKey, MemberStatus] = {}
        self.unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = {}
        self.spent: dict[date, dict[SeriesKey, Measures]] = {}
        self.requested: list[Window] = []
        self.useful: set[tuple[date, SeriesKey]] = set()
        self._rows: dict[date, DayState] = {}
        self._open_days: dict[date, ReconciledDay] = {}
        self.state = planner.start(SyncOptions("default", now.date()), StoredState())

    # -- what a test overrides

    def read(self, window: Window, requested_at: datetime) -> Snapshot:
        """Return the snapshot of a window requested at ``requested_at`` whose response arrives now, numbered ``number``."""
        raise NotImplementedError

    def pause(self) -> timedelta:
        """Return the time until the next response arrives."""
        return timedelta(milliseconds=10)

    def commit(self, day: date, reconciled: ReconciledDay) -> None:
        """Store a reconciled day."""
        self.reconciled_days[day] = reconciled
        spent: dict[SeriesKey, Measures] = {}
        for fact in facts_of(reconciled).values():
            if fact.series != TOTAL and not fact.series.is_unattributed:
                volume, money = spent.get(fact.series, ZERO_MEASURES)
                spent[fact.series] = Measures(volume + fact.volume, money + fact.money)
        self.spent[day] = spent
        self._rows.pop(day, None)
        day_state = reconciled.day_state
        is_read = day_state.read_since(self.state.options.finalizes_at(day)) and not day_state.is_failed
        (self.final.add if is_read and self._is_settled(day) else self.final.discard)(day)

    # -- one sync

    def sync(self, options: SyncOptions, kill_after: int | None = None) -> StopReason | None:
        """Run one sync. Return None if it was killed after ``kill_after`` responses, together with the requests in flight."""
        self._begin(options)
        in_flight: list[tuple[Window, datetime]] = []
        for _ in range(200_000):
            self.state, step = planner.next_windows(self.state, options.concurrency - len(in_flight))
            check_no_day_is_overlooked(self.state)
            self._settle()
            if isinstance(step, Done):
                return step.stop_reason
            if isinstance(step, Request):
                self.requested += step.windows
                in_flight += ((window, self.now) for window in step.windows)
                if len(in_flight) < options.concurrency:
                    continue
            assert in_flight, "the planner waits for a response that was not requested"
            if kill_after is not None and (kill_after := kill_after - 1) < 0:
                return None
            self._process(
                [
                    in_flight.pop(self.random.randrange(len(in_flight)))
                    for _ in range(self.random.choice((1, 1, len(in_flight))))
                ]
            )
        raise AssertionError("the planner does not end")

    def _begin(self, options: SyncOptions) -> None:
        self.requested, self.useful = [], set()
        self._finished: set[date] = set()
        self._final_before = frozenset(self.final)
        statuses_before, self.member_statuses = (
            self.member_statuses,
            planner.apply_trusted(self.member_statuses, options.trusted),
        )
        reread = [day for day in self.snapshots_by_day if day not in self.final or options.is_in_lookback(day)]
        self._open_days = {day: self._reconcile(day) for day in reread}
        stored = StoredState(
            days={
                day: self._open_days[day].day_state if day in self._open_days else self._row(day)
                for day in sorted(self.snapshots_by_day)
            },
            final=self._final_before,
            member_statuses=self.member_statuses,
            unknown_name_behaviours=self.unknown_name_behaviours,
        )
        self.state = planner.start(options, self._with_activity(stored, planner.start(options, stored)))
        self._reconcile_changed_names(statuses_before)

    def _process(self, arrived: Iterable[tuple[Window, datetime]]) -> None:
        """Process windows whose responses arrive at the same time."""
        snapshots = []
        for window, requested_at in arrived:
            self.now += self.pause()
            if self.state.stop_reason and self.random.random() < 0.5:
                self.state = planner.cancel_in_flight(self.state)
                continue
            self.number += 1
            snapshots.append(self.read(window, requested_at))
            self._detect_traits(snapshots[-1])
        for group in planner.group_by_day(snapshots):
            self._process_day(group)

    def _process_day(self, snapshots: Sequence[Snapshot]) -> None:
        statuses_before, day = self.member_statuses, snapshots[0].window.day
        stored = self._open_day(day).day_state
        for snapshot in snapshots:
            self.state = planner.classify_name(self.state, snapshot, stored)
        self.member_statuses = self.state.members.member_statuses
        self.snapshots_by_day[day] = self.snapshots_by_day.get(day, DaySnapshots(day)).with_snapshots(snapshots)
        self._open_days[day] = self._reconcile(day)
        day_state = self._open_days[day].day_state
        for snapshot in snapshots:
            self.state = planner.apply_snapshot(self.state, snapshot, day_state)
            self.unknown_name_behaviours = self.state.members.unknown_name_behaviours
            if snapshot.window.series == TOTAL or snapshot.window.series in day_state.active_members:
                self.useful.add((day, snapshot.window.series))
            if day in self._open_days:
                self.commit(day, self._open_days[day])
            self._settle()
        self._reconcile_changed_names(statuses_before, except_day=day)

    def _detect_traits(self, snapshot: Snapshot) -> None:
        """Detect the account's hour offset from its first total with records, and the first snapshot that has the last hour
        of its day."""
        window = snapshot.window
        if not snapshot.has_records or window.series != TOTAL:
            return
        if self.hour_offset is None:
            self.hour_offset = snapshot.hour_offset_seconds
        last_hour = window.end - HOUR + timedelta(seconds=self.hour_offset or 0)
        if (
            self.full_day_from_snapshot is None
            and not window.is_partial_day
            and last_hour in {record.hour_start for record in records_of(snapshot)}
        ):
            self.full_day_from_snapshot = snapshot.number

    def _open_day(self, day: date) -> ReconciledDay:
        if day not in self._open_days:
            self._open_days[day] = self._reconcile(day) if day in self.snapshots_by_day else empty_day(day)
        return self._open_days[day]

    def _settle(self) -> None:
        self._finished.update(self.state.completed_days)
        for day in self.state.completed_days:
            self.commit(day, self._open_day(day))
            del self._open_days[day]

    def _is_settled(self, day: date) -> bool:
        return day in self._finished or day in self._final_before

    def _reconcile_changed_names(
        self, statuses_before: Mapping[SeriesKey, MemberStatus], except_day: date | None = None
    ) -> None:
        """Reconcile again all days with a request for a name that has just started or stopped to get facts."""
        now = self.member_statuses
        changed = {
            series
            for series in statuses_before
            if statuses_before[series].is_loaded != (series in now and now[series].is_loaded)
        }
        for day in list(self.snapshots_by_day) if changed else ():
            was_requested = any(
                snapshot.is_success and snapshot.window.series in changed
                for snapshot in self.snapshots_by_day[day].snapshots
            )
            if day == except_day or not (was_requested or day in self._open_days):
                continue
            reconciled = self._reconcile(day)
            if day in self._open_days:
                self._open_days[day] = reconciled
            self.state = planner.apply_reconciled_day(self.state, reconciled.day_state)
            self.commit(day, reconciled)

    def _reconcile(self, day: date) -> ReconciledDay:
        """Reconcile the snapshots of a day with the present member statuses."""
        requested = {snapshot.window.series for snapshot in self.snapshots_by_day[day].snapshots}
        by_status = {
            member_status: frozenset(
                series for series, stored in self.member_statuses.items() if stored is member_status
            )
            for member_status in MemberStatus
        }
        stored_facts = by_status[MemberStatus.VERIFIED] | by_status[MemberStatus.RETIRED]
        ambiguous_dimensions = {
            dimension
            for dimension, unknown_name_behaviour in self.unknown_name_behaviours.items()
            if unknown_name_behaviour.answer is UnknownNameAnswer.TOTALS
        }
        return reconcile(
            replace(
                self.snapshots_by_day[day],
                hour_offset_seconds=self.hour_offset or 0,
                full_day_from_snapshot=self.full_day_from_snapshot,
                ignored=by_status[MemberStatus.EXCLUDED] | {*NONEXISTENT_MEMBERS.values()},
                unverified=frozenset(
                    series for series in requested - stored_facts if series.dimension in ambiguous_dimensions
                ),
                retired=by_status[MemberStatus.RETIRED],
            )
        )

    # -- what the planner gets from the warehouse

    def _row(self, day: date) -> DayState:
        """Return the day state of a final day as its stored row has it: without hours."""
        if day not in self._rows:
            self._rows[day] = _stored_day_state(self.reconciled_days[day].day_state)
        return self._rows[day]

    def _with_activity(self, stored: StoredState, state: planner.PlannerState) -> StoredState:
        """Add active periods and prices around the days that will be requested, or the last ones of queues without any."""
        requested_days = [*state.pending, *([state.next_older_day] if state.next_older_day else [])]
        days = {
            requested_day + timedelta(days=n)
            for requested_day in requested_days
            for n in range(-ACTIVITY_WINDOW.days, ACTIVITY_WINDOW.days + 1)
        }
        around = [
            (series, day, spent)
            for day in sorted(days & self.spent.keys())
            for series, spent in self.spent[day].items()
        ]
        last: dict[SeriesKey, tuple[SeriesKey, date, Measures]] = {}
        for day in sorted(self.spent):
            for series, spent in self.spent[day].items():
                if series.dimension is Dimension.QUEUE and spent.volume > 0 and spent.money > 0:
                    last[series] = series, day, spent
        active_periods: dict[SeriesKey, tuple[ActivePeriod, ...]] = {}
        last_spend: dict[SeriesKey, Measures] = {}
        for series, day, spent in (*last.values(), *around):
            active_periods[series] = planner.extend_periods(active_periods.get(series, ()), day)
            if planner.has_price(spent):
                last_spend[series] = spent
        return replace(stored, active_periods=active_periods, last_spend=last_spend)


def check_no_day_is_overlooked(state: planner.PlannerState) -> None:
    """Assert that each open day that is not due waits for a response.

    Windows that depend on the last explained day are left out: the planner does not look for them at every change.
    """
    without_model = replace(state, last_explained=None)
    for day, plan in state.open_days.items() if not state.stop_reason else ():
        if day not in state.due:
            needed, also = next_requests(state, plan), next_requests(without_model, plan)
            assert needed is not None, f"{day} is finished and was not completed"
            assert also is None or not {*needed.windows} & {*also.windows}, f"{day} was not looked at: {needed}"


def _stored_day_state(day_state: DayState) -> DayState:
    def is_stored(dimension: Dimension) -> bool:
        return dimension is not Dimension.QUEUE or not day_state.is_explained

    is_over_allocated: Set[Dimension] = day_state.over_allocated_dimensions if day_state.is_closed else frozenset()
    requested = {
        series: at for series, at in day_state.requested_at.items() if series != TOTAL and is_stored(series.dimension)
    }
    breakdowns = {
        dimension: Breakdown(
            breakdown.unattributed if dimension is Dimension.QUEUE else ZERO_MEASURES,
            breakdown.is_explained
            if dimension is Dimension.QUEUE
            else breakdown.unattributed == ZERO_MEASURES and dimension not in is_over_allocated,
            dimension in is_over_allocated,
        )
        for dimension, breakdown in day_state.breakdowns.items()
    }
    return DayState(
        day_state.day,
        day_state.total,
        day_state.total_requested_at,
        day_state.is_closed,
        breakdowns,
        requested_at=requested,
    )
