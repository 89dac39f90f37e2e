"""What a run would ask, before its first request. Pure."""

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from etl.extract.planner import day_plan as one_day
from etl.extract.planner.state import PlannerState


class RequestEstimate(NamedTuple):
    """Days and requests ahead; ``at_most`` is None while the start of history is unknown."""

    days: int
    at_least: int
    at_most: int | None


def estimate(state: PlannerState) -> RequestEstimate:
    """At least, when nothing has changed; at most, when everything must be asked."""
    least = most = 0
    names = 0 if state.options.totals_only else sum(map(len, state.members.candidates.values()))
    for day in state.pending:
        plan = one_day.new_day_plan(state, day)
        asked = plan.needs_total + len(plan.stale)
        least += asked
        most += asked + names
    next_older_day = _days_further(state)
    return RequestEstimate(
        len(state.pending) + next_older_day,
        least + next_older_day,
        None if next_older_day else most + len(state.unprobed_dimensions),
    )


def _days_further(state: PlannerState) -> int:
    """Days that will be read beyond the known range even if no more spend is found there."""
    count, state = 0, replace(state, pending=())
    while day := state.next_day:
        state = replace(state, next_older_day=day - timedelta(days=1))
        count += 1
    return count
