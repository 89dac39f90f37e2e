"""What a run would ask, before its first request. Pure."""

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from etl.extract.walk import day as one_day
from etl.extract.walk.state import State


class Expected(NamedTuple):
    """Days and requests ahead; ``at_most`` is None while the start of history is unknown."""

    days: int
    at_least: int
    at_most: int | None


def forecast(state: State) -> Expected:
    """At least, when nothing has changed; at most, when everything must be asked."""
    least = most = 0
    names = 0 if state.wishes.totals_only else sum(map(len, state.names.worth.values()))
    for day in state.todo:
        plan = one_day.opened(state, day)
        asked = plan.needs_total + len(plan.due)
        least += asked
        most += asked + names
    further = _days_further(state)
    return Expected(len(state.todo) + further, least + further, None if further else most + len(state.unlearned))


def _days_further(state: State) -> int:
    """Days that will be read beyond the known range even if no more spend is found there."""
    count, state = 0, replace(state, todo=())
    while day := state.next_day:
        state = replace(state, further=day - timedelta(days=1))
        count += 1
    return count
