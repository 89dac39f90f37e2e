"""Syncs of one account, night after night, and what the warehouse would hold after each: the pipeline without its
doors.

No thread, no clock, no database, no HTTP: the walk, the fold and whatever ``read`` makes of a window.
"""

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import date, datetime, timedelta

from etl.extract import planner
from etl.extract.planner import NONEXISTENT_MEMBERS, Done, Request, StopReason, StoredState, SyncOptions
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
from etl.transform import parse
from etl.transform.reconcile import DaySnapshots, ReconciledDay, empty_day, reconcile

ACTIVITY_WINDOW = timedelta(days=31)
"""Spells are looked up this far around the days that need a visit."""


class Nights:
    """An account's readings and their folds, as committed; ``final`` days are told to the walk by their rows alone.

    ``now`` is the service's and ours; it passes by ``pause`` with every answer. Answers land in any order.
    """

    def __init__(self, now: datetime, chance: random.Random) -> None:
        self.now = now
        self.random = chance
        self.grid: int | None = None
        self.reaches_end: int | None = None
        self.number = 0
        self.expected_rows: dict[date, DaySnapshots] = {}
        self.folds: dict[date, ReconciledDay] = {}
        self.final: set[date] = set()
        self.member_statuses: Mapping[SeriesKey, MemberStatus] = {}
        self.unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = {}
        self.spent: dict[date, dict[SeriesKey, Measures]] = {}
        self.asked: list[Window] = []
        self.useful: set[tuple[date, SeriesKey]] = set()
        self._rows: dict[date, DayState] = {}
        self._hand: dict[date, ReconciledDay] = {}
        self.state = planner.start(SyncOptions("default", now.date()), StoredState())

    # -- what a test of its own gives

    def read(self, window: Window, requested_at: datetime) -> Snapshot:
        """The reading of one window, asked at ``requested_at`` and landing now, under ``number``."""
        raise NotImplementedError

    def pause(self) -> timedelta:
        """What passes until the next answer lands."""
        return timedelta(milliseconds=10)

    def commit(self, day: date, reconciled: ReconciledDay) -> None:
        """A day's fold is written, with the note that it is."""
        self.folds[day] = reconciled
        spent: dict[SeriesKey, Measures] = {}
        for fact in reconciled.facts.values():
            if fact.series != TOTAL and not fact.series.is_unattributed:
                volume, money = spent.get(fact.series, ZERO_MEASURES)
                spent[fact.series] = Measures(volume + fact.volume, money + fact.money)
        self.spent[day] = spent
        self._rows.pop(day, None)
        day_state = reconciled.day_state
        is_read = day_state.read_since(self.state.options.finalizes_at(day)) and not day_state.is_failed
        (self.final.add if is_read and self._is_settled(day) else self.final.discard)(day)

    # -- one night

    def sync(self, options: SyncOptions, kill_after: int | None = None) -> StopReason | None:
        """One sync. None: it was killed after so many answers, with what was in the air."""
        self._begin(options)
        air: list[tuple[Window, datetime]] = []
        for _ in range(200_000):
            self.state, step = planner.next_windows(self.state, options.concurrency - len(air))
            self._settle()
            if isinstance(step, Done):
                return step.stop_reason
            if isinstance(step, Request):
                self.asked += step.windows
                air += ((window, self.now) for window in step.windows)
                if len(air) < options.concurrency:
                    continue
            assert air, "the walk waits for an answer that nobody asked for"
            if kill_after is not None and (kill_after := kill_after - 1) < 0:
                return None
            self._land([air.pop(self.random.randrange(len(air))) for _ in range(self.random.choice((1, 1, len(air))))])
        raise AssertionError("the walk does not end")

    def _begin(self, options: SyncOptions) -> None:
        self.asked, self.useful = [], set()
        self._finished: set[date] = set()
        self._held_final = frozenset(self.final)
        stored, self.member_statuses = (
            self.member_statuses,
            planner.apply_trusted(self.member_statuses, options.trusted),
        )
        reread = [day for day in self.expected_rows if day not in self.final or options.is_in_lookback(day)]
        self._hand = {day: self._folded(day) for day in reread}
        held = StoredState(
            days={
                day: self._hand[day].day_state if day in self._hand else self._row(day)
                for day in sorted(self.expected_rows)
            },
            final=self._held_final,
            member_statuses=self.member_statuses,
            unknown_name_behaviours=self.unknown_name_behaviours,
        )
        self.state = planner.start(options, self._with_neighbours(held, planner.start(options, held)))
        self._see_anew(stored)

    def _land(self, landed: Iterable[tuple[Window, datetime]]) -> None:
        """Windows that are answered at one moment."""
        snapshots = []
        for window, requested_at in landed:
            self.now += self.pause()
            if self.state.stop_reason and self.random.random() < 0.5:
                self.state = planner.cancel_in_flight(self.state)
                continue
            self.number += 1
            snapshots.append(self.read(window, requested_at))
            self._learn_habits(snapshots[-1])
        for group in planner.group_by_day(snapshots):
            self._land_together(group)

    def _land_together(self, snapshots: Sequence[Snapshot]) -> None:
        before, day = self.member_statuses, snapshots[0].window.day
        held = self._in_hand(day).day_state
        for snapshot in snapshots:
            self.state = planner.classify_name(self.state, snapshot, held)
        self.member_statuses = self.state.members.member_statuses
        self.expected_rows[day] = self.expected_rows.get(day, DaySnapshots(day)).with_snapshots(snapshots)
        self._hand[day] = self._folded(day)
        day_state = self._hand[day].day_state
        for snapshot in snapshots:
            self.state = planner.apply_snapshot(self.state, snapshot, day_state)
            self.unknown_name_behaviours = self.state.members.unknown_name_behaviours
            if snapshot.window.series == TOTAL or snapshot.window.series in day_state.active_members:
                self.useful.add((day, snapshot.window.series))
            if day in self._hand:
                self.commit(day, self._hand[day])
            self._settle()
        self._see_anew(before, but=day)

    def _learn_habits(self, snapshot: Snapshot) -> None:
        """The account's grid is that of its first good total; its answers reach the day's end from the first that
        did."""
        window = snapshot.window
        if not snapshot.is_success or window.series != TOTAL:
            return
        if self.grid is None:
            self.grid = parse.infer_hour_offset(window, snapshot.values_by_hour)
        last_hour = window.end - HOUR + timedelta(seconds=self.grid or 0)
        if (
            self.reaches_end is None
            and not window.is_partial_day
            and last_hour in {record.hour_start for record in snapshot.records}
        ):
            self.reaches_end = snapshot.number

    def _in_hand(self, day: date) -> ReconciledDay:
        if day not in self._hand:
            self._hand[day] = self._folded(day) if day in self.expected_rows else empty_day(day)
        return self._hand[day]

    def _settle(self) -> None:
        self._finished.update(self.state.completed_days)
        for day in self.state.completed_days:
            self.commit(day, self._in_hand(day))
            del self._hand[day]

    def _is_settled(self, day: date) -> bool:
        return day in self._finished or day in self._held_final

    def _see_anew(self, before: Mapping[SeriesKey, MemberStatus], but: date | None = None) -> None:
        """The money of names that count since now, or no longer, is booked anew on all days they were asked for."""
        now = self.member_statuses
        changed = {series for series in before if before[series].is_loaded != (series in now and now[series].is_loaded)}
        for day in list(self.expected_rows) if changed else ():
            asked_for = any(
                snapshot.is_success and snapshot.window.series in changed
                for snapshot in self.expected_rows[day].snapshots
            )
            if day == but or not (asked_for or day in self._hand):
                continue
            reconciled = self._folded(day)
            if day in self._hand:
                self._hand[day] = reconciled
            self.state = planner.apply_reconciled_day(self.state, reconciled.day_state)
            self.commit(day, reconciled)

    def _folded(self, day: date) -> ReconciledDay:
        """The fold of a day's readings in the light of what is thought of names now."""
        asked = {snapshot.window.series for snapshot in self.expected_rows[day].snapshots}
        thought = {
            member_status: frozenset(series for series, held in self.member_statuses.items() if held is member_status)
            for member_status in MemberStatus
        }
        stored_facts = thought[MemberStatus.VERIFIED] | thought[MemberStatus.RETIRED]
        doubting = {
            dimension
            for dimension, unknown_name_behaviour in self.unknown_name_behaviours.items()
            if unknown_name_behaviour.answer is UnknownNameAnswer.TOTALS
        }
        return reconcile(
            replace(
                self.expected_rows[day],
                hour_offset_seconds=self.grid or 0,
                full_day_from_snapshot=self.reaches_end,
                ignored=thought[MemberStatus.EXCLUDED] | {*NONEXISTENT_MEMBERS.values()},
                unverified=frozenset(series for series in asked - stored_facts if series.dimension in doubting),
                retired=thought[MemberStatus.RETIRED],
            )
        )

    # -- what the warehouse tells the walk

    def _row(self, day: date) -> DayState:
        """A final day's verdict as its row tells it: without hours."""
        if day not in self._rows:
            self._rows[day] = _told_by_row(self.folds[day].day_state)
        return self._rows[day]

    def _with_neighbours(self, held: StoredState, state: planner.PlannerState) -> StoredState:
        """Spells and prices around the days that will be visited; of queues not seen there, when they were last."""
        visited = [*state.pending, *([state.next_older_day] if state.next_older_day else [])]
        days = {
            near + timedelta(days=n) for near in visited for n in range(-ACTIVITY_WINDOW.days, ACTIVITY_WINDOW.days + 1)
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
        latest: dict[SeriesKey, Measures] = {}
        for series, day, spent in (*last.values(), *around):
            active_periods[series] = planner.extend_periods(active_periods.get(series, ()), day)
            if planner.has_price(spent):
                latest[series] = spent
        return replace(held, active_periods=active_periods, last_spend=latest)


def _told_by_row(day_state: DayState) -> DayState:
    def keeps(dimension: Dimension) -> bool:
        return dimension is not Dimension.QUEUE or not day_state.is_explained

    is_over_allocated: Set[Dimension] = day_state.over_allocated_dimensions if day_state.is_closed else frozenset()
    asked = {series: at for series, at in day_state.requested_at.items() if series != TOTAL and keeps(series.dimension)}
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
        requested_at=asked,
    )
