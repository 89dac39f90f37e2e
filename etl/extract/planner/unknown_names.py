"""Notice that the API now treats names that do not exist in another way than before. Pure.

What it returns for them is remembered from the first run. A name without spend so far that is refused, or that gets the
total, may show that this has changed: then a name that cannot exist is requested once more, before any other.
"""

from dataclasses import replace

from etl.extract.planner import members
from etl.extract.planner.state import PlannerState
from etl.models import DayState, Dimension, ErrorScope, MemberStatus, Snapshot, UnknownNameAnswer


def settle(state: PlannerState, dimensions: frozenset[Dimension]) -> PlannerState:
    """Rely in this run on what is remembered of unknown names of these dimensions only."""
    return replace(state, members=replace(state.members, settled=dimensions))


def notice_change(state: PlannerState, snapshot: Snapshot) -> PlannerState:
    """Notice a name without spend that the API refuses in another way, or to which it returns the total.

    What is remembered of unknown names is uncertain then. If a name with spend is refused too, that is an outage.
    """
    series, known = snapshot.window.series, state.members
    behaviour = known.unknown_name_behaviours.get(series.dimension)
    if behaviour is None or series.dimension in known.settled:
        return state
    if snapshot.error_scope is ErrorScope.WINDOW:
        if series in known.active_periods:
            return replace(state, members=replace(known, settled=known.settled | {series.dimension}))
        is_uncertain = known.may_not_exist(series) and behaviour != members.refusal(snapshot)
    else:
        is_unverified = known.member_statuses.get(series) is MemberStatus.UNVERIFIED
        is_uncertain = snapshot.is_success and is_unverified and not known.needs_verification(series.dimension)
    return replace(state, uncertain=state.uncertain | {series.dimension}) if is_uncertain else state


def apply_probe(state: PlannerState, snapshot: Snapshot, day_state: DayState) -> PlannerState:
    """Learn from the response to a name that cannot exist. If it shows nothing, names without spend stay uncertain."""
    dimension, before = snapshot.window.series.dimension, state.members
    behaviour = members.unknown_name_behaviour(snapshot, day_state)
    if behaviour is None:
        return replace(state, failed_probes=state.failed_probes | {dimension})
    known = replace(before, settled=before.settled | {dimension})
    state = replace(state, members=members.apply_unknown_name_behaviour(known, dimension, behaviour))
    is_first = dimension not in before.unknown_name_behaviours
    return state if is_first else _request_uncertain_names(state, dimension)


def _request_uncertain_names(state: PlannerState, dimension: Dimension) -> PlannerState:
    """Request names again that were refused or unverified before it was sure what the API returns for unknown names."""
    known, open_days = state.members, {}
    answer = known.unknown_name_behaviours[dimension].answer
    for day, plan in state.open_days.items():
        requested = (series for series in plan.done_series if series.dimension is dimension)
        names = {series for series in requested if known.may_not_exist(series)}
        again = names & plan.day_state.failed if answer is UnknownNameAnswer.ERROR else set()
        if answer is not UnknownNameAnswer.TOTALS:
            again |= {one for one in names if known.member_statuses.get(one) is MemberStatus.UNVERIFIED}
        open_days[day] = replace(plan, stale=plan.stale | again)
    return replace(state, open_days=open_days)
