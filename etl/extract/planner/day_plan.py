"""One day: what it wants to ask now, and what its answers teach it. Pure.

Of a day is asked, in this order:

1. the total. Nothing spent: the day is done with one request;
2. hours of the total that its answer did not speak for, each once, with ``date`` = that hour; when a day is read again,
   only those that hold spend;
3. then, of each cut by itself, until its members explain the total:
   what is *due*: names whose reading no longer stands beside the total, because it changed or became final;
   what is *likely*: names seen on neighbouring days, all at once;
   what is *owed*: hours that answers did not speak for;
   and the others: of apps and addresses all at once, for the user listed each; queues are *hunted* for, the likeliest
   first, on closed days alone and one day at a time, newest first. Older days wait for its findings while their
   totals are read. A hunt that found nothing has nothing to share, so the next one asks all its names at once.
"""

from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

from etl.extract.planner import members as known
from etl.extract.planner.members import Members
from etl.extract.planner.state import DayPlan, PlannerState, SyncOptions
from etl.models import (
    SPLIT_DIMENSIONS,
    TOTAL,
    ZERO_MEASURES,
    DayState,
    Dimension,
    Measures,
    SeriesKey,
    Snapshot,
    Window,
)


class DayRequests(NamedTuple):
    """The windows a day wants now; with none of them it waits."""

    windows: tuple[Window, ...] = ()
    is_discovering: bool = False


# ---------------------------------------------------------------- opening a day


def new_day_plan(state: PlannerState, day: date) -> DayPlan:
    """The plan of a day that is visited, from what is held of it."""
    options, names, day_state = state.options, state.members, state.stored.get(day, DayState(day))
    requested_at = day_state.total_requested_at
    is_early = requested_at is None or requested_at < options.finalizes_at(day)
    weighs_names = any(
        names.needs_verification(dimension)
        and names.candidates[dimension]
        and not day_state.breakdown(dimension).is_explained
        for dimension in SPLIT_DIMENSIONS
    )
    is_doubtful = (
        TOTAL in day_state.failed or bool(day_state.over_allocated_dimensions) or weighs_names
    )  # names are weighed by a fresh total
    plan = DayPlan(day, day_state, needs_total=is_early or options.is_in_lookback(day) or is_doubtful)
    if plan.needs_total:
        return plan
    due = _read_before_final(options, day_state) | _failed(names, day_state)
    return replace(plan, stale=due, done_series=_answered(day_state) - due)


def reopen_day_plan(day_state: DayState) -> DayPlan:
    """The plan of a day that was finished with, and owes hours since."""
    return DayPlan(day_state.day, day_state, needs_total=False, done_series=_answered(day_state))


def unrequested_members(names: Members, day_state: DayState, dimension: Dimension) -> frozenset[SeriesKey]:
    """Members worth asking of a cut that a day's total leaves unexplained, and that were not asked of that day."""
    return (
        frozenset()
        if day_state.breakdown(dimension).is_explained
        else frozenset(names.candidates[dimension] - day_state.requested_at.keys())
    )


# ---------------------------------------------------------------- what it wants


def next_requests(state: PlannerState, plan: DayPlan) -> DayRequests | None:
    """What a day wants to ask now; None: it wants nothing more."""
    if plan.needs_total:
        return DayRequests() if plan.in_flight else DayRequests((_window(state, plan, TOTAL),))
    if tails := _tails(state, plan, Dimension.TOTAL):
        return DayRequests(tails)
    if (plan.can_request_members or plan.stale) and not state.options.totals_only:
        parts = [part for dimension in SPLIT_DIMENSIONS if (part := _wanted_of_cut(state, plan, dimension))]
        if parts:
            return DayRequests(
                tuple(window for part in parts for window in part.windows), any(part.is_discovering for part in parts)
            )
    return DayRequests() if plan.in_flight else None


def _wanted_of_cut(state: PlannerState, plan: DayPlan, dimension: Dimension) -> DayRequests | None:
    names, breakdown = state.members, plan.day_state.breakdown(dimension)
    in_the_air = {window.series for window in plan.in_flight if window.series.dimension is dimension}
    if dimension in state.failed_probes:
        return None
    if due := sorted(series for series in plan.stale if series.dimension is dimension and series not in in_the_air):
        return _ask(state, plan, due)
    if breakdown.is_explained:
        return None
    tails = _tails(state, plan, dimension)
    if breakdown.is_over_allocated and dimension in plan.rechecked_dimensions:
        return DayRequests(tails) if tails else None
    others = names.candidates[dimension] - plan.done_series - in_the_air
    if _must_wait(state, plan, dimension, others):
        return DayRequests()
    if recently_active := known.recently_active(names, others, plan.day):
        return _ask(state, plan, recently_active)
    if in_the_air & plan.stale or known.recently_active(names, in_the_air, plan.day):
        return DayRequests()
    if tails:
        return DayRequests(tails)
    if dimension is Dimension.QUEUE:
        return _wanted_of_hunted(state, plan, others, is_hunting=bool(in_the_air))
    return _wanted_of_listed(state, plan, others)


def _must_wait(state: PlannerState, plan: DayPlan, dimension: Dimension, others: Set[SeriesKey]) -> bool:
    """For what a name that cannot exist gives; and of the running day, for what the day before finds."""
    if others and dimension not in state.members.unknown_name_behaviours:
        return True
    return (
        dimension is Dimension.QUEUE
        and not plan.day_state.is_closed
        and is_upcoming(state, plan.day - timedelta(days=1))
    )


def _wanted_of_hunted(
    state: PlannerState, plan: DayPlan, others: Set[SeriesKey], *, is_hunting: bool
) -> DayRequests | None:
    """Queues that nothing speaks for are asked on closed days alone, by one day at a time."""
    if not others or not plan.day_state.is_closed:
        return None
    if is_hunting and not state.discovery_found_nothing:
        return DayRequests()
    if any(day > plan.day and newer.may_discover for day, newer in state.open_days.items()):
        return DayRequests()
    hunted = known.rank_candidates(
        state.members, others, plan.day, plan.day_state.breakdown(Dimension.QUEUE).unattributed_by_hour.values()
    )
    return _ask(state, plan, hunted if state.discovery_found_nothing else hunted[:1], is_discovering=True)


def _wanted_of_listed(state: PlannerState, plan: DayPlan, others: Set[SeriesKey]) -> DayRequests | None:
    """Apps and addresses that nothing speaks for are asked all at once, but one that never answered on one day
    first."""
    strange = others - state.members.member_statuses.keys()
    asked_elsewhere = {
        window.series for other in state.open_days.values() for window in other.in_flight if window.series in strange
    }
    return _ask(state, plan, sorted(others - asked_elsewhere)) if others else None


def is_upcoming(state: PlannerState, day: date) -> bool:
    """Whether the walk is about to visit a day, or has not finished with it."""
    return day in state.open_days or day in state.pending[:1] or (not state.pending and day == state.next_day)


def _ask(
    state: PlannerState, plan: DayPlan, series_keys: Sequence[SeriesKey], is_discovering: bool = False
) -> DayRequests:
    return DayRequests(tuple(_window(state, plan, series) for series in series_keys), is_discovering)


def _window(state: PlannerState, plan: DayPlan, series: SeriesKey) -> Window:
    return Window.whole_day(state.options.account, series, plan.day)


def has_member_gaps(day_state: DayState) -> bool:
    """Whether hours of a closed day are owed of a queue, an app or an address."""
    return day_state.is_closed and any(
        series != TOTAL and series not in day_state.failed for series, _ in day_state.outstanding
    )


def _tails(state: PlannerState, plan: DayPlan, dimension: Dimension) -> tuple[Window, ...]:
    """Owed hours of a closed day, each asked once with ``date`` = that hour."""
    day_state = plan.day_state
    if not day_state.is_closed:
        return ()
    outstanding = [
        (series, start)
        for series, start in day_state.outstanding
        if series.dimension is dimension and series not in day_state.failed
    ]
    tails = [replace(_window(state, plan, series), start=start) for series, start in outstanding]
    return tuple(tail for tail in tails if tail not in plan.sent)


# ---------------------------------------------------------------- what an answer teaches it


def apply_response(state: PlannerState, plan: DayPlan, snapshot: Snapshot, day_state: DayState) -> DayPlan:
    """The plan after one of its windows was answered; ``day_state`` is the day's with the answer."""
    before, plan = plan.day_state, replace(plan, in_flight=plan.in_flight - {snapshot.window}, day_state=day_state)
    if snapshot.window.series == TOTAL:
        plan = _told_total(state, replace(plan, needs_total=False), snapshot, before)
    else:
        asked = {snapshot.window.series}
        plan = replace(plan, stale=plan.stale - asked, done_series=plan.done_series | asked)
    return _doubting_excess(_doubting_emptiness(plan, snapshot, before))


def _told_total(state: PlannerState, plan: DayPlan, snapshot: Snapshot, before: DayState) -> DayPlan:
    """A total came. Of a day read before it says which names have to be asked again beside it."""
    day_state = plan.day_state
    has_changed = _spend_by_hour(day_state) != _spend_by_hour(before)
    if before.total_requested_at is None:
        return plan
    if plan.rechecked_dimensions or snapshot.window.is_partial_day:
        return replace(plan, stale=plan.stale | day_state.active_members) if has_changed else plan
    if not snapshot.is_success:
        return replace(plan, done_series=_answered(day_state))
    failed, early = _failed(state.members, day_state), _read_before_final(state.options, day_state)
    if has_changed:
        return replace(plan, stale=day_state.active_members | failed)
    # An unexplained day asks its queues again, and when it becomes final every name; a rest of apps and
    # addresses is no news.
    queues = (
        frozenset()
        if day_state.is_explained
        else frozenset(series for series in day_state.active_members if series.dimension is Dimension.QUEUE)
    )
    due = early | failed | queues
    done_series = _answered(day_state) - due
    if not day_state.is_explained and any(series.dimension is Dimension.QUEUE for series in early):
        done_series = frozenset(series for series in done_series if series.dimension is not Dimension.QUEUE)
    return replace(plan, stale=due, done_series=done_series)


def _doubting_emptiness(plan: DayPlan, snapshot: Snapshot, before: DayState) -> DayPlan:
    """An answer without a record where spend is held is asked for once more before it is believed."""
    window, series = snapshot.window, snapshot.window.series
    held_spend = before.has_spend if series == TOTAL else series in before.active_members
    if not snapshot.is_success or snapshot.records or not held_spend or window in plan.rechecked_windows:
        return plan
    plan = replace(plan, rechecked_windows=plan.rechecked_windows | {window}, sent=plan.sent - {window})
    if window.is_partial_day:
        return plan
    if series == TOTAL:
        return replace(plan, needs_total=True)
    return replace(plan, stale=plan.stale | {series}, done_series=plan.done_series - {series})


def _doubting_excess(plan: DayPlan) -> DayPlan:
    """Where members exceed the total, it and they are asked once more in the same run."""
    dimensions = plan.day_state.over_allocated_dimensions - plan.rechecked_dimensions
    if not dimensions or plan.in_flight or plan.stale:
        return plan
    again = frozenset(series for series in plan.day_state.active_members if series.dimension in dimensions)
    return replace(
        plan,
        needs_total=True,
        stale=again,
        done_series=plan.done_series - again,
        rechecked_dimensions=plan.rechecked_dimensions | dimensions,
    )


def _spend_by_hour(day_state: DayState) -> dict[datetime, Measures]:
    """The total's hours with spend: an idle hour more is no news."""
    return {hour: value for hour, value in day_state.total_by_hour.items() if value != ZERO_MEASURES}


def _read_before_final(options: SyncOptions, day_state: DayState) -> frozenset[SeriesKey]:
    """Members whose reading is too early for the day to be final, once its total is not."""
    deadline = options.finalizes_at(day_state.day)
    if day_state.total_requested_at is None or day_state.total_requested_at < deadline:
        return frozenset()
    return frozenset(
        series
        for series in day_state.active_members
        if series not in day_state.requested_at or day_state.requested_at[series] < deadline
    )


def _failed(names: Members, day_state: DayState) -> frozenset[SeriesKey]:
    """Members whose last attempt failed while the day needs them."""
    return frozenset(
        series
        for series in day_state.failed - {TOTAL}
        if names.may_request(series)
        and (TOTAL in day_state.failed or not day_state.breakdown(series.dimension).is_explained)
    )


def _answered(day_state: DayState) -> frozenset[SeriesKey]:
    return frozenset(series for series in day_state.requested_at if series not in day_state.failed)
