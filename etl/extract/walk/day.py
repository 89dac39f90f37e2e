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
   first, on closed days alone and one day at a time, newest first. Older days wait for its findings while their totals are
   read. A hunt that found nothing has nothing to share, so the next one asks all its names at once.
"""

from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

from etl.extract.walk import names as known
from etl.extract.walk.names import Names
from etl.extract.walk.state import Plan, State, Wishes
from etl.records import CUTS, TOTAL, ZERO, Cut, Filter, Reading, Value, Verdict, Window


class Wanted(NamedTuple):
    """The windows a day wants now; with none of them it waits."""

    windows: tuple[Window, ...] = ()
    hunting: bool = False


# ---------------------------------------------------------------- opening a day


def opened(state: State, day: date) -> Plan:
    """The plan of a day that is visited, from what is held of it."""
    wishes, names, verdict = state.wishes, state.names, state.held.get(day, Verdict(day))
    asked_at = verdict.total_asked
    is_early = asked_at is None or asked_at < wishes.final_at(day)
    weighs_names = any(names.doubts(cut) and names.worth[cut] and not verdict.split(cut).explained for cut in CUTS)
    is_doubtful = TOTAL in verdict.failed or bool(verdict.contradicted) or weighs_names  # names are weighed by a fresh total
    plan = Plan(day, verdict, needs_total=is_early or wishes.is_recent(day) or is_doubtful)
    if plan.needs_total:
        return plan
    due = _read_before_final(wishes, verdict) | _failed(names, verdict)
    return replace(plan, due=due, settled=_answered(verdict) - due)


def reopened(verdict: Verdict) -> Plan:
    """The plan of a day that was finished with, and owes hours since."""
    return Plan(verdict.day, verdict, needs_total=False, settled=_answered(verdict))


def unasked(names: Names, verdict: Verdict, cut: Cut) -> frozenset[Filter]:
    """Names worth asking of a cut that a day's total leaves unexplained, and that were not asked of that day."""
    return frozenset() if verdict.split(cut).explained else frozenset(names.worth[cut] - verdict.asked.keys())


# ---------------------------------------------------------------- what it wants


def wanted(state: State, plan: Plan) -> Wanted | None:
    """What a day wants to ask now; None: it wants nothing more."""
    if plan.needs_total:
        return Wanted() if plan.flying else Wanted((_window(state, plan, TOTAL),))
    if tails := _tails(state, plan, Cut.TOTAL):
        return Wanted(tails)
    if (plan.is_split or plan.due) and not state.wishes.totals_only:
        parts = [part for cut in CUTS if (part := _wanted_of_cut(state, plan, cut))]
        if parts:
            return Wanted(tuple(window for part in parts for window in part.windows), any(part.hunting for part in parts))
    return Wanted() if plan.flying else None


def _wanted_of_cut(state: State, plan: Plan, cut: Cut) -> Wanted | None:
    names, split = state.names, plan.verdict.split(cut)
    in_the_air = {window.filter for window in plan.flying if window.filter.cut is cut}
    if cut in state.probes_failed:
        return None
    if due := sorted(filter for filter in plan.due if filter.cut is cut and filter not in in_the_air):
        return _ask(state, plan, due)
    if split.explained:
        return None
    tails = _tails(state, plan, cut)
    if split.contradicted and cut in plan.asked_again:
        return Wanted(tails) if tails else None
    others = names.worth[cut] - plan.settled - in_the_air
    if _must_wait(state, plan, cut, others):
        return Wanted()
    if likely := known.likely(names, others, plan.day):
        return _ask(state, plan, likely)
    if in_the_air & plan.due or known.likely(names, in_the_air, plan.day):
        return Wanted()
    if tails:
        return Wanted(tails)
    if cut is Cut.QUEUE:
        return _wanted_of_hunted(state, plan, others, is_hunting=bool(in_the_air))
    return _wanted_of_listed(state, plan, others)


def _must_wait(state: State, plan: Plan, cut: Cut, others: Set[Filter]) -> bool:
    """For what a name that cannot exist gives; and of the running day, for what the day before finds."""
    if others and cut not in state.names.lessons:
        return True
    return cut is Cut.QUEUE and not plan.verdict.closed and is_to_come(state, plan.day - timedelta(days=1))


def _wanted_of_hunted(state: State, plan: Plan, others: Set[Filter], *, is_hunting: bool) -> Wanted | None:
    """Queues that nothing speaks for are asked on closed days alone, by one day at a time."""
    if not others or not plan.verdict.closed:
        return None
    if is_hunting and not state.hunt_was_fruitless:
        return Wanted()
    if any(day > plan.day and newer.may_hunt for day, newer in state.open.items()):
        return Wanted()
    hunted = known.by_likelihood(state.names, others, plan.day, plan.verdict.split(Cut.QUEUE).rests.values())
    return _ask(state, plan, hunted if state.hunt_was_fruitless else hunted[:1], hunting=True)


def _wanted_of_listed(state: State, plan: Plan, others: Set[Filter]) -> Wanted | None:
    """Apps and addresses that nothing speaks for are asked all at once, but one that never answered on one day first."""
    strange = others - state.names.beliefs.keys()
    asked_elsewhere = {window.filter for other in state.open.values() for window in other.flying if window.filter in strange}
    return _ask(state, plan, sorted(others - asked_elsewhere)) if others else None


def is_to_come(state: State, day: date) -> bool:
    """Whether the walk is about to visit a day, or has not finished with it."""
    return day in state.open or day in state.todo[:1] or (not state.todo and day == state.next_day)


def _ask(state: State, plan: Plan, filters: Sequence[Filter], hunting: bool = False) -> Wanted:
    return Wanted(tuple(_window(state, plan, filter) for filter in filters), hunting)


def _window(state: State, plan: Plan, filter: Filter) -> Window:
    return Window.whole_day(state.wishes.account, filter, plan.day)


def owes_members(verdict: Verdict) -> bool:
    """Whether hours of a closed day are owed of a queue, an app or an address."""
    return verdict.closed and any(filter != TOTAL and filter not in verdict.failed for filter, _ in verdict.owed)


def _tails(state: State, plan: Plan, cut: Cut) -> tuple[Window, ...]:
    """Owed hours of a closed day, each asked once with ``date`` = that hour."""
    verdict = plan.verdict
    if not verdict.closed:
        return ()
    owed = [(filter, start) for filter, start in verdict.owed if filter.cut is cut and filter not in verdict.failed]
    tails = [replace(_window(state, plan, filter), start=start) for filter, start in owed]
    return tuple(tail for tail in tails if tail not in plan.sent)


# ---------------------------------------------------------------- what an answer teaches it


def told(state: State, plan: Plan, reading: Reading, verdict: Verdict) -> Plan:
    """The plan after one of its windows was answered; ``verdict`` is the day's with the answer."""
    before, plan = plan.verdict, replace(plan, flying=plan.flying - {reading.window}, verdict=verdict)
    if reading.window.filter == TOTAL:
        plan = _told_total(state, replace(plan, needs_total=False), reading, before)
    else:
        asked = {reading.window.filter}
        plan = replace(plan, due=plan.due - asked, settled=plan.settled | asked)
    return _doubting_excess(_doubting_emptiness(plan, reading, before))


def _told_total(state: State, plan: Plan, reading: Reading, before: Verdict) -> Plan:
    """A total came. Of a day read before it says which names have to be asked again beside it."""
    verdict = plan.verdict
    has_changed = _spend_by_hour(verdict) != _spend_by_hour(before)
    if before.total_asked is None:
        return plan
    if plan.asked_again or reading.window.is_tail:
        return replace(plan, due=plan.due | verdict.active) if has_changed else plan
    if not reading.is_good:
        return replace(plan, settled=_answered(verdict))
    failed, early = _failed(state.names, verdict), _read_before_final(state.wishes, verdict)
    if has_changed:
        return replace(plan, due=verdict.active | failed)
    # An unexplained day asks its queues again, and when it becomes final every name; a rest of apps and addresses is no news.
    queues = frozenset() if verdict.explained else frozenset(filter for filter in verdict.active if filter.cut is Cut.QUEUE)
    due = early | failed | queues
    settled = _answered(verdict) - due
    if not verdict.explained and any(filter.cut is Cut.QUEUE for filter in early):
        settled = frozenset(filter for filter in settled if filter.cut is not Cut.QUEUE)
    return replace(plan, due=due, settled=settled)


def _doubting_emptiness(plan: Plan, reading: Reading, before: Verdict) -> Plan:
    """An answer without a record where spend is held is asked for once more before it is believed."""
    window, filter = reading.window, reading.window.filter
    held_spend = before.has_spend if filter == TOTAL else filter in before.active
    if not reading.is_good or reading.records or not held_spend or window in plan.doubted:
        return plan
    plan = replace(plan, doubted=plan.doubted | {window}, sent=plan.sent - {window})
    if window.is_tail:
        return plan
    if filter == TOTAL:
        return replace(plan, needs_total=True)
    return replace(plan, due=plan.due | {filter}, settled=plan.settled - {filter})


def _doubting_excess(plan: Plan) -> Plan:
    """Where members exceed the total, it and they are asked once more in the same run."""
    cuts = plan.verdict.contradicted - plan.asked_again
    if not cuts or plan.flying or plan.due:
        return plan
    again = frozenset(filter for filter in plan.verdict.active if filter.cut in cuts)
    return replace(plan, needs_total=True, due=again, settled=plan.settled - again, asked_again=plan.asked_again | cuts)


def _spend_by_hour(verdict: Verdict) -> dict[datetime, Value]:
    """The total's hours with spend: an idle hour more is no news."""
    return {hour: value for hour, value in verdict.hours.items() if value != ZERO}


def _read_before_final(wishes: Wishes, verdict: Verdict) -> frozenset[Filter]:
    """Names whose reading is too early for the day to be final, once its total is not."""
    deadline = wishes.final_at(verdict.day)
    if verdict.total_asked is None or verdict.total_asked < deadline:
        return frozenset()
    return frozenset(filter for filter in verdict.active if filter not in verdict.asked or verdict.asked[filter] < deadline)


def _failed(names: Names, verdict: Verdict) -> frozenset[Filter]:
    """Names whose last attempt failed while the day needs them."""
    return frozenset(
        filter
        for filter in verdict.failed - {TOTAL}
        if names.is_asked(filter) and (TOTAL in verdict.failed or not verdict.split(filter.cut).explained)
    )


def _answered(verdict: Verdict) -> frozenset[Filter]:
    return frozenset(filter for filter in verdict.asked if filter not in verdict.failed)
