"""The course through the days: which is next, what is asked now, when the walk is over. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

from etl.extract.planner import day_plan as one_day
from etl.extract.planner import members as known
from etl.extract.planner.members import NONEXISTENT_MEMBERS, Members
from etl.extract.planner.state import (
    DayPlan,
    Done,
    PlannerState,
    Request,
    Step,
    StopReason,
    StoredState,
    SyncOptions,
    Wait,
)
from etl.models import SPLIT_DIMENSIONS, TOTAL, DayState, Dimension, ErrorScope, Outcome, Snapshot, Window, queue

MAX_SAME_FAILURES = 5
"""So many windows in a row that fail with the same code stop the account."""

MAX_FAILURES = 5 * MAX_SAME_FAILURES
"""So many windows in a row that fail with whatever code stop it too."""


def start(options: SyncOptions, stored: StoredState) -> PlannerState:
    """The state before the first request, from what is held."""
    last_spend = [day for day, day_state in stored.days.items() if day_state.has_spend or TOTAL in day_state.failed]
    bottom = options.since or _first_known(options, stored, min(last_spend, default=None))
    newest_first = (options.end_day - timedelta(days=n) for n in range((options.end_day - bottom).days + 1))
    names = _names(options, stored)
    return PlannerState(
        options=options,
        members=names,
        first_day=bottom,
        days_without_raw=sum(_owes_names(options, names, stored.days[day]) for day in stored.without_raw),
        pending=tuple(day for day in newest_first if _needs_visit(options, stored, names, day)),
        stored=stored.days,
        next_older_day=None if options.since else bottom - timedelta(days=1),
        oldest_spend=min(last_spend, default=None),
        has_total=any(day_state.total_requested_at for day_state in stored.days.values()),
    )


def _first_known(options: SyncOptions, stored: StoredState, oldest_spend: date | None) -> date:
    """The first day of the known range: an idle day that was once asked for far before the history is not part of
    it."""
    first = min([*stored.days, options.end_day])
    return (
        first
        if oldest_spend is None
        else min(max(first, oldest_spend - timedelta(days=options.empty_days)), options.end_day)
    )


def _names(options: SyncOptions, stored: StoredState) -> Members:
    order = (*options.configured, *map(queue, options.known_queues))
    member_statuses = known.apply_trusted(stored.member_statuses, options.trusted)
    return known.refresh_candidates(
        Members(
            order,
            {},
            member_statuses,
            stored.unknown_name_behaviours,
            stored.active_periods,
            stored.last_spend,
            options.requested_by_user,
        )
    )


def _needs_visit(options: SyncOptions, stored: StoredState, names: Members, day: date) -> bool:
    day_state = stored.days.get(day)
    if day in stored.without_raw:
        return False
    if (
        day_state is None
        or day not in stored.final
        or options.is_in_lookback(day)
        or day_state.over_allocated_dimensions
    ):
        return True
    return _owes_names(options, names, day_state)


def _owes_names(options: SyncOptions, names: Members, day_state: DayState) -> bool:
    """Whether a name that is worth asking was not asked of a day that is not explained."""
    return (
        not options.totals_only
        and day_state.has_spend
        and any(one_day.unrequested_members(names, day_state, dimension) for dimension in SPLIT_DIMENSIONS)
    )


# ---------------------------------------------------------------- next: what to ask


def next_windows(state: PlannerState, room: int) -> tuple[PlannerState, Step]:
    """What to ask now, at most ``room`` windows; or wait for an answer; or the walk is over."""
    state = replace(state, completed_days=())
    if state.stop_reason:
        return state, Wait() if state.in_flight else Done(state.stop_reason)
    if state.options.max_requests is not None:
        room = min(room, state.options.max_requests - state.requests_sent - state.retries)
    if not state.has_total or state.probe or _unlearned(state):
        return _alone(state, room)
    windows: list[Window] = []
    completed = -1
    while not windows and len(state.completed_days) > completed:  # a day that was shut may be what another waited for
        completed = len(state.completed_days)
        state = _asked_of_days(state, windows, room)
    return _alone(state, room) if not windows and _unlearned(state) else _step(state, windows)


def _asked_of_days(state: PlannerState, windows: list[Window], room: int) -> PlannerState:
    """Adds what days want to ask now: those in progress, newest first, then the next ones."""
    for day in sorted(state.open_days, reverse=True):
        if len(windows) < room or room < 1:  # with no room at all, days that want nothing more are shut
            state = _asking(state, day, windows, room)
    while (
        len(windows) < room and len(state.open_days) < state.options.max_open_days and (day_or_none := state.next_day)
    ):
        state = _asking(_opened(state, day_or_none), day_or_none, windows, room)
    return state


def _step(state: PlannerState, windows: list[Window]) -> tuple[PlannerState, Step]:
    if windows:
        return replace(state, requests_sent=state.requests_sent + len(windows)), Request(tuple(windows))
    if state.in_flight:
        return state, Wait()
    is_over = not state.open_days and state.next_day is None
    if not is_over and state.options.max_requests is None:
        raise AssertionError(
            f"the walk waits for nothing: {sorted(state.open_days)}"
        )  # a defect: better loud than for ever
    return state, Done(StopReason.DONE if is_over else StopReason.LIMIT)


def _alone(state: PlannerState, room: int) -> tuple[PlannerState, Step]:
    """An account's first total, and then, cut by cut, the name that cannot exist: nothing else is in the air."""
    windows: list[Window] = []
    if state.in_flight or room < 1:
        return _step(state, windows)
    if state.has_total:
        day = max(day for day, plan in state.open_days.items() if plan.can_request_members)
        windows.append(Window.whole_day(state.options.account, NONEXISTENT_MEMBERS[_unlearned(state)[0]], day))
        state = replace(state, probe=windows[0])
    elif day_or_none := state.next_day:
        state = _asking(_opened(state, day_or_none), day_or_none, windows, 1)
    return _step(state, windows)


def _unlearned(state: PlannerState) -> list[Dimension]:
    """Cuts with names to ask, of which it is not known yet what a name that cannot exist gives; once there is spend."""
    unprobed_dimensions = state.unprobed_dimensions
    return (
        unprobed_dimensions
        if unprobed_dimensions and any(plan.can_request_members for plan in state.open_days.values())
        else []
    )


def _opened(state: PlannerState, day: date) -> PlannerState:
    state = replace(state, open_days={**state.open_days, day: one_day.new_day_plan(state, day)})
    return (
        replace(state, pending=state.pending[1:])
        if state.pending
        else replace(state, next_older_day=day - timedelta(days=1))
    )


def _asking(state: PlannerState, day: date, windows: list[Window], room: int) -> PlannerState:
    """Adds what the day wants to ask now to ``windows``, as far as there is room; shuts a day that wants nothing
    more."""
    plan = state.open_days[day]
    next_requests = one_day.next_requests(state, plan)
    if next_requests is None:
        return _shut(state, plan)
    chosen = next_requests.windows[: max(0, room - len(windows))]
    if not chosen:
        return state
    windows += chosen
    plan = replace(
        plan,
        in_flight=plan.in_flight | {*chosen},
        sent=plan.sent | {*chosen},
        is_discovering=plan.is_discovering or next_requests.is_discovering,
    )
    return replace(state, open_days={**state.open_days, day: plan})


def _shut(state: PlannerState, plan: DayPlan) -> PlannerState:
    still_open = {day: other for day, other in state.open_days.items() if day != plan.day}
    fruitless = not plan.day_state.is_explained if plan.is_discovering else state.discovery_found_nothing
    completed = (*state.completed_days, plan.day)
    return replace(state, open_days=still_open, completed_days=completed, discovery_found_nothing=fruitless)


# ---------------------------------------------------------------- tell: what an answered window taught


def classify_name(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """What a reading says of its name; to be asked before the day is folded, for only believed names explain.

    ``day_state`` is the day's without this reading.
    """
    if snapshot.window == state.probe:
        return state
    return replace(state, members=known.classify(state.members, snapshot, day_state))


def group_by_day(snapshots: Iterable[Snapshot]) -> list[list[Snapshot]]:
    """Readings that came at one moment, as they can be judged and told on one fold: a day's at once, a total by
    itself."""
    by_day: dict[date, list[list[Snapshot]]] = {}
    for snapshot in snapshots:
        groups = by_day.setdefault(snapshot.window.day, [])
        if not groups or TOTAL in (snapshot.window.series, groups[-1][-1].window.series):
            groups.append([])
        groups[-1].append(snapshot)
    return [group for groups in by_day.values() for group in groups]


def apply_snapshot(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """Takes in one answered window and the fold of its day, with what came ``together``; a day that wants nothing
    more is shut."""
    state = replace(state, completed_days=())
    if snapshot.window == state.probe:
        return _watched_for_trouble(_told_of_unknown_names(replace(state, probe=None), snapshot, day_state), snapshot)
    state = _watched_for_trouble(state, snapshot)
    plan = state.open_days.get(snapshot.window.day)
    if plan is None:
        return state
    plan = one_day.apply_response(state, plan, snapshot, day_state)
    state = replace(_learned(state, snapshot, day_state), open_days={**state.open_days, plan.day: plan})
    return _shut(state, plan) if one_day.next_requests(state, plan) is None else state


def _told_of_unknown_names(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    dimension, unknown_name_behaviour = (
        snapshot.window.series.dimension,
        known.unknown_name_behaviour(snapshot, day_state),
    )
    if unknown_name_behaviour is None:
        return replace(state, failed_probes=state.failed_probes | {dimension})
    return replace(
        state,
        members=replace(
            state.members,
            unknown_name_behaviours={**state.members.unknown_name_behaviours, dimension: unknown_name_behaviour},
        ),
    )


def is_expected_error(state: PlannerState, snapshot: Snapshot) -> bool:
    """Whether a refusal only taught which names the service knows: no window failed."""
    series = snapshot.window.series
    is_learned = (
        series == NONEXISTENT_MEMBERS.get(series.dimension)
        and series.dimension in state.members.unknown_name_behaviours
    )
    return snapshot.outcome is Outcome.API_ERROR and (is_learned or state.members.is_refused(series))


def _watched_for_trouble(state: PlannerState, snapshot: Snapshot) -> PlannerState:
    """Stops the account at a fatal refusal, and at the same trouble on many windows in a row."""
    if snapshot.error_scope is ErrorScope.ACCOUNT:
        return replace(state, stop_reason=StopReason.ACCOUNT_REJECTED, stopped_by=state.stopped_by or snapshot)
    if snapshot.is_success or is_expected_error(state, snapshot):
        return replace(state, same_error_streak=("", 0), failure_streak=0)
    count, failed = (
        state.same_error_streak[1] + 1 if state.same_error_streak[0] == snapshot.code else 1,
        state.failure_streak + 1,
    )
    stopped = state.stop_reason or (
        StopReason.TOO_MANY_FAILURES if count >= MAX_SAME_FAILURES or failed >= MAX_FAILURES else None
    )
    refusal = state.stopped_by or (snapshot if stopped else None)
    return replace(
        state, same_error_streak=(snapshot.code, count), failure_streak=failed, stop_reason=stopped, stopped_by=refusal
    )


def _learned(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """What one day teaches of the others: where spend was seen, and in which queues."""
    if snapshot.window.series != TOTAL:
        return replace(state, members=known.record_activity(state.members, snapshot, day_state))
    day, breaks = snapshot.window.day, day_state.has_spend or not snapshot.is_success
    oldest = min(state.oldest_spend or day, day) if breaks else state.oldest_spend
    return replace(
        state, oldest_spend=oldest, has_total=state.has_total or bool(snapshot.records) or snapshot.is_success
    )


def apply_reconciled_day(state: PlannerState, day_state: DayState) -> PlannerState:
    """A held day was folded again, because a name has come to be believed; it is opened again for hours that are owed
    since."""
    day, plan = day_state.day, state.open_days.get(day_state.day)
    if plan is not None:
        return replace(state, open_days={**state.open_days, day: replace(plan, day_state=day_state)})
    state = replace(state, stored={**state.stored, day: day_state})
    if day in state.pending or not state.options.requests_members_of(day) or not one_day.has_member_gaps(day_state):
        return state
    return replace(state, open_days={**state.open_days, day: one_day.reopen_day_plan(day_state)})


def cancel_in_flight(state: PlannerState) -> PlannerState:
    """A window in the air was given up because the account was stopped: nothing is waited for any more."""
    return replace(
        state,
        open_days={day: replace(plan, in_flight=frozenset()) for day, plan in state.open_days.items()},
        probe=None,
    )
