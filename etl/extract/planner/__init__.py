"""Decide which windows to request next. Pure functions; no I/O, no clock.

    state = start(options, stored)
    state, step = next_windows(state, capacity)       request these windows, wait for a response, or done
    state = classify_name(state, snapshot, before)    what the snapshot says about its name
    state = apply_snapshot(state, snapshot, after)    what the snapshot and its reconciled day change in the plan

``group_by_day`` says which snapshots that arrived together can be applied after one reconcile.

The planner goes backward, newest day first, one UTC day per window:

    scheduler  which day is next, and when is the run done?
    day_plan   which windows does this day need now?
    spot_checks  which final days are read again?
    members    which queues, apps and addresses are candidates, recently active, verified?
    state      the types: SyncOptions, StoredState, DayPlan, PlannerState and the steps
    estimate   how many requests will a run make?

An account's first request is a total. Once a total has spend, a queue that cannot exist is requested before any other
queue; the same goes for apps and addresses. Each of these requests is sent alone.
"""

from etl.extract.planner.estimate import RequestEstimate, days_before_known_range, estimate, missing_days
from etl.extract.planner.members import (
    KNOWN_QUEUES,
    MAX_ACTIVE_GAP_DAYS,
    NONEXISTENT_MEMBERS,
    Members,
    apply_trusted,
    extend_periods,
    has_price,
)
from etl.extract.planner.scheduler import (
    MAX_FAILURES,
    MAX_SAME_FAILURES,
    apply_reconciled_day,
    apply_snapshot,
    cancel_in_flight,
    classify_name,
    group_by_day,
    is_expected_error,
    next_windows,
    start,
)
from etl.extract.planner.spot_checks import (
    SpotChecks,
    around,
    choose_spot_checks,
    drop_check,
    neighbours_to_check,
    open_spot_check,
)
from etl.extract.planner.state import (
    EARLIEST_DAY,
    NO_SPEND_FACTOR,
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
from etl.extract.planner.unknown_names import settle

__all__ = [
    "EARLIEST_DAY", "KNOWN_QUEUES", "MAX_ACTIVE_GAP_DAYS", "MAX_FAILURES", "MAX_SAME_FAILURES", "NONEXISTENT_MEMBERS",
    "NO_SPEND_FACTOR", "DayPlan", "Done", "Members", "PlannerState", "Request", "RequestEstimate", "SpotChecks", "Step",
    "StopReason", "StoredState", "SyncOptions", "Wait", "apply_reconciled_day", "apply_snapshot", "apply_trusted",
    "around", "cancel_in_flight", "choose_spot_checks", "classify_name", "days_before_known_range", "drop_check",
    "estimate", "extend_periods", "group_by_day", "has_price", "is_expected_error", "missing_days",
    "neighbours_to_check", "next_windows", "open_spot_check", "settle", "start",
]  # fmt: skip
