"""The course through the days: which is next, what is asked now, when the walk is over. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

from etl.extract.walk import day as one_day
from etl.extract.walk import names as known
from etl.extract.walk.names import NO_SUCH, Names
from etl.extract.walk.state import Ask, Done, Held, Plan, State, Step, Wait, Why, Wishes
from etl.records import CUTS, TOTAL, Cut, Effect, Outcome, Reading, Verdict, Window, queue

ALIKE = 5
"""So many windows in a row that fail with the same code stop the account."""

FAILED = 5 * ALIKE
"""So many windows in a row that fail with whatever code stop it too."""


def begin(wishes: Wishes, held: Held) -> State:
    """The state before the first request, from what is held."""
    spent = [day for day, verdict in held.days.items() if verdict.has_spend or TOTAL in verdict.failed]
    bottom = wishes.since or _first_known(wishes, held, min(spent, default=None))
    newest_first = (wishes.newest - timedelta(days=n) for n in range((wishes.newest - bottom).days + 1))
    names = _names(wishes, held)
    return State(
        wishes=wishes,
        names=names,
        first=bottom,
        unfilled=sum(_owes_names(wishes, names, held.days[day]) for day in held.frozen),
        todo=tuple(day for day in newest_first if _needs_visit(wishes, held, names, day)),
        held=held.days,
        further=None if wishes.since else bottom - timedelta(days=1),
        oldest_spend=min(spent, default=None),
        knows_a_total=any(verdict.total_asked for verdict in held.days.values()),
    )


def _first_known(wishes: Wishes, held: Held, oldest_spend: date | None) -> date:
    """The first day of the known range: an idle day that was once asked for far before the history is not part of it."""
    first = min([*held.days, wishes.newest])
    return first if oldest_spend is None else min(max(first, oldest_spend - timedelta(days=wishes.empty_days)), wishes.newest)


def _names(wishes: Wishes, held: Held) -> Names:
    order = (*wishes.named, *map(queue, wishes.catalogue))
    beliefs = known.with_trust(held.beliefs, wishes.trusted)
    return known.with_worth(Names(order, {}, beliefs, held.lessons, held.spells, held.spent, wishes.by_hand))


def _needs_visit(wishes: Wishes, held: Held, names: Names, day: date) -> bool:
    verdict = held.days.get(day)
    if day in held.frozen:
        return False
    if verdict is None or day not in held.final or wishes.is_recent(day) or verdict.contradicted:
        return True
    return _owes_names(wishes, names, verdict)


def _owes_names(wishes: Wishes, names: Names, verdict: Verdict) -> bool:
    """Whether a name that is worth asking was not asked of a day that is not explained."""
    return not wishes.totals_only and verdict.has_spend and any(one_day.unasked(names, verdict, cut) for cut in CUTS)


# ---------------------------------------------------------------- next: what to ask


def next(state: State, room: int) -> tuple[State, Step]:
    """What to ask now, at most ``room`` windows; or wait for an answer; or the walk is over."""
    state = replace(state, shut=())
    if state.stopped:
        return state, Wait() if state.flying else Done(state.stopped)
    if state.wishes.max_requests is not None:
        room = min(room, state.wishes.max_requests - state.asked - state.retries)
    if not state.knows_a_total or state.probe or _unlearned(state):
        return _alone(state, room)
    windows: list[Window] = []
    shut = -1
    while not windows and len(state.shut) > shut:  # a day that was shut may be what another waited for
        shut = len(state.shut)
        state = _asked_of_days(state, windows, room)
    return _alone(state, room) if not windows and _unlearned(state) else _step(state, windows)


def _asked_of_days(state: State, windows: list[Window], room: int) -> State:
    """Adds what days want to ask now: those in progress, newest first, then the next ones."""
    for day in sorted(state.open, reverse=True):
        if len(windows) < room or room < 1:  # with no room at all, days that want nothing more are shut
            state = _asking(state, day, windows, room)
    while len(windows) < room and len(state.open) < state.wishes.days_at_once and (day_or_none := state.next_day):
        state = _asking(_opened(state, day_or_none), day_or_none, windows, room)
    return state


def _step(state: State, windows: list[Window]) -> tuple[State, Step]:
    if windows:
        return replace(state, asked=state.asked + len(windows)), Ask(tuple(windows))
    if state.flying:
        return state, Wait()
    is_over = not state.open and state.next_day is None
    if not is_over and state.wishes.max_requests is None:
        raise AssertionError(f"the walk waits for nothing: {sorted(state.open)}")  # a defect: better loud than for ever
    return state, Done(Why.DONE if is_over else Why.LIMIT)


def _alone(state: State, room: int) -> tuple[State, Step]:
    """An account's first total, and then, cut by cut, the name that cannot exist: nothing else is in the air."""
    windows: list[Window] = []
    if state.flying or room < 1:
        return _step(state, windows)
    if state.knows_a_total:
        day = max(day for day, plan in state.open.items() if plan.is_split)
        windows.append(Window.whole_day(state.wishes.account, NO_SUCH[_unlearned(state)[0]], day))
        state = replace(state, probe=windows[0])
    elif day_or_none := state.next_day:
        state = _asking(_opened(state, day_or_none), day_or_none, windows, 1)
    return _step(state, windows)


def _unlearned(state: State) -> list[Cut]:
    """Cuts with names to ask, of which it is not known yet what a name that cannot exist gives; once there is spend."""
    unlearned = state.unlearned
    return unlearned if unlearned and any(plan.is_split for plan in state.open.values()) else []


def _opened(state: State, day: date) -> State:
    state = replace(state, open={**state.open, day: one_day.opened(state, day)})
    return replace(state, todo=state.todo[1:]) if state.todo else replace(state, further=day - timedelta(days=1))


def _asking(state: State, day: date, windows: list[Window], room: int) -> State:
    """Adds what the day wants to ask now to ``windows``, as far as there is room; shuts a day that wants nothing more."""
    plan = state.open[day]
    wanted = one_day.wanted(state, plan)
    if wanted is None:
        return _shut(state, plan)
    chosen = wanted.windows[: max(0, room - len(windows))]
    if not chosen:
        return state
    windows += chosen
    plan = replace(plan, flying=plan.flying | {*chosen}, sent=plan.sent | {*chosen}, hunting=plan.hunting or wanted.hunting)
    return replace(state, open={**state.open, day: plan})


def _shut(state: State, plan: Plan) -> State:
    still_open = {day: other for day, other in state.open.items() if day != plan.day}
    fruitless = not plan.verdict.explained if plan.hunting else state.hunt_was_fruitless
    shut = (*state.shut, plan.day)
    return replace(state, open=still_open, shut=shut, hunt_was_fruitless=fruitless)


# ---------------------------------------------------------------- tell: what an answered window taught


def judge(state: State, reading: Reading, verdict: Verdict) -> State:
    """What a reading says of its name; to be asked before the day is folded, for only believed names explain.

    ``verdict`` is the day's without this reading.
    """
    if reading.window == state.probe:
        return state
    return replace(state, names=known.judged(state.names, reading, verdict))


def together(readings: Iterable[Reading]) -> list[list[Reading]]:
    """Readings that came at one moment, as they can be judged and told on one fold: a day's at once, a total by itself."""
    by_day: dict[date, list[list[Reading]]] = {}
    for reading in readings:
        groups = by_day.setdefault(reading.window.day, [])
        if not groups or TOTAL in (reading.window.filter, groups[-1][-1].window.filter):
            groups.append([])
        groups[-1].append(reading)
    return [group for groups in by_day.values() for group in groups]


def tell(state: State, reading: Reading, verdict: Verdict) -> State:
    """Takes in one answered window and the fold of its day, with what came ``together``; a day that wants nothing more is shut."""
    state = replace(state, shut=())
    if reading.window == state.probe:
        return _watched_for_trouble(_told_of_unknown_names(replace(state, probe=None), reading, verdict), reading)
    state = _watched_for_trouble(state, reading)
    plan = state.open.get(reading.window.day)
    if plan is None:
        return state
    plan = one_day.told(state, plan, reading, verdict)
    state = replace(_learned(state, reading, verdict), open={**state.open, plan.day: plan})
    return _shut(state, plan) if one_day.wanted(state, plan) is None else state


def _told_of_unknown_names(state: State, reading: Reading, verdict: Verdict) -> State:
    cut, lesson = reading.window.filter.cut, known.lesson(reading, verdict)
    if lesson is None:
        return replace(state, probes_failed=state.probes_failed | {cut})
    return replace(state, names=replace(state.names, lessons={**state.names.lessons, cut: lesson}))


def is_lesson(state: State, reading: Reading) -> bool:
    """Whether a refusal only taught which names the service knows: no window failed."""
    filter = reading.window.filter
    is_learned = filter == NO_SUCH.get(filter.cut) and filter.cut in state.names.lessons
    return reading.outcome is Outcome.REFUSED and (is_learned or state.names.is_closed(filter))


def _watched_for_trouble(state: State, reading: Reading) -> State:
    """Stops the account at a fatal refusal, and at the same trouble on many windows in a row."""
    if reading.effect is Effect.ACCOUNT:
        return replace(state, stopped=Why.REFUSED, refusal=state.refusal or reading)
    if reading.is_good or is_lesson(state, reading):
        return replace(state, alike=("", 0), failed=0)
    count, failed = state.alike[1] + 1 if state.alike[0] == reading.code else 1, state.failed + 1
    stopped = state.stopped or (Why.ALIKE if count >= ALIKE or failed >= FAILED else None)
    refusal = state.refusal or (reading if stopped else None)
    return replace(state, alike=(reading.code, count), failed=failed, stopped=stopped, refusal=refusal)


def _learned(state: State, reading: Reading, verdict: Verdict) -> State:
    """What one day teaches of the others: where spend was seen, and in which queues."""
    if reading.window.filter != TOTAL:
        return replace(state, names=known.learned(state.names, reading, verdict))
    day, breaks = reading.window.day, verdict.has_spend or not reading.is_good
    oldest = min(state.oldest_spend or day, day) if breaks else state.oldest_spend
    return replace(state, oldest_spend=oldest, knows_a_total=state.knows_a_total or bool(reading.records) or reading.is_good)


def see_anew(state: State, verdict: Verdict) -> State:
    """A held day was folded again, because a name has come to be believed; it is opened again for hours that are owed since."""
    day, plan = verdict.day, state.open.get(verdict.day)
    if plan is not None:
        return replace(state, open={**state.open, day: replace(plan, verdict=verdict)})
    state = replace(state, held={**state.held, day: verdict})
    if day in state.todo or not state.wishes.asks_names_of(day) or not one_day.owes_members(verdict):
        return state
    return replace(state, open={**state.open, day: one_day.reopened(verdict)})


def lost(state: State) -> State:
    """A window in the air was given up because the account was stopped: nothing is waited for any more."""
    return replace(state, open={day: replace(plan, flying=frozenset()) for day, plan in state.open.items()}, probe=None)
