"""Plan one day: which windows it needs now, and what a response changes. Pure.

Windows of a day are requested in this order:

1. the total; once more if it came without ``data`` within a week of spend;
2. hours of the total that its response did not cover, each once with ``date`` = that hour;
3. then, for each dimension until its members explain the total:
   *stale* members, whose snapshots no longer match the total because it changed or became final;
   *recently active* members, seen on neighbouring days, all at once; every eighth day also looks further, so that the
   days of a busy queue need not wait for each other;
   *outstanding* hours, which responses did not cover;
   and the other candidates: apps and IPs all at once; queues, by discovery, best match first, on closed days
   one day at a time, newest first. Older days wait for its results while their totals are read. If discovery found
   nothing, the next day requests all its candidates at once. On the running day only a few are requested, whose price
   fits.
"""

from collections.abc import Iterable, Set
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from etl.extract.planner.members import (
    AHEAD,
    MAX_ACTIVE_GAP_DAYS,
    MAX_GAP,
    Members,
    has_price,
    is_ahead,
    rank_candidates,
    recently_active,
    with_fitting_price,
)
from etl.extract.planner.state import DayPlan, DayRequests, PlannerState, SyncOptions
from etl.models import SPLIT_DIMENSIONS, TOTAL, DayState, Dimension, SeriesKey, Snapshot, Window

WAIT = DayRequests()

MAX_PRICE_CHANGE = Decimal("0.15")
"""If one queue explained a day, the price per task of a similar day differs by at most this."""

MAX_AVERAGE_PRICE_CHANGE = Decimal("0.03")
"""The same for several queues: if one of them starts or stops, their average price changes by more than this."""

MAX_FITTING = 3
"""Queues requested on the running day although none of its neighbours has them."""

MAX_VOLUME_FACTOR = 4
"""By how much the volumes of similar days differ: weekends are often quiet."""


# ---------------------------------------------------------------- opening a day


def new_day_plan(state: PlannerState, day: date) -> DayPlan:
    """Return the plan of a day, from what is stored of it."""
    options, members, day_state = state.options, state.members, state.stored.get(day, DayState(day))
    total_at = day_state.total_requested_at
    is_early = total_at is None or total_at < options.finalizes_at(day)
    verifies_members = any(  # they are compared with a new total
        members.needs_verification(dimension)
        and members.candidates[dimension]
        and not day_state.breakdown(dimension).is_explained
        for dimension in SPLIT_DIMENSIONS
    )
    is_uncertain = TOTAL in day_state.failed or bool(day_state.over_allocated_dimensions) or verifies_members
    is_checked = day in state.spot_checks or day in state.rechecks
    plan = DayPlan(day, day_state, needs_total=is_early or options.is_in_lookback(day) or is_uncertain or is_checked)
    if plan.needs_total:
        return plan
    stale = _read_before_final(options, day_state) | _failed(members, day_state)
    return replace(plan, stale=stale, done_series=_read_series(day_state))


def reopen_day_plan(day_state: DayState) -> DayPlan:
    """Return the plan of a finished day that needs more hours after a status change."""
    return DayPlan(day_state.day, day_state, needs_total=False, done_series=_read_series(day_state))


# ---------------------------------------------------------------- what it needs now


def next_requests(state: PlannerState, plan: DayPlan) -> DayRequests | None:
    """Return what a day needs now, or None if it is finished."""
    if plan.needs_total:
        return WAIT if plan.in_flight else _request(state, plan, [TOTAL])
    if plan.lacks_data and (again := _total_without_data(state, plan)):
        return again
    if windows := _outstanding_windows(state, plan, Dimension.TOTAL):
        return DayRequests(windows)
    if (plan.can_request_members or plan.stale) and not state.options.totals_only:
        candidates, is_listed = state.members.candidates, plan.stale or plan.day_state.outstanding
        dimensions = (one for one in SPLIT_DIMENSIONS if is_listed or candidates[one])
        found = (_dimension_requests(state, plan, dimension) for dimension in dimensions)
        if parts := [part for part in found if part is not None]:
            windows = tuple(window for part in parts for window in part.windows)
            return DayRequests(windows, any(part.is_discovering for part in parts))
    is_waiting = plan.in_flight or (state.reprobes_due and plan.can_request_members)
    return WAIT if is_waiting else None


def _dimension_requests(state: PlannerState, plan: DayPlan, dimension: Dimension) -> DayRequests | None:
    members, breakdown = state.members, plan.day_state.breakdown(dimension)
    in_flight = {window.series for window in plan.in_flight if window.series.dimension is dimension}
    if dimension in state.failed_probes:
        return None
    if stale := sorted(series for series in plan.stale - in_flight if series.dimension is dimension):
        return _request(state, plan, stale)
    if breakdown.is_explained:
        return None
    outstanding = _outstanding_windows(state, plan, dimension)
    if breakdown.is_over_allocated and dimension in plan.rechecked_dimensions:
        return DayRequests(outstanding) if outstanding else None
    others = members.candidates[dimension] - plan.done_series - in_flight
    if _must_wait(state, plan, dimension, others):
        return WAIT
    if active := _expected(state, plan, others):
        return _request(state, plan, active)
    if in_flight & plan.stale or _expected(state, plan, in_flight):
        return WAIT
    if outstanding:
        return DayRequests(outstanding)
    return _request_others(state, plan, others, is_discovering=bool(in_flight)) if others else None


def _expected(state: PlannerState, plan: DayPlan, among: Set[SeriesKey]) -> list[SeriesKey]:
    """Recently active members; on every eighth and the last day also those of the last explained day, eight days ahead.

    If such a member has spend, the days between are part of its active period, so they need not wait for each other.
    """
    near, model = recently_active(state.members, among, plan.day), state.last_explained
    if not among or model is None or not plan.day_state.is_closed:
        return near
    if not is_ahead(plan.day) and plan.day != state.last_day:
        return near
    newer = (state.open_days.get(plan.day + timedelta(days=n)) for n in range(1, AHEAD.days))
    if any(other and _may_differ(other, model) for other in (plan, *newer)):
        return near
    return sorted({*near, *recently_active(state.members, among & model.active_members, plan.day, AHEAD)})


def _may_differ(plan: DayPlan, model: DayState) -> bool:
    """True if volume and price per task suggest other active queues than on an explained day, or are not known yet."""
    day_state = plan.day_state
    if plan.needs_total or not has_price(model.total):
        return True
    if not day_state.is_closed or not has_price(day_state.total):
        return False
    (volume, money), (usual_volume, usual_money) = day_state.total, model.total
    queues = sum(series.dimension is Dimension.QUEUE for series in model.active_members)
    limit = MAX_PRICE_CHANGE if queues == 1 else MAX_AVERAGE_PRICE_CHANGE
    price_change = abs(money * usual_volume / (usual_money * volume) - 1)
    return price_change > limit or max(volume, usual_volume) > MAX_VOLUME_FACTOR * min(volume, usual_volume)


def _must_wait(state: PlannerState, plan: DayPlan, dimension: Dimension, others: Set[SeriesKey]) -> bool:
    """True while the probe of an unknown name has no response. An open day also waits for the day before it."""
    if others and dimension not in state.members.unknown_name_behaviours:
        return True
    is_open_queue = dimension is Dimension.QUEUE and not plan.day_state.is_closed
    return is_open_queue and _is_upcoming(state, plan.day - timedelta(days=1))


def _is_upcoming(state: PlannerState, day: date) -> bool:
    """True if a day is in progress or comes next."""
    return day in state.open_days or day == state.next_day


def _request_others(
    state: PlannerState, plan: DayPlan, others: Set[SeriesKey], *, is_discovering: bool
) -> DayRequests | None:
    """Members without recent activity. Queues: one day at a time, and few before the day is closed."""
    if next(iter(others)).dimension is not Dimension.QUEUE:
        return _request(state, plan, sorted(others - _new_members_in_flight(state, others)))
    if not plan.day_state.is_closed:
        return _request_fitting(state, plan, others)
    is_waiting = is_discovering and not state.discovery_found_nothing
    if is_waiting or any(day > plan.day and newer.may_discover for day, newer in state.open_days.items()):
        return WAIT
    unattributed = plan.day_state.breakdown(Dimension.QUEUE).unattributed_by_hour
    ranked = rank_candidates(state.members, others, plan.day, unattributed)
    chosen = ranked if state.discovery_found_nothing else ranked[:1]
    return _request(state, plan, chosen)._replace(is_discovering=True)


def _request_fitting(state: PlannerState, plan: DayPlan, others: Set[SeriesKey]) -> DayRequests | None:
    """At most three queues that may explain hours of the running day that have ended."""
    unattributed = plan.day_state.breakdown(Dimension.QUEUE).unattributed_by_hour
    ranked = rank_candidates(state.members, others, plan.day, unattributed)
    chosen = with_fitting_price(state.members, ranked, unattributed, MAX_PRICE_CHANGE)
    left = max(0, MAX_FITTING - plan.discovered)
    return _request(state, plan, chosen[:left])._replace(is_discovering=True) if chosen[:left] else None


def _new_members_in_flight(state: PlannerState, others: Set[SeriesKey]) -> set[SeriesKey]:
    """Members without a status that another day has just requested: one response is enough to classify them."""
    new = others - state.members.member_statuses.keys()
    return {one.series for plan in state.open_days.values() for one in plan.in_flight if one.series in new}


def _request(state: PlannerState, plan: DayPlan, series_keys: Iterable[SeriesKey]) -> DayRequests:
    return DayRequests(tuple(Window.whole_day(state.options.account, series, plan.day) for series in series_keys))


def _outstanding_windows(state: PlannerState, plan: DayPlan, dimension: Dimension) -> tuple[Window, ...]:
    """Outstanding hours of a closed day, each requested once with ``date`` = that hour."""
    day_state = plan.day_state
    if not day_state.is_closed:
        return ()
    windows = (
        replace(Window.whole_day(state.options.account, series, plan.day), start=start)
        for series, start in day_state.outstanding
        if series.dimension is dimension and series not in day_state.failed
    )
    return tuple(window for window in windows if window not in plan.sent)


def has_member_gaps(day_state: DayState) -> bool:
    """True if a closed day has outstanding hours of a member."""
    return day_state.is_closed and any(
        series != TOTAL and series not in day_state.failed for series, _ in day_state.outstanding
    )


# ---------------------------------------------------------------- what a response changes


def apply_response(state: PlannerState, plan: DayPlan, snapshot: Snapshot, day_state: DayState) -> DayPlan:
    """Return the plan after the response to one of its windows; ``day_state`` includes it."""
    before, series = plan.day_state, snapshot.window.series
    in_flight = plan.in_flight - {snapshot.window}
    if series == TOTAL:
        plan = replace(plan, in_flight=in_flight, day_state=day_state, needs_total=False, lacks_data=False)
        plan = _apply_total(state, plan, snapshot, before)
    else:
        stale, done_series = plan.stale - {series}, plan.done_series | {series}
        plan = replace(plan, in_flight=in_flight, day_state=day_state, stale=stale, done_series=done_series)
    return _recheck_over_allocated(_recheck_empty(state, plan, snapshot, before))


def _apply_total(state: PlannerState, plan: DayPlan, snapshot: Snapshot, before: DayState) -> DayPlan:
    """The total of a day that was read before shows which members have to be requested again."""
    day_state = plan.day_state
    if before.total_requested_at is None:
        return plan
    has_changed = day_state.total_by_hour.spent != before.total_by_hour.spent
    if plan.rechecked_dimensions or snapshot.window.is_partial_day:
        return replace(plan, stale=plan.stale | day_state.active_members) if has_changed else plan
    if not snapshot.is_success:
        return replace(plan, done_series=_read_series(day_state))
    failed, early = _failed(state.members, day_state), _read_before_final(state.options, day_state)
    if has_changed:
        return replace(plan, stale=day_state.active_members | failed)
    if plan.day in state.spot_checks:
        return replace(plan, stale=early | failed, done_series=_read_series(day_state))
    # An unexplained day requests its queues again, and all candidates once it becomes final. That apps and IPs leave
    # an unattributed amount is normal.
    queues = frozenset(series for series in day_state.active_members if series.dimension is Dimension.QUEUE)
    stale = early | failed | (frozenset() if day_state.is_explained else queues)
    done_series = _read_series(day_state)
    if not day_state.is_explained and any(series.dimension is Dimension.QUEUE for series in early):
        done_series = frozenset(series for series in done_series if series.dimension is not Dimension.QUEUE)
    return replace(plan, stale=stale, done_series=done_series)


def _recheck_empty(state: PlannerState, plan: DayPlan, snapshot: Snapshot, before: DayState) -> DayPlan:
    """Request a window once more if it came back empty although spend is stored, or without ``data`` near spend."""
    window, series = snapshot.window, snapshot.window.series
    if not snapshot.is_success or snapshot.has_records or window in plan.rechecked_windows:
        return plan
    had_spend = before.has_spend if series == TOTAL else series in before.active_members
    is_undecided = not had_spend and snapshot.lacks_data and series == TOTAL and not window.is_partial_day
    is_near_spend = snapshot.lacks_data and recently_active(state.members, {series}, plan.day)
    if not had_spend and not is_undecided and not is_near_spend:
        return plan
    plan = replace(plan, rechecked_windows=plan.rechecked_windows | {window}, sent=plan.sent - {window})
    if is_undecided:  # spend of newer days may arrive later
        return replace(plan, lacks_data=True)
    if window.is_partial_day:
        return plan
    if series == TOTAL:
        return replace(plan, needs_total=True)
    return replace(plan, stale=plan.stale | {series})


def _total_without_data(state: PlannerState, plan: DayPlan) -> DayRequests | None:
    """Request a total that lacks data once more if spend is at most a week away; first wait for the newer totals."""
    week = [plan.day + timedelta(days=n) for n in range(-MAX_ACTIVE_GAP_DAYS, MAX_ACTIVE_GAP_DAYS + 1)]
    stored = (state.stored[day] for day in week if day in state.stored)
    if recently_active(state.members, {TOTAL}, plan.day, MAX_GAP) or any(one.has_spend for one in stored):
        return WAIT if plan.in_flight else _request(state, plan, [TOTAL])
    newer = (state.open_days[day] for day in week if day > plan.day and day in state.open_days)
    return WAIT if any(one.day_state.total_requested_at is None for one in newer) else None


def _recheck_over_allocated(plan: DayPlan) -> DayPlan:
    """Request the total and the members of an over-allocated dimension once more in the same run."""
    dimensions = plan.day_state.over_allocated_dimensions - plan.rechecked_dimensions
    if not dimensions or plan.in_flight or plan.stale:
        return plan
    again = frozenset(series for series in plan.day_state.active_members if series.dimension in dimensions)
    return replace(
        plan,
        needs_total=True,
        stale=again,
        sent=frozenset(window for window in plan.sent if not window.is_partial_day),
        rechecked_dimensions=plan.rechecked_dimensions | dimensions,
    )


def _read_before_final(options: SyncOptions, day_state: DayState) -> frozenset[SeriesKey]:
    """Members last read before the day was final, if its total was read after that."""
    final_at = options.finalizes_at(day_state.day)
    if day_state.total_requested_at is None or day_state.total_requested_at < final_at:
        return frozenset()
    read_at = day_state.requested_at
    return frozenset(one for one in day_state.active_members if one not in read_at or read_at[one] < final_at)


def _failed(members: Members, day_state: DayState) -> frozenset[SeriesKey]:
    """Members whose last attempt failed while the day needs them."""
    return frozenset(
        series
        for series in day_state.failed - {TOTAL}
        if members.may_request(series) and not day_state.breakdown(series.dimension).is_explained
    )


def _read_series(day_state: DayState) -> frozenset[SeriesKey]:
    return frozenset(day_state.requested_at.keys() - day_state.failed)
