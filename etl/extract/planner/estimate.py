"""Estimate the requests of a run before it starts. Pure."""

from datetime import date, timedelta
from typing import NamedTuple

from etl.extract.planner.day_plan import new_day_plan
from etl.extract.planner.state import EARLIEST_DAY, PlannerState


class RequestEstimate(NamedTuple):
    """Days and requests ahead; ``at_most`` is None while the first day of history is unknown."""

    days: int
    at_least: int
    at_most: int | None


def estimate(state: PlannerState) -> RequestEstimate:
    """Return the minimum, if nothing has changed, and the maximum, if everything must be requested."""
    plans = [new_day_plan(state, day) for day in state.pending[state.pending_opened :]]
    at_least = sum(plan.needs_total + len(plan.stale) for plan in plans)
    members = 0 if state.options.totals_only else sum(map(len, state.members.candidates.values()))
    older = days_before_known_range(state)
    if state.oldest_spend is None and state.options.since is None:
        older = min(older, state.options.empty_days + 1)  # the next day may have spend, and the days before it none
    at_most = at_least + members * len(plans) + len(state.unprobed_dimensions)
    return RequestEstimate(len(plans) + older, at_least + older, None if older else at_most)


def missing_days(state: PlannerState) -> list[date]:
    """Days of the known range without any stored data; coverage shows them until they are loaded."""
    days = (state.first_day + timedelta(days=n) for n in range((state.options.end_day - state.first_day).days + 1))
    return [day for day in days if day not in state.stored]


def days_before_known_range(state: PlannerState) -> int:
    """Days still to be searched before the known range, even if no more spend is found there."""
    if state.next_older_day is None:
        return 0
    last = max(EARLIEST_DAY, state.oldest_wanted_day)
    return max((state.next_older_day - last + timedelta(days=1)).days, 0)
