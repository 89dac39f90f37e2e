"""Choose the next windows over all days, and decide when the run is done. Pure functions over PlannerState."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from itertools import islice
from typing import Protocol, TypeVar

from etl.extract.planner import day_plan, members, unknown_names
from etl.extract.planner.members import NONEXISTENT_MEMBERS, Members
from etl.extract.planner.state import (
    DayPlan,
    DayRequests,
    Done,
    PlannerState,
    Request,
    Step,
    StopReason,
    StoredState,
    SyncOptions,
    Wait,
)
from etl.models import (
    TOTAL,
    DayState,
    ErrorScope,
    Outcome,
    Snapshot,
    Window,
    queue,
)

MAX_SAME_FAILURES = 5
"""The account stops after this many windows in a row failed with the same code."""

MAX_FAILURES = 5 * MAX_SAME_FAILURES
"""It also stops after this many in a row failed with any code."""

Windows = tuple[Window, ...]


# ---------------------------------------------------------------- start


def start(options: SyncOptions, stored: StoredState) -> PlannerState:
    """Return the state before the first request."""
    with_spend = [day for day, day_state in stored.days.items() if day_state.has_spend or TOTAL in day_state.failed]
    oldest_spend = min(with_spend, default=None)
    first_day = options.since or _first_known_day(options, stored, oldest_spend)
    newest_first = (options.end_day - timedelta(days=n) for n in range((options.end_day - first_day).days + 1))
    known = members.refresh_candidates(
        Members(
            order=(*options.configured, *map(queue, options.known_queues)),
            member_statuses=members.apply_trusted(stored.member_statuses, options.trusted),
            unknown_name_behaviours=stored.unknown_name_behaviours,
            active_periods=stored.active_periods,
            last_spend=stored.last_spend,
            requested_by_user=options.requested_by_user,
            trusted=frozenset(options.trusted),
        )
    )
    return PlannerState(
        options=options,
        members=known,
        first_day=first_day,
        days_without_raw=sum(_lacks_members(options, known, stored.days[day]) for day in stored.without_raw),
        pending=tuple(day for day in newest_first if _needs_requests(options, stored, known, day)),
        stored=stored.days,
        next_older_day=None if options.since else first_day - timedelta(days=1),
        oldest_spend=oldest_spend,
        has_total=any(day_state.total_requested_at for day_state in stored.days.values()),
        final=stored.final,
        spot_checks=stored.spot_checks,
        rechecks=stored.rechecks,
    )


def _first_known_day(options: SyncOptions, stored: StoredState, oldest_spend: date | None) -> date:
    """First day of the known range. Days without spend, far before the first spend, are not part of it."""
    first = min([*stored.days, options.end_day])
    if oldest_spend is None:
        return first
    return min(max(first, oldest_spend - timedelta(days=options.empty_days)), options.end_day)


def _needs_requests(options: SyncOptions, stored: StoredState, known: Members, day: date) -> bool:
    day_state = stored.days.get(day)
    if day in stored.without_raw:
        return False
    if day_state is None or day not in stored.final or options.is_in_lookback(day):
        return True
    if day in stored.spot_checks or day in stored.rechecks:
        return True
    return bool(day_state.over_allocated_dimensions) or _lacks_members(options, known, day_state)


def _lacks_members(options: SyncOptions, known: Members, day_state: DayState) -> bool:
    """True if a candidate was not requested for a day that is not explained."""
    if options.totals_only or not day_state.has_spend:
        return False
    return any(
        not day_state.breakdown(dimension).is_explained and not names <= day_state.requested_at.keys()
        for dimension, names in known.candidates.items()
        if names
    )


# ---------------------------------------------------------------- next windows


def next_windows(state: PlannerState, capacity: int) -> tuple[PlannerState, Step]:
    """Return the next windows to request, at most ``capacity``; or wait for a response; or done."""
    if state.completed_days:
        state = replace(state, completed_days=())
    if state.stop_reason:
        return state, Wait() if state.has_in_flight else Done(state.stop_reason)
    if state.options.max_requests is not None:
        capacity = min(capacity, state.options.max_requests - state.requests_sent - state.retries)
    if not state.has_total or state.probe or state.probes_due:
        return _step(*_request_alone(state, capacity))
    windows: Windows = ()
    completed = -1
    while not windows and len(state.completed_days) > completed:  # another day may have waited for a completed one
        completed = len(state.completed_days)
        state, windows = _request_days(state, capacity)
    if not windows and state.probes_due:
        state, windows = _request_alone(state, capacity)
    return _step(state, windows)


def _step(state: PlannerState, windows: Windows) -> tuple[PlannerState, Step]:
    if windows:
        return state, Request(windows)
    if state.has_in_flight:
        return state, Wait()
    if not state.open_days and state.next_day is None:
        return state, Done(StopReason.DONE)
    if state.options.max_requests is None:  # cannot happen; fail instead of waiting forever
        raise AssertionError(f"nothing to request and nothing in flight: {sorted(state.open_days)}")
    return state, Done(StopReason.LIMIT)


def _request_alone(state: PlannerState, capacity: int) -> tuple[PlannerState, Windows]:
    """An account's first total, then one probe per dimension: nothing else is in flight with them."""
    if state.has_in_flight or capacity < 1:
        return state, ()
    if state.has_total:
        day = max(day for day, plan in state.open_days.items() if plan.can_request_members)
        probe = Window.whole_day(state.options.account, NONEXISTENT_MEMBERS[state.probes_due[0]], day)
        return replace(state, probe=probe, requests_sent=state.requests_sent + 1), (probe,)
    return _open_next_day(state, 1) if state.next_day else (state, ())


def _request_days(state: PlannerState, capacity: int) -> tuple[PlannerState, Windows]:
    """Windows of the days in progress, newest first, then of the next days."""
    windows: Windows = ()
    for day in sorted(state.due, reverse=True):
        if len(windows) < capacity or capacity < 1:  # without any capacity, finished days are still completed
            state, more = _request_day(state, day, capacity - len(windows))
            windows += more
    while len(windows) < capacity and len(state.open_days) < state.options.max_open_days and state.next_day:
        state, more = _open_next_day(state, capacity - len(windows))
        windows += more
    return state, windows


def _open_next_day(state: PlannerState, capacity: int) -> tuple[PlannerState, Windows]:
    day = state.next_day
    assert day is not None  # noqa: S101 - the caller checked
    open_days = {**state.open_days, day: day_plan.new_day_plan(state, day)}
    if day > min(open_days):  # an older day was opened again
        open_days = dict(sorted(open_days.items(), reverse=True))
    state = replace(
        state,
        open_days=open_days,
        pending_opened=state.pending_opened + (state.pending_count > 0),
        next_older_day=state.next_older_day if state.pending_count else day - timedelta(days=1),
    )
    return _request_day(state, day, capacity)


def _request_day(state: PlannerState, day: date, capacity: int) -> tuple[PlannerState, Windows]:
    """Up to ``capacity`` windows that the day needs now; a day that needs no more is completed."""
    plan = state.open_days[day]
    requests = state.due.get(day) or day_plan.next_requests(state, plan)
    if requests is None:
        return _complete(state, plan), ()
    windows, later = requests.windows[: max(0, capacity)], requests.windows[max(0, capacity) :]
    due = dict(state.due)
    due.pop(day, None)
    if later:
        due[day] = DayRequests(later, requests.is_discovering)
    if not windows:
        return replace(state, due=due), ()
    in_flight = plan.in_flight | {*windows}
    if not later and (plan.stale or any(window.is_partial_day for window in in_flight)):
        due[day] = None  # others need not wait for the responses to these
    if any(members.is_new_app_or_ip(state.members, window.series) for window in windows):
        due = dict.fromkeys(state.open_days)  # other days wait for the response to a new name
    plan = replace(
        plan,
        in_flight=in_flight,
        sent=plan.sent | {*windows},
        discovered=plan.discovered + len(windows) * requests.is_discovering,
    )
    requests_sent = state.requests_sent + len(windows)
    return replace(state, open_days={**state.open_days, day: plan}, due=due, requests_sent=requests_sent), windows


def _complete(state: PlannerState, plan: DayPlan) -> PlannerState:
    open_days, due = dict(state.open_days), dict(state.due)
    del open_days[plan.day]
    due.pop(plan.day, None)
    has_discovered = plan.discovered and plan.day_state.is_closed
    found_nothing = not plan.day_state.is_explained if has_discovered else state.discovery_found_nothing
    completed = (*state.completed_days, plan.day)
    is_model = plan.day_state.is_closed and plan.day_state.is_explained and plan.day_state.has_spend
    state = replace(
        state,
        open_days=open_days,
        due=due,
        completed_days=completed,
        discovery_found_nothing=found_nothing,
        last_explained=plan.day_state if is_model else state.last_explained,
    )
    days = {plan.day + timedelta(days=1), members.next_ahead(plan.day), state.last_day, *_next_to_discover(open_days)}
    return _look_at(state, days)


def _next_to_discover(open_days: Mapping[date, DayPlan]) -> list[date]:
    """The only day that may discover queues: the newest that can."""
    return list(islice((day for day, plan in open_days.items() if plan.may_discover), 1))


def _look_at(state: PlannerState, days: Collection[date | None]) -> PlannerState:
    """Look again at these days, if they are open, before the next requests."""
    changed = dict.fromkeys(day for day in state.open_days if day in days)
    return replace(state, due={**state.due, **changed}) if changed else state


# ---------------------------------------------------------------- responses


def classify_name(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """Update what is known about names; ``day_state`` is the day's without the snapshot.

    Call it before the day is reconciled, because only verified members count.
    """
    if snapshot.window == state.probe:
        return unknown_names.apply_probe(state, snapshot, day_state)
    known = members.classify(state.members, snapshot, day_state)
    return state if known is state.members else _look_at(replace(state, members=known), state.open_days)


class _OfWindow(Protocol):
    @property
    def window(self) -> Window: ...


_Item = TypeVar("_Item", bound=_OfWindow)


def group_by_day(items: Iterable[_Item]) -> list[list[_Item]]:
    """Group responses or snapshots that can be applied after one reconcile: those of one day, a total by itself."""
    by_day: dict[date, list[list[_Item]]] = {}
    for item in items:
        groups = by_day.setdefault(item.window.day, [])
        if not groups or TOTAL in (item.window.series, groups[-1][-1].window.series):
            groups.append([])
        groups[-1].append(item)
    return [group for groups in by_day.values() for group in groups]


def apply_snapshot(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """Take in one response; ``day_state`` includes it and its group. A day that needs no more is completed."""
    if state.completed_days:
        state = replace(state, completed_days=())
    if snapshot.window == state.probe:
        return _count_failures(_look_at(replace(state, probe=None), state.open_days), snapshot)
    state = _count_failures(unknown_names.notice_change(state, snapshot), snapshot)
    plan = state.open_days.get(snapshot.window.day)
    if plan is None:
        return _learn(state, snapshot, day_state)
    plan = day_plan.apply_response(state, plan, snapshot, day_state)
    state = _learn(state, snapshot, day_state)
    requests, due = day_plan.next_requests(state, plan), dict(state.due)
    open_days = {**state.open_days, plan.day: plan}
    if not snapshot.is_success:
        due = dict.fromkeys(open_days)  # another day may request the name now
    elif snapshot.window.series == TOTAL:
        due |= dict.fromkeys(_next_to_discover(open_days))
        due |= dict.fromkeys(day for day, other in open_days.items() if other.lacks_data)
    due.pop(plan.day, None)
    if requests is not None and requests.windows:
        due[plan.day] = requests
    state = replace(state, open_days=open_days, due=due)
    return _complete(state, plan) if requests is None else state


def is_expected_error(state: PlannerState, snapshot: Snapshot) -> bool:
    """True if an API error only showed which names exist: no window failed."""
    series = snapshot.window.series
    is_probe = series == NONEXISTENT_MEMBERS.get(series.dimension)
    is_known_behaviour = is_probe and series.dimension in state.members.unknown_name_behaviours
    return snapshot.outcome is Outcome.API_ERROR and (is_known_behaviour or state.members.is_refused(series))


def _count_failures(state: PlannerState, snapshot: Snapshot) -> PlannerState:
    """Stop the account at an error that concerns all of it, and after too many failures in a row."""
    if snapshot.error_scope is ErrorScope.ACCOUNT:
        return replace(state, stop_reason=StopReason.ACCOUNT_REJECTED, stopped_by=state.stopped_by or snapshot)
    if snapshot.is_success or is_expected_error(state, snapshot):
        return replace(state, same_error_streak=("", 0), failure_streak=0) if state.failure_streak else state
    if snapshot.window.series.dimension in state.reprobes_due:
        return state  # first see how the API now answers unknown names
    code, count = state.same_error_streak
    count = count + 1 if code == snapshot.code else 1
    state = replace(state, same_error_streak=(snapshot.code, count), failure_streak=state.failure_streak + 1)
    if count < MAX_SAME_FAILURES and state.failure_streak < MAX_FAILURES:
        return state
    stop_reason = state.stop_reason or StopReason.TOO_MANY_FAILURES
    return replace(state, stop_reason=stop_reason, stopped_by=state.stopped_by or snapshot)


def _learn(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """Update what is known across days: the oldest spend, and when members are active."""
    day, series, oldest = snapshot.window.day, snapshot.window.series, state.oldest_spend
    if series != TOTAL:
        known = members.record_activity(state.members, snapshot, day_state)
        if known is state.members:
            return state
        near = members.days_brought_near(state.members.active_periods, known.active_periods, series, day)
        due = {**state.due, **dict.fromkeys(one for one in near if one in state.open_days)}
        return replace(state, members=known, due=due)
    if day_state.has_spend or not snapshot.is_success:
        oldest = min(oldest or day, day)
    if day_state.has_spend:
        state = replace(state, members=members.add_active_day(state.members, series, day))
    return replace(state, oldest_spend=oldest, has_total=state.has_total or snapshot.has_records or snapshot.is_success)


def apply_reconciled_day(state: PlannerState, day_state: DayState) -> PlannerState:
    """Take in a stored day that was reconciled again because a member's status changed.

    It is opened again if it now has outstanding hours.
    """
    day, plan = day_state.day, state.open_days.get(day_state.day)
    if plan is not None:
        state = replace(state, open_days={**state.open_days, day: replace(plan, day_state=day_state)})
        return _look_at(state, state.open_days)
    state = replace(state, stored={**state.stored, day: day_state})
    if state.is_pending(day) or not state.options.requests_members_of(day) or not day_plan.has_member_gaps(day_state):
        return state
    plans = {**state.open_days, day: day_plan.reopen_day_plan(day_state)}
    open_days = dict(sorted(plans.items(), reverse=True))
    return replace(state, open_days=open_days, due=dict.fromkeys(open_days))


def cancel_in_flight(state: PlannerState) -> PlannerState:
    """Forget windows in flight, after the account was stopped and they were cancelled."""
    open_days = {day: replace(plan, in_flight=frozenset()) for day, plan in state.open_days.items()}
    return replace(state, open_days=open_days, due=dict.fromkeys(open_days), probe=None)
