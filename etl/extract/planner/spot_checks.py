"""Choose final days that a sync reads again, to see whether the API still returns what is stored. Pure.

The first half of the draws gives every final day the same chance: only they support a statement about all final days.
The second half prefers younger days, which are more likely to be corrected.
"""

import random
from collections.abc import Iterable, Set
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple

from etl.extract.planner.day_plan import new_day_plan
from etl.extract.planner.state import PlannerState
from etl.models import DAY, DayState, Window


class SpotChecks(NamedTuple):
    """The chosen days; ``random`` ones were drawn with equal chances from all final days."""

    random: frozenset[date] = frozenset()
    younger: frozenset[date] = frozenset()

    @property
    def days(self) -> frozenset[date]:
        return self.random | self.younger


def choose_spot_checks(final: Set[date], today: date, count: int, seed: str) -> SpotChecks:
    """Draw up to ``count`` days; the same ``seed`` draws the same. The weight of younger days is 1 / age in days."""
    draw, days = random.Random(seed), sorted(final)  # noqa: S311 - a sample, not a secret
    uniform = frozenset(draw.sample(days, min(len(days), (count + 1) // 2)))
    left = [day for day in days if day not in uniform]
    younger = set[date]()
    while left and len(younger) < count - len(uniform):
        [day] = draw.choices(left, [1 / (today - day).days for day in left])
        left.remove(day)
        younger.add(day)
    return SpotChecks(uniform, frozenset(younger))


def neighbours_to_check(state: PlannerState, before: DayState, after: DayState) -> list[date]:
    """Final days next to a day before the lookback whose stored total has just changed, unless this run reads them."""
    is_changed = before.total_requested_at is not None and before.total_by_hour.spent != after.total_by_hour.spent
    if not is_changed or state.options.is_in_lookback(after.day):
        return []
    return [day for day in (after.day - DAY, after.day + DAY) if day in state.final and _is_unread(state, day)]


def _is_unread(state: PlannerState, day: date) -> bool:
    is_planned = day in state.open_days or day in state.spot_checks or state.is_pending(day)
    is_wanted = (state.options.since or date.min) <= day <= state.options.end_day
    return is_wanted and not is_planned and not state.options.is_in_lookback(day)


def open_spot_check(state: PlannerState, day_state: DayState) -> PlannerState:
    """Read a stored day's total in this run; its members only if the total has changed."""
    day = day_state.day
    state = replace(state, stored={**state.stored, day: day_state}, spot_checks=state.spot_checks | {day})
    plans = {**state.open_days, day: new_day_plan(state, day)}
    return replace(state, open_days=dict(sorted(plans.items(), reverse=True)), due={**state.due, day: None})


def drop_check(state: PlannerState, window: Window) -> PlannerState:
    """Forget a day that was to be checked, after the response to its only window."""
    open_days, due = dict(state.open_days), dict(state.due)
    open_days.pop(window.day, None)
    due.pop(window.day, None)
    completed = (window.day,)
    return replace(state, open_days=open_days, due=dict.fromkeys(open_days) | due, completed_days=completed)


def around(days: Iterable[date]) -> set[date]:
    """Some days, and the days before and after them."""
    return {day + timedelta(days=n) for day in days for n in (-1, 0, 1)}
